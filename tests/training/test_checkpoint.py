"""Checkpoints: atomic, checked, keyed by digest, and locked while a job trains the run."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from helpers.models import ROOT

from lora import files
from lora.training import checkpoint

DIGEST = "ab" * 32


@pytest.fixture
def saved(tmp_path):
    checkpoint.save(tmp_path, DIGEST, "epoch1", {"a": torch.arange(4.0)}, dict(epoch=1))
    return tmp_path


def test_load_returns_what_was_saved(saved):
    tensors, meta = checkpoint.load(saved, DIGEST)
    assert torch.equal(tensors["a"], torch.arange(4.0)) and meta == {"epoch": 1}


def test_save_keeps_the_last_two_checkpoints(saved):
    for epoch in (2, 3):
        checkpoint.save(saved, DIGEST, f"epoch{epoch}", {"a": torch.zeros(2)}, dict(epoch=epoch))
    assert checkpoint.load(saved, DIGEST)[1] == {"epoch": 3}
    kept = sorted(path.name for path in checkpoint.folder_of(saved, DIGEST).glob("*.safetensors"))
    assert kept == ["epoch2.safetensors", "epoch3.safetensors"]


@pytest.mark.parametrize(
    "damage", ["bit flip", "truncated", "missing", "truncated json", "missing json"]
)
def test_damaged_checkpoint_falls_back_to_the_previous_one(saved, caplog, damage):
    checkpoint.save(saved, DIGEST, "epoch2", {"a": torch.zeros(2)}, dict(epoch=2))
    folder = checkpoint.folder_of(saved, DIGEST)
    tensors, state = folder / "epoch2.safetensors", folder / "state.json"
    content = tensors.read_bytes()
    if damage == "bit flip":
        tensors.write_bytes(content[:-1] + bytes([content[-1] ^ 4]))
    elif damage == "truncated":
        tensors.write_bytes(content[:-5])
    elif damage == "missing":
        tensors.unlink()
    elif damage == "truncated json":
        state.write_text(state.read_text()[:-20])
    else:
        state.unlink()
    assert checkpoint.load(saved, DIGEST)[1] == {"epoch": 1}
    checkpoint.save(saved, DIGEST, "epoch2", {"a": torch.zeros(2)}, dict(epoch=2))
    assert checkpoint.load(saved, DIGEST)[1] == {"epoch": 2}


def test_load_without_a_checkpoint_returns_none(tmp_path):
    assert checkpoint.load(tmp_path, DIGEST) is None


def test_checkpoint_of_another_run_is_not_used(saved, caplog):
    """Its folder has the right name, but another digest inside, as after a copy or a rename."""
    other_digest = DIGEST[:16] + "cd" * 24
    with caplog.at_level(logging.WARNING):
        assert checkpoint.load(saved, other_digest) is None
    assert "belongs to another run" in caplog.text


@pytest.mark.parametrize(
    "damage", ["bit flip", "truncated", "truncated json", "empty json", "missing keys"]
)
def test_damaged_checkpoint_without_a_previous_one_is_not_used(saved, caplog, damage):
    folder = checkpoint.folder_of(saved, DIGEST)
    tensors, state = folder / "epoch1.safetensors", folder / "state.json"
    content = tensors.read_bytes()
    if damage == "bit flip":
        tensors.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "truncated":
        tensors.write_bytes(content[:-3])
    elif damage == "truncated json":
        state.write_text(state.read_text()[:40])
    elif damage == "empty json":
        state.write_text("")
    else:
        state.write_text(json.dumps({"digest": DIGEST}))
    with caplog.at_level(logging.WARNING):
        assert checkpoint.load(saved, DIGEST) is None
    assert "not used" in caplog.text


def test_failed_save_keeps_the_previous_checkpoint(saved, monkeypatch):
    def save_file(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.safetensors.torch, "save_file", save_file)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(saved, DIGEST, "epoch2", {"a": torch.zeros(2)}, dict(epoch=2))
    assert checkpoint.load(saved, DIGEST)[1] == {"epoch": 1}


def test_load_replaces_a_damaged_checkpoint_by_the_previous_one(saved):
    """So a job that is killed during its next save still has the previous one."""
    checkpoint.save(saved, DIGEST, "epoch2", {"a": torch.zeros(2)}, dict(epoch=2))
    folder = checkpoint.folder_of(saved, DIGEST)
    (folder / "state.json").write_text("{")
    checkpoint.load(saved, DIGEST)
    os.replace(folder / "state.json", folder / "before.json")  # the first half of a save
    assert checkpoint.load(saved, DIGEST)[1] == {"epoch": 1}


def test_checkpoint_that_cannot_be_read_stops_the_job(saved, monkeypatch):
    """It may be undamaged, and a training from the start would overwrite it."""

    def file_sha256(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(files, "file_sha256", file_sha256)
    with pytest.raises(OSError, match="Too many open files"):
        checkpoint.load(saved, DIGEST)


HOLD = """
import sys, time
from pathlib import Path
from lora.training import checkpoint
with checkpoint.held(Path(sys.argv[1]), [sys.argv[2]]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_checkpoint_is_locked_by_one_job_until_it_is_killed(tmp_path, caplog):
    """The next job also removes the temporary files of the killed one."""
    folder = checkpoint.folder_of(tmp_path, DIGEST)
    command = [sys.executable, "-c", HOLD, str(tmp_path), DIGEST]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as job:
        assert job.stdout.readline() == "held\n"
        (folder / ".epoch1.safetensors.1.tmp").touch()
        threading.Timer(0.5, job.kill).start()
        began = time.monotonic()
        with checkpoint.held(tmp_path, [DIGEST, "cd" * 32, DIGEST]):
            assert time.monotonic() - began > 0.3 and job.wait(10) == -signal.SIGKILL
            assert "another job trains the run with checkpoints in" in caplog.text
            assert not list(folder.glob(".*"))
