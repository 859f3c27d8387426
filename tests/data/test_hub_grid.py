"""The default grid with models and data from a local hub server, then from the cache alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers import served
from helpers.hub_clients import downloaded, environment
from helpers.hub_server import Hub
from helpers.models import ROOT

pytestmark = pytest.mark.slow


def grid(server: Hub, home: Path, folder: Path, **changes: str) -> tuple[str, dict[str, bytes]]:
    """Run a small default grid with Snakemake; return the output, and tables and rows by path."""
    small = dict(
        seeds=[42],
        device="cpu",
        threads=1,
        precision="fp32",
        overrides=dict(epochs=1, max_tokens=24, learning_rate=3e-3),
        tables=dict(table6=dict(weights=["qv"], ranks=[1, 8])),
    )
    folder.mkdir()
    (folder / "small.yaml").write_text(yaml.safe_dump(small))
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "-s",
        ROOT / "Snakefile",
        "--cores",
        "2",
        "--configfile",
        "small.yaml",
    ]
    command += [
        "--directory",
        folder,
        *(f"results/tables/{name}.html" for name in ("table2", "table6")),
    ]
    limits = dict(OMP_NUM_THREADS="1") | changes
    done = subprocess.run(
        command, cwd=folder, env=environment(server, home, **limits), capture_output=True, text=True
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    found = [
        *(folder / "results/tables").glob("table*.csv"),
        *(folder / "results/runs").rglob("metrics.csv"),
    ]
    return done.stdout + done.stderr, {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(found)
    }


def test_the_default_grid_from_the_hub_and_from_its_cache(repositories, tmp_path):
    """The second run uses an empty server, which records any request."""
    with Hub(repositories) as server:
        output, made = grid(server, tmp_path / "home", tmp_path / "online")
    assert output.count("rule fetch:") == 5 and output.count("rule train:") == 5
    assert server.unknown == [] and not [
        path for path in downloaded(server) if path.endswith(".bin")
    ]
    downloads = [
        path for method, path in server.requests if method == "GET" and "/storage/" in path
    ]
    assert (
        len(downloads) == 1 + 3 * 3 + 5
    )  # the weights; three configurations of three splits; MNLI's five
    tables = {name for name in made if name.startswith("results/tables/")}
    assert {"results/tables/table2.csv", "results/tables/table6.csv"} <= tables and len(made) - len(
        tables
    ) == 5
    for name, tasks in (
        ("table2", ("SST-2", "MRPC", "QQP")),
        ("table6", ("MNLI", "r = 1", "r = 8")),
    ):
        page = (tmp_path / f"online/results/tables/{name}.md").read_text()
        assert all(word in page for word in tasks)
    records = [
        json.loads(path.read_text())
        for path in (tmp_path / "online/results/runs").rglob("run.json")
    ]
    assert {record["base"]["source"] for record in records} == {served.MODEL.identity}
    assert {record["status"] for record in records} == {"ok"}
    with Hub() as nothing:
        output, again = grid(nothing, tmp_path / "home", tmp_path / "offline", HF_HUB_OFFLINE="1")
    assert output.count("rule fetch:") == 5 and output.count("rule train:") == 5
    assert again == made and nothing.requests == []
