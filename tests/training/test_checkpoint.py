"""State is whole, checked and one's own, or not used."""

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


def test_what_is_saved_comes_back(saved):
    tensors, meta = checkpoint.load(saved, DIGEST)
    assert torch.equal(tensors["a"], torch.arange(4.0)) and meta == {"epoch": 1}


def test_a_newer_state_replaces_the_older_but_one(saved):
    for epoch in (2, 3):
        checkpoint.save(saved, DIGEST, f"epoch{epoch}", {"a": torch.zeros(2)}, dict(epoch=epoch))
    assert checkpoint.load(saved, DIGEST)[1] == {"epoch": 3}
    kept = sorted(path.name for path in checkpoint.folder_of(saved, DIGEST).glob("*.safetensors"))
    assert kept == ["epoch2.safetensors", "epoch3.safetensors"]


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "json", "no json"])
def test_a_damaged_state_falls_back_on_the_one_before(saved, caplog, damage):
    checkpoint.save(saved, DIGEST, "epoch2", {"a": torch.zeros(2)}, dict(epoch=2))
    folder = checkpoint.folder_of(saved, DIGEST)
    tensors, state = folder / "epoch2.safetensors", folder / "state.json"
    whole = tensors.read_bytes()
    if damage == "gone":
        tensors.unlink()
    elif damage in ("json", "no json"):
        state.write_text(state.read_text()[:-20]) if damage == "json" else state.unlink()
    else:
        tensors.write_bytes(whole[:-5] if damage == "cut" else whole[:-1] + bytes([whole[-1] ^ 4]))
    assert checkpoint.load(saved, DIGEST)[1] == {"epoch": 1}
    checkpoint.save(saved, DIGEST, "epoch2", {"a": torch.zeros(2)}, dict(epoch=2))
    assert checkpoint.load(saved, DIGEST)[1] == {"epoch": 2}


def test_no_state_is_no_state(tmp_path):
    assert checkpoint.load(tmp_path, DIGEST) is None


def test_foreign_state_is_refused(saved, caplog):
    """A folder with our name but another run's digest inside (a copied or renamed folder) is not
    used.
    """
    foreign = DIGEST[:16] + "cd" * 24
    with caplog.at_level(logging.WARNING):
        assert checkpoint.load(saved, foreign) is None
    assert "belongs to another run" in caplog.text


@pytest.mark.parametrize("damage", ["flip", "cut", "json", "empty", "keys"])
def test_damaged_state_is_refused(saved, caplog, damage):
    folder = checkpoint.folder_of(saved, DIGEST)
    tensors, state = folder / "epoch1.safetensors", folder / "state.json"
    if damage == "flip":
        whole = bytearray(tensors.read_bytes())
        whole[-1] ^= 1
        tensors.write_bytes(whole)
    elif damage == "cut":
        tensors.write_bytes(tensors.read_bytes()[:-3])
    elif damage == "keys":
        state.write_text(json.dumps({"digest": DIGEST}))
    else:
        state.write_text(state.read_text()[:40] if damage == "json" else "")
    with caplog.at_level(logging.WARNING):
        assert checkpoint.load(saved, DIGEST) is None
    assert "not used" in caplog.text


def test_a_save_that_fails_leaves_the_state_before(saved, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.safetensors.torch, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(saved, DIGEST, "epoch2", {"a": torch.zeros(2)}, dict(epoch=2))
    assert checkpoint.load(saved, DIGEST)[1] == {"epoch": 1}


def test_the_state_before_outlives_a_damaged_one(saved):
    """It takes the damaged one's place at once: a job that is killed while it saves the next state
    has it still.
    """
    checkpoint.save(saved, DIGEST, "epoch2", {"a": torch.zeros(2)}, dict(epoch=2))
    folder = checkpoint.folder_of(saved, DIGEST)
    (folder / "state.json").write_text("{")
    checkpoint.load(saved, DIGEST)
    os.replace(folder / "state.json", folder / "before.json")  # as far as the next save got
    assert checkpoint.load(saved, DIGEST)[1] == {"epoch": 1}


def test_state_that_cannot_be_read_stops_the_job(saved, monkeypatch):
    """It may be whole: training again from nothing would write over it."""

    def none_left(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(files, "file_sha256", none_left)
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


def test_state_is_held_by_one_job_and_let_go_when_that_is_killed(tmp_path, caplog):
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
