"""Locks of GPUs: real processes and real locks over devices that exist only by name."""

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
os.close(os.open(marker, os.O_CREAT | os.O_EXCL))  # fails if two jobs hold one device
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
    """Return a function that puts an nvidia-smi with the given output first on PATH.

    It returns the folder for the locks.
    """
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{public}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def lists(text: str) -> Path:
        script = public / "nvidia-smi"
        script.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\n")
        script.chmod(0o755)
        return public / "locks"

    return lists


@pytest.fixture
def job():
    """Return a function that starts a process which locks a device; all are killed at the end."""
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
    """Wait until the process holds a device, and return it."""
    line = next(line for line in process.stdout if line.startswith("holds"))
    return line.split()[1]


def claimed(folder: Path, wanted: str = "auto", **environ) -> str | None:
    """Lock a device in this process and environment, release it, and return it."""
    for descriptor in gpu_lock.lock_free_gpu(wanted, environ, folder):
        os.close(descriptor)
    return environ.get("CUDA_VISIBLE_DEVICES")


def test_five_jobs_never_share_one_of_two_devices(machine, job, tmp_path):
    folder = machine(PAIR)
    (tmp_path / "markers").mkdir()
    jobs = [job(WORK, folder, tmp_path / "markers") for _ in range(5)]
    outputs = [one.communicate()[0] for one in jobs]
    assert [one.returncode for one in jobs] == [0] * 5, outputs
    assert {line for text in outputs for line in text.splitlines() if line.startswith("holds")} <= {
        "holds GPU-aaaa0000-1111",
        "holds GPU-bbbb0000-2222",
    }


def test_parallel_jobs_get_different_devices_and_sigkill_frees_one(machine, job):
    """The third job logs the holders, waits, and takes the device of the killed one."""
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


def test_a_waiting_job_stops_on_sigterm(machine, job):
    folder = machine(ONE)
    device_of(job(HOLD, folder))
    waiting = job(HOLD, folder)
    assert waiting.stdout.readline().startswith("waiting")
    waiting.send_signal(signal.SIGTERM)
    assert waiting.wait() == 1  # Interrupted, which the command line turns into 128 + 15


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")
def test_the_lock_of_another_user_is_respected_both_ways(machine, job):
    """A lock file made with a strict umask; the other user waits for it and can't delete it."""
    folder = machine(ONE)
    for first, second in ((0, 65534), (65534, 65533)):
        holder = job("import os\nos.umask(0o077)\n" + HOLD, folder, user=first)
        assert device_of(holder) == "GPU-aaaa0000-1111"
        waiting = job(HOLD, folder, user=second)
        assert f"by process {holder.pid}" in waiting.stdout.readline()
        removed = subprocess.run(
            ["rm", *map(str, folder.iterdir())], user=second, capture_output=True
        )
        assert removed.returncode != 0 and stat.S_IMODE(folder.stat().st_mode) == 0o1777
        holder.communicate("")
        assert device_of(waiting) == "GPU-aaaa0000-1111"
        waiting.communicate("")
        shutil.rmtree(folder)


def test_the_pool_is_what_the_user_made_visible(machine, job):
    """Two of four devices: the third job waits although others are free.

    A device has one lock, whether it is given by number or by UUID.
    """
    folder = machine(
        PAIR + PAIR.replace("GPU 0", "GPU 2").replace("GPU 1", "GPU 3").replace("GPU-", "GPU-more")
    )
    pool = dict(CUDA_VISIBLE_DEVICES="1,3")
    assert [device_of(job(HOLD, folder, **pool)) for _ in range(2)] == ["1", "3"]
    waiting = job(HOLD, folder, **pool)
    assert "hold all 2 (1 by process" in waiting.stdout.readline()
    assert claimed(folder, CUDA_VISIBLE_DEVICES="GPU-bbbb,GPU-aaaa") == "GPU-aaaa"
    assert claimed(folder) == "GPU-aaaa0000-1111"


def test_mig_instances_are_devices(machine, job):
    folder = machine(MIXED)
    got = [device_of(job(HOLD, folder)) for _ in range(3)]
    assert got == ["MIG-dddd0000-4444", "MIG-eeee0000-5555", "GPU-ffff0000-6666"]
    assert claimed(folder, CUDA_VISIBLE_DEVICES="MIG-GPU-9999/1/0") == "MIG-GPU-9999/1/0"


def test_a_device_from_slurm_is_used_as_it_is(machine, job):
    """One device: no lock. Several: one for each job, independent of other allocations."""
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


def test_cpu_and_hidden_gpus_lock_nothing(machine, caplog):
    folder = machine(PAIR)
    assert claimed(folder, "cpu") is None
    for hidden in ("", "-1", "NoDevFiles"):
        assert claimed(folder, CUDA_VISIBLE_DEVICES=hidden) == hidden
    assert (
        claimed(folder, CUDA_VISIBLE_DEVICES="2") == "2"
        and "names GPU 2, this machine has 2" in caplog.text
    )
    assert not folder.exists()


def test_without_nvidia_smi_the_device_files_are_counted(machine, tmp_path, monkeypatch):
    machine("No devices were found\n")
    monkeypatch.setattr(
        gpu_lock.Path, "glob", lambda *_: map(Path, ("/dev/nvidia0", "/dev/nvidia1"))
    )
    assert gpu_lock.list_gpus() == [["0"], ["1"]]
    monkeypatch.setenv("PATH", "")
    assert gpu_lock.list_gpus() == [["0"], ["1"]]


def test_the_lock_of_a_deleted_file_protects_nothing(machine, job):
    """The next job makes a new lock file, and a third job waits for that one."""
    folder = machine(ONE)
    device_of(job(HOLD, folder))
    (lock,) = folder.iterdir()
    lock.unlink()
    second = job(HOLD, folder)
    device_of(second)
    assert f"by process {second.pid}" in job(HOLD, folder).stdout.readline()


def test_a_folder_that_cannot_hold_locks_is_reported(machine, tmp_path):
    folder = machine(PAIR)
    folder.symlink_to(tmp_path)
    with pytest.raises(
        OSError, match=r"locks cannot hold GPU locks .*Ask its owner to remove it\."
    ):
        claimed(folder)
