"""Snakemake runs of the workflow, and a small grid over local files."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from helpers.models import ROOT, make_glue, make_model, make_tokenizer


def snakemake(
    *arguments, cwd=ROOT, env=None, check=True, cores=("--cores", "2"), snakefile=ROOT / "Snakefile"
):
    """Run Snakemake; return its output, or (exit code, output) with check=False."""
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "-s",
        str(snakefile),
        *cores,
        *map(str, arguments),
    ]
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, env={**os.environ, **(env or {})}
    )
    output = done.stdout + done.stderr
    assert not check or done.returncode == 0, output[-4000:]
    return output if check else (done.returncode, output)


def copy_checkout(target: Path) -> Path:
    """Copy what the workflow needs to a new checkout; return its folder."""
    for name in ("Snakefile", "workflow", "config", "lora", "envs"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        target.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, target / name)
    return target


def trained(output: str) -> int:
    """Return the number of training jobs in Snakemake's output."""
    return output.count("rule train:")


def small_config(folder: Path) -> dict:
    """Return a config over local folders: a tiny model and two tasks, made in `folder`.

    The tasks have GLUE's official TSV layout.
    """
    make_tokenizer(make_model("bert", folder / "tiny"))
    make_glue(folder / "glue")
    return dict(
        protocol="course",
        seeds=[0, 1],
        device="cpu",
        threads=1,
        overrides=dict(max_tokens=20, epochs=2, learning_rate=3e-3, alpha="2r"),
        sources={
            "tiny": dict(role="model", kind="file", locator=str(folder / "tiny")),
            "glue-sst2": dict(kind="file", locator=str(folder / "glue")),
            "glue-stsb": dict(kind="file", locator=str(folder / "glue")),
        },
        tables=dict(
            table2=dict(
                models=["tiny"], tasks=["sst2", "stsb"], method="lora", weights=["qv"], ranks=[2]
            ),
            table6=dict(
                models=["tiny"], tasks=["sst2"], method="lora", weights=["qv"], ranks=[1, 2]
            ),
        ),
    )


def write_config(folder: Path, config: dict, **changes) -> Path:
    """Write config.yaml with `changes` into a folder."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config | changes))
    return path


def run_files(folder: Path) -> dict[str, bytes]:
    """Return the content of every metrics.csv by its path."""
    found = sorted((folder / "results/runs").rglob("metrics.csv"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}
