"""Locks of GPUs: real processes and real locks for GPUs that a fake nvidia-smi lists."""

import itertools
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

TWO_GPUS = """GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aaaa0000-1111)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-bbbb0000-2222)
"""
ONE_GPU = TWO_GPUS.splitlines(keepends=True)[0]
MIG_AND_GPU = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-cccc0000-3333)
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
def public_dir():
    """A folder that every user may write to, as /tmp is."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o1777)
        yield Path(folder)


@pytest.fixture
def fake_gpus(public_dir, monkeypatch):
    """A function that puts an nvidia-smi with the given output first on PATH.

    It returns the folder for the locks.
    """
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{public_dir}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def install(listing: str) -> Path:
        script = public_dir / "nvidia-smi"
        script.write_text(f"#!/bin/sh\ncat <<'END'\n{listing}END\n")
        script.chmod(0o755)
        return public_dir / "locks"

    return install


@pytest.fixture
def start_job():
    """A function that starts a process which locks a device; all are killed at the end."""
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


def lock_and_release(folder: Path, device: str = "auto", **environ) -> str | None:
    """Lock a device in this process and environment, release it, and return it."""
    for descriptor in gpu_lock.lock_free_gpu(device, environ, folder):
        os.close(descriptor)
    return environ.get("CUDA_VISIBLE_DEVICES")


def test_five_jobs_never_share_one_of_two_devices(fake_gpus, start_job, tmp_path):
    folder = fake_gpus(TWO_GPUS)
    (tmp_path / "markers").mkdir()
    jobs = [start_job(WORK, folder, tmp_path / "markers") for _ in range(5)]
    outputs = [job.communicate()[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0] * 5, outputs
    lines = [line for text in outputs for line in text.splitlines()]
    held = {line for line in lines if line.startswith("holds")}
    assert held <= {"holds GPU-aaaa0000-1111", "holds GPU-bbbb0000-2222"}


def test_parallel_jobs_get_different_devices_and_sigkill_frees_one(fake_gpus, start_job):
    """The third job logs the holders, waits, and takes the device of the killed one."""
    folder = fake_gpus(TWO_GPUS)
    first, second = start_job(HOLD, folder), start_job(HOLD, folder)
    held = {device_of(first): first, device_of(second): second}
    assert set(held) == {"GPU-aaaa0000-1111", "GPU-bbbb0000-2222"}
    third = start_job(HOLD, folder)
    message = third.stdout.readline()
    assert message.startswith("waiting for a GPU: other trainings hold all 2")
    assert "--resources gpu=2" in message
    assert all(f"{name} by process {process.pid}" in message for name, process in held.items())
    held["GPU-bbbb0000-2222"].kill()
    assert device_of(third) == "GPU-bbbb0000-2222"


def test_waiting_job_stops_on_sigterm(fake_gpus, start_job):
    folder = fake_gpus(ONE_GPU)
    device_of(start_job(HOLD, folder))
    waiting = start_job(HOLD, folder)
    assert waiting.stdout.readline().startswith("waiting")
    waiting.send_signal(signal.SIGTERM)
    assert waiting.wait() == 1  # Interrupted, which the command line turns into 128 + 15


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")
def test_job_waits_for_the_lock_of_another_user(fake_gpus, start_job):
    """Also for root's lock, and one made with a strict umask, which the job can't delete."""
    folder = fake_gpus(ONE_GPU)
    for first, second in ((0, 65534), (65534, 65533)):
        holder = start_job("import os\nos.umask(0o077)\n" + HOLD, folder, user=first)
        assert device_of(holder) == "GPU-aaaa0000-1111"
        waiting = start_job(HOLD, folder, user=second)
        assert f"by process {holder.pid}" in waiting.stdout.readline()
        removed = subprocess.run(
            ["rm", *map(str, folder.iterdir())], user=second, capture_output=True
        )
        assert removed.returncode != 0 and stat.S_IMODE(folder.stat().st_mode) == 0o1777
        holder.communicate("")
        assert device_of(waiting) == "GPU-aaaa0000-1111"
        waiting.communicate("")
        shutil.rmtree(folder)


def test_only_visible_devices_are_used(fake_gpus, start_job):
    """Two of four devices are visible: the third job waits although others are free.

    A device has the same lock by number and by UUID.
    """
    folder = fake_gpus(
        TWO_GPUS
        + TWO_GPUS.replace("GPU 0", "GPU 2").replace("GPU 1", "GPU 3").replace("GPU-", "GPU-more")
    )
    visible = dict(CUDA_VISIBLE_DEVICES="1,3")
    assert [device_of(start_job(HOLD, folder, **visible)) for _ in range(2)] == ["1", "3"]
    waiting = start_job(HOLD, folder, **visible)
    assert "hold all 2 (1 by process" in waiting.stdout.readline()
    assert lock_and_release(folder, CUDA_VISIBLE_DEVICES="GPU-bbbb,GPU-aaaa") == "GPU-aaaa"
    assert lock_and_release(folder) == "GPU-aaaa0000-1111"


def test_mig_instance_is_a_device(fake_gpus, start_job):
    """A GPU that is split into instances is not one itself."""
    folder = fake_gpus(MIG_AND_GPU)
    devices = [device_of(start_job(HOLD, folder)) for _ in range(3)]
    assert devices == ["MIG-dddd0000-4444", "MIG-eeee0000-5555", "GPU-ffff0000-6666"]
    assert lock_and_release(folder, CUDA_VISIBLE_DEVICES="MIG-GPU-9999/1/0") == "MIG-GPU-9999/1/0"


def test_single_device_from_slurm_is_not_locked(fake_gpus, start_job):
    """Of several, each job locks one. Allocations have separate locks."""
    folder = fake_gpus(TWO_GPUS)
    assert lock_and_release(folder, SLURM_JOB_ID="7", CUDA_VISIBLE_DEVICES="0") == "0"
    assert not folder.exists()
    two = dict(CUDA_VISIBLE_DEVICES="0,1")
    devices = [device_of(start_job(HOLD, folder, SLURM_JOB_ID="7", **two)) for _ in range(2)]
    assert devices == ["0", "1"]
    assert device_of(start_job(HOLD, folder, SLURM_JOB_ID="8", **two)) == "0"


def test_cpu_and_hidden_gpus_are_not_locked(fake_gpus, caplog):
    folder = fake_gpus(TWO_GPUS)
    assert lock_and_release(folder, "cpu") is None
    for hidden in ("", "-1", "NoDevFiles"):
        assert lock_and_release(folder, CUDA_VISIBLE_DEVICES=hidden) == hidden
    assert lock_and_release(folder, CUDA_VISIBLE_DEVICES="2") == "2"
    assert "names GPU 2, this machine has 2" in caplog.text
    assert not folder.exists()


def test_device_files_are_counted_without_nvidia_smi(fake_gpus, tmp_path, monkeypatch):
    fake_gpus("No devices were found\n")
    monkeypatch.setattr(
        gpu_lock.Path, "glob", lambda *_: map(Path, ("/dev/nvidia0", "/dev/nvidia1"))
    )
    assert gpu_lock.list_gpus() == [["0"], ["1"]]
    monkeypatch.setenv("PATH", "")
    assert gpu_lock.list_gpus() == [["0"], ["1"]]


def test_deleted_lock_file_is_replaced_by_the_next_job(fake_gpus, start_job):
    """A third job waits for the new file."""
    folder = fake_gpus(ONE_GPU)
    device_of(start_job(HOLD, folder))
    (lock,) = folder.iterdir()
    lock.unlink()
    second = start_job(HOLD, folder)
    device_of(second)
    assert f"by process {second.pid}" in start_job(HOLD, folder).stdout.readline()


def test_folder_that_cannot_contain_locks_is_reported(fake_gpus, tmp_path):
    folder = fake_gpus(TWO_GPUS)
    folder.symlink_to(tmp_path)
    with pytest.raises(
        OSError, match=r"locks cannot hold GPU locks .*Ask its owner to remove it\."
    ):
        lock_and_release(folder)


def test_intel_gpus_are_locked_by_their_own_variable(fake_gpus, start_job, tmp_path, monkeypatch):
    """Two are found by their vendor; each job takes one. `auto` needs an XPU build of torch."""
    folder = fake_gpus("")
    for number, vendor in enumerate(["0x8086", "0x1002", "0x8086"]):
        path = tmp_path / f"renderD{128 + number}/device/vendor"
        path.parent.mkdir(parents=True)
        path.write_text(f"{vendor}\n")
    assert gpu_lock.list_intel_gpus(tmp_path) == ["0", "1"]
    monkeypatch.setattr(gpu_lock, "list_intel_gpus", lambda: ["0", "1"])
    first, second, given = {}, {}, {"ZE_AFFINITY_MASK": "3, 2"}
    held = [gpu_lock.lock_free_gpu("xpu", one, folder) for one in (first, second, given)]
    names = [one["ZE_AFFINITY_MASK"] for one in (first, second, given)]
    assert names == ["0", "1", "3"] and "CUDA_VISIBLE_DEVICES" not in first
    assert gpu_lock.lock_free_gpu("auto", {}, folder) == ()
    monkeypatch.setattr(gpu_lock, "_torch_build", lambda: "xpu")
    auto = {"ZE_AFFINITY_MASK": "2"}
    held.append(gpu_lock.lock_free_gpu("auto", auto, folder))
    assert len(held[-1]) == 2
    monkeypatch.setattr(gpu_lock, "list_intel_gpus", lambda: [])
    assert gpu_lock.lock_free_gpu("xpu", {}, folder) == ()
    for descriptor in itertools.chain(*held):
        os.close(descriptor)


def test_jobs_of_a_mac_take_turns(fake_gpus, monkeypatch):
    """Its one GPU has a lock and no variable."""
    folder, environ = fake_gpus(""), {}
    assert gpu_lock.lock_free_gpu("auto", environ, folder) == ()
    monkeypatch.setattr(sys, "platform", "darwin")
    held = gpu_lock.lock_free_gpu("auto", environ, folder)
    assert (
        len(held) == 2 and environ == {} and [path.name for path in folder.iterdir()] == ["gpu-mps"]
    )
    assert gpu_lock._try_lock("gpu-mps", held[0], folder) is None
    assert gpu_lock.lock_free_gpu("cpu", environ, folder) == ()
    for descriptor in held:
        os.close(descriptor)
