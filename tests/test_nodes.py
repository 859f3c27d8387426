"""The workflow on other machines than one with a GPU: many GPUs, few cores, odd paths, other schedulers, a store."""

import os
import re
from pathlib import Path

import pytest
from conftest import ROOT
from test_workflow import small_config, snakemake, trained, write_config

BARRIER = '''
"""Loaded by every Python that the test starts: a training job that has its device waits until another one has its own."""
import os, sys, time
from pathlib import Path

if "train" in sys.orig_argv:
    from lora import devices

    folder, claim = Path(os.environ["MEETING"]), devices.claim

    def claim_and_wait(wanted):
        held = claim(wanted, folder=folder / "locks")
        (folder / f"job{os.getpid()}").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
        while len(list(folder.glob("job*"))) < 2:
            time.sleep(0.05)
        return held

    devices.claim = claim_and_wait
'''


@pytest.fixture(scope="module")
def one_table(tmp_path_factory):
    """A grid of two jobs that train one run each."""
    folder = tmp_path_factory.mktemp("nodes")
    config = small_config(folder) | dict(seeds=[0])
    return config | dict(tables=dict(table2=None, table6=config["tables"]["table6"]))


def train_log(folder: Path) -> str:
    return next((folder / "results/logs/train").rglob("train.log")).read_text()


def test_two_jobs_at_a_time_take_two_gpus(one_table, tmp_path, monkeypatch):
    """Both hold one at the same moment, or the run would never end; and each has its share of the cores."""
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    fakes, meeting = tmp_path / "fakes", tmp_path / "meeting"
    fakes.mkdir()
    meeting.mkdir()
    (fakes / "sitecustomize.py").write_text(BARRIER)
    listing = "".join(f"GPU {number}: NVIDIA Fake (UUID: GPU-{number * 4})\n" for number in "01")
    (fakes / "nvidia-smi").write_text(f"#!/bin/sh\nprintf '%s' '{listing}'\n")
    (fakes / "nvidia-smi").chmod(0o755)
    paths = dict(PATH=f"{fakes}:{os.environ['PATH']}", PYTHONPATH=f"{fakes}:{ROOT}", MEETING=str(meeting))
    path = write_config(tmp_path, one_table, device="auto", threads=2)
    output = snakemake("--configfile", path, "--directory", tmp_path, "--resources", "gpu=2", "--until", "train", env=paths)
    assert trained(output) == 2
    assert sorted(file.read_text() for file in meeting.glob("job*")) == ["GPU-0000", "GPU-1111"]
    log = train_log(tmp_path)
    assert re.search(r"GPU GPU-(0000|1111), the first free one of GPU-0000, GPU-1111\n", log)
    assert " 1 CPU threads" in log and "threads of the" not in log  # which say nothing of a GPU's numbers


def test_training_has_the_threads_that_snakemake_gives(one_table, tmp_path):
    """Of 3 asked for, the 2 of --cores; and says that numbers differ."""
    path = write_config(tmp_path, one_table, threads=3)
    snakemake("--configfile", path, "--directory", tmp_path, "--until", "train", env=dict(OMP_NUM_THREADS="1"))
    assert re.search(
        r" 2 CPU threads of the 3 asked for.* 8th digit.*\n.*training on CPU.*, 2 CPU threads\n", train_log(tmp_path)
    )
