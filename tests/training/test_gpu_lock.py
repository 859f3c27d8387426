"""GPUs of one machine shared out: real processes and real locks over devices that are only names."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from helpers.models import ROOT

from lora.training import gpu_lock

PAIR = """GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aaaa0000-1111)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-bbbb0000-2222)
"""
ONE = PAIR.splitlines(keepends=True)[0]
MIXED = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-cccc0000-3333)
  MIG 3g.20gb     Device  0: (UUID: MIG-dddd0000-4444)
  MIG 3g.20gb     Device  1: (UUID: MIG-eeee0000-5555)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-ffff0000-6666)
"""
JOB = """
import os, sys
from pathlib import Path
from lora.training import gpu_lock
import logging
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
gpu_lock.POLL_S = 0.01
folder, user = Path(sys.argv[1]), int(sys.argv[2])
if user:
    os.setuid(user)
gpu_lock.lock_free_gpu("auto", folder=folder)
print("holds", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
"""
HOLD = JOB + "sys.stdin.read()\n"
WORK = (
    JOB
    + """
import time
marker = Path(sys.argv[3]) / os.environ["CUDA_VISIBLE_DEVICES"]
os.close(os.open(marker, os.O_CREAT | os.O_EXCL))  # fails where two hold one device
time.sleep(0.1)
marker.unlink()
"""
)


@pytest.fixture
def public():
    """A folder that every user may write to, as /tmp is."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o1777)
        yield Path(folder)


@pytest.fixture
def machine(public, monkeypatch):
    """Puts an nvidia-smi that lists these devices first on PATH, in a world without the real machine's choices; gives the
    folder for the locks."""
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{public}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def lists(text: str) -> Path:
        told = public / "nvidia-smi"
        told.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\n")
        told.chmod(0o755)
        return public / "locks"

    return lists


@pytest.fixture
def job():
    """Starts processes that claim a device; those still there at the end are killed."""
    started = []

    def start(code: str, folder: Path, *arguments, user: int = 0, **environ) -> subprocess.Popen:
        command = [sys.executable, "-u", "-c", code, str(folder), str(user), *map(str, arguments)]
        started.append(
            subprocess.Popen(
                command,
                env=os.environ | environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def device_of(process: subprocess.Popen) -> str:
    """What it holds, once it does; reads over what it says before."""
    line = next(line for line in process.stdout if line.startswith("holds"))
    return line.split()[1]


def claimed(folder: Path, wanted: str = "auto", **environ) -> str | None:
    """The device that this process would take in that environment, given back at once."""
    for descriptor in gpu_lock.lock_free_gpu(wanted, environ, folder):
        os.close(descriptor)
    return environ.get("CUDA_VISIBLE_DEVICES")


def test_five_jobs_on_two_devices_never_meet(machine, job, tmp_path):
    folder = machine(PAIR)
    (tmp_path / "markers").mkdir()
    jobs = [job(WORK, folder, tmp_path / "markers") for _ in range(5)]
    said = [one.communicate()[0] for one in jobs]
    assert [one.returncode for one in jobs] == [0] * 5, said
    assert {line for text in said for line in text.splitlines() if line.startswith("holds")} <= {
        "holds GPU-aaaa0000-1111",
        "holds GPU-bbbb0000-2222",
    }


def test_parallel_jobs_get_different_devices_and_sigkill_frees_one(machine, job):
    """The third waits, says for whom, and goes on with the device of the one that was killed."""
    folder = machine(PAIR)
    first, second = job(HOLD, folder), job(HOLD, folder)
    held = {device_of(first): first, device_of(second): second}
    assert set(held) == {"GPU-aaaa0000-1111", "GPU-bbbb0000-2222"}
    third = job(HOLD, folder)
    message = third.stdout.readline()
    assert (
        message.startswith("waiting for a GPU: other trainings hold all 2")
        and "--resources gpu=2" in message
    )
    assert all(f"{name} by process {process.pid}" in message for name, process in held.items())
    held["GPU-bbbb0000-2222"].kill()
    assert device_of(third) == "GPU-bbbb0000-2222"


def test_a_job_that_waits_can_be_told_to_stop(machine, job):
    folder = machine(ONE)
    device_of(job(HOLD, folder))
    waits = job(HOLD, folder)
    assert waits.stdout.readline().startswith("waiting")
    waits.send_signal(signal.SIGTERM)
    assert waits.wait() == 1  # Interrupted, which the command line turns into 128 + 15


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")
def test_the_lock_of_another_user_is_honoured_both_ways(machine, job):
    """Made by one with a strict umask, taken by another, who may not delete it."""
    folder = machine(ONE)
    for first, second in ((0, 65534), (65534, 65533)):
        holds = job("import os\nos.umask(0o077)\n" + HOLD, folder, user=first)
        assert device_of(holds) == "GPU-aaaa0000-1111"
        waits = job(HOLD, folder, user=second)
        assert f"by process {holds.pid}" in waits.stdout.readline()
        removed = subprocess.run(
            ["rm", *map(str, folder.iterdir())], user=second, capture_output=True
        )
        assert removed.returncode != 0 and stat.S_IMODE(folder.stat().st_mode) == 0o1777
        holds.communicate("")
        assert device_of(waits) == "GPU-aaaa0000-1111"
        waits.communicate("")
        shutil.rmtree(folder)


def test_the_pool_is_what_the_user_made_visible(machine, job):
    """Two of four by number: the third job waits though others are free. A device is one lock however it is named."""
    folder = machine(
        PAIR + PAIR.replace("GPU 0", "GPU 2").replace("GPU 1", "GPU 3").replace("GPU-", "GPU-more")
    )
    pool = dict(CUDA_VISIBLE_DEVICES="1,3")
    assert [device_of(job(HOLD, folder, **pool)) for _ in range(2)] == ["1", "3"]
    waits = job(HOLD, folder, **pool)
    assert "hold all 2 (1 by process" in waits.stdout.readline()
    assert claimed(folder, CUDA_VISIBLE_DEVICES="GPU-bbbb,GPU-aaaa") == "GPU-aaaa"
    assert claimed(folder) == "GPU-aaaa0000-1111"


def test_mig_instances_are_devices(machine, job):
    folder = machine(MIXED)
    got = [device_of(job(HOLD, folder)) for _ in range(3)]
    assert got == ["MIG-dddd0000-4444", "MIG-eeee0000-5555", "GPU-ffff0000-6666"]
    assert claimed(folder, CUDA_VISIBLE_DEVICES="MIG-GPU-9999/1/0") == "MIG-GPU-9999/1/0"


def test_slurms_choice_is_taken_as_it_is(machine, job):
    """One device: nothing is locked. Several: one for each job inside the allocation, whatever other allocations hold."""
    folder = machine(PAIR)
    assert (
        claimed(folder, SLURM_JOB_ID="7", CUDA_VISIBLE_DEVICES="0") == "0" and not folder.exists()
    )
    several = dict(CUDA_VISIBLE_DEVICES="0,1")
    assert [device_of(job(HOLD, folder, SLURM_JOB_ID="7", **several)) for _ in range(2)] == [
        "0",
        "1",
    ]
    assert device_of(job(HOLD, folder, SLURM_JOB_ID="8", **several)) == "0"


def test_nothing_is_locked_without_need(machine, caplog):
    folder = machine(PAIR)
    assert claimed(folder, "cpu") is None
    for hidden in ("", "-1", "NoDevFiles"):
        assert claimed(folder, CUDA_VISIBLE_DEVICES=hidden) == hidden
    assert (
        claimed(folder, CUDA_VISIBLE_DEVICES="2") == "2"
        and "names GPU 2, this machine has 2" in caplog.text
    )
    assert not folder.exists()


def test_without_nvidia_smi_the_device_files_count(machine, tmp_path, monkeypatch):
    machine("No devices were found\n")
    monkeypatch.setattr(
        gpu_lock.Path, "glob", lambda *_: map(Path, ("/dev/nvidia0", "/dev/nvidia1"))
    )
    assert gpu_lock.listed() == [["0"], ["1"]]
    monkeypatch.setenv("PATH", "")
    assert gpu_lock.listed() == [["0"], ["1"]]


def test_a_lock_file_that_was_deleted_guards_nothing(machine, job):
    """A cleaner of old files took it: the next job makes a new one, and a third sees that."""
    folder = machine(ONE)
    device_of(job(HOLD, folder))
    (lock,) = folder.iterdir()
    lock.unlink()
    second = job(HOLD, folder)
    device_of(second)
    assert f"by process {second.pid}" in job(HOLD, folder).stdout.readline()


def test_a_folder_that_cannot_hold_locks_is_named(machine, tmp_path):
    folder = machine(PAIR)
    folder.symlink_to(tmp_path)
    with pytest.raises(
        OSError, match="locks cannot hold the locks of GPUs .*have its owner remove it"
    ):
        claimed(folder)
