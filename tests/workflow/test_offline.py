"""Jobs of the workflow without network, and the command line without Snakemake."""

import json
import os
import subprocess
import sys

import pytest
from helpers.models import ROOT
from helpers.workflow import run_files, snakemake, write_config

NO_NETWORK = ["unshare", "--user", "--map-root-user", "--net"]


@pytest.mark.skipif(
    subprocess.run([*NO_NETWORK, "true"], capture_output=True).returncode != 0,
    reason="no network namespaces here",
)
def test_prepare_and_train_jobs_need_no_network(small_grid, tmp_path):
    """Prepare and train without any network interface, even with HF_HUB_OFFLINE=0."""
    folder, config = small_grid
    path = write_config(tmp_path, config, seeds=[0], tables=config["tables"] | dict(table6=None))
    options = ["--configfile", path, "--directory", tmp_path]
    snakemake(*options, "--until", "fetch")
    command = [
        *NO_NETWORK,
        sys.executable,
        "-m",
        "snakemake",
        "-s",
        ROOT / "Snakefile",
        "--cores",
        "2",
        *options,
    ]
    done = subprocess.run(
        [*command, "--until", "train"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | dict(HF_HUB_OFFLINE="0"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(run_files(tmp_path)) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "verb",
    ["prepare --task sst2 --max-tokens 9 --data-dir x --model-dir x", "train --cells [] --seeds 0"],
)
def test_prepare_and_train_set_the_hub_offline(tmp_path, verb):
    """huggingface_hub, transformers and datasets are offline, even with HF_HUB_OFFLINE=0."""
    code = (
        "import sys; from lora.__main__ import main; main(sys.argv[1:])\n"
        "import datasets.config, huggingface_hub.constants, transformers.utils.hub\n"
        "assert datasets.config.HF_HUB_OFFLINE and huggingface_hub.constants.HF_HUB_OFFLINE\n"
        "assert transformers.utils.hub.is_offline_mode()"
    )
    command = [
        sys.executable,
        "-c",
        code,
        *verb.split(),
        "--model-dir",
        "x",
        "--output-dir",
        tmp_path / "out",
    ]
    subprocess.run(
        command,
        check=True,
        cwd=ROOT,
        env=os.environ | dict(HF_HUB_OFFLINE="0"),
        capture_output=True,
    )


def test_train_works_without_snakemake(small_grid, tmp_path):
    """Train one run with the command line, from local folders."""
    folder, _ = small_grid
    command = [
        sys.executable,
        "-m",
        "lora",
        "train",
        "--task",
        "sst2",
        "--rank",
        "8",
        "--alpha",
        "16",
        "--weights",
        "qv",
    ]
    command += [
        "--seed",
        "0",
        "--max-tokens",
        "16",
        "--epochs",
        "1",
        "--output-dir",
        tmp_path / "out",
    ]
    command += [
        "--model-dir",
        folder / "tiny",
        "--data-dir",
        folder / "glue",
        "--cache-dir",
        tmp_path / "cache",
    ]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        ".state",
        "metrics.csv",
        "run.json",
        "adapter",
    }
    settings = json.loads((tmp_path / "out/run.json").read_text())["settings"]
    assert settings["hparams"]["alpha"] == 16 and settings["rank"] == 8


def test_an_unknown_task_is_one_message(tmp_path):
    command = [
        sys.executable,
        "-m",
        "lora",
        "train",
        "--task",
        "sst-9",
        "--rank",
        "8",
        "--weights",
        "qv",
        "--seed",
        "0",
        "--output-dir",
        tmp_path,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "task: got 'sst-9'; allowed: cola, mnli" in done.stderr
    assert "Traceback" not in done.stderr
