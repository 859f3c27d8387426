"""Choice of device and precision, and free memory."""

import logging

import pytest
import torch

from lora.training import device


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_cuda_is_refused_and_auto_picks_the_cpu(caplog):
    with pytest.raises(ValueError, match="sees no GPU"):
        device.pick_device("cuda")
    with caplog.at_level(logging.INFO):
        assert device.pick_device("auto").type == "cpu"
    assert "no GPU found" in caplog.text


def test_auto_precision_is_the_faster_one(monkeypatch):
    """An explicit precision is used in any case."""
    cpu = torch.device("cpu")
    monkeypatch.setattr(device, "_bf16_speedup", lambda: 3.0)
    assert device.pick_precision("auto", cpu) == "bf16"
    assert device.pick_precision("fp32", cpu) == "fp32"
    monkeypatch.setattr(device, "_bf16_speedup", lambda: 1.2)
    assert device.pick_precision("auto", cpu) == "fp32"
    assert device.pick_precision("bf16", cpu) == "bf16"
    with pytest.raises(ValueError, match="precision is 'fp16'; allowed: auto, bf16, fp32"):
        device.pick_precision("fp16", cpu)


def test_free_memory_is_limited_by_the_control_group(monkeypatch):
    """Without a limit it is MemAvailable of the machine."""
    files = {
        "/proc/meminfo": ["MemTotal: 9 kB", "MemAvailable:    2048 kB"],
        "/sys/fs/cgroup/memory.max": ["1500000"],
        "/sys/fs/cgroup/memory.current": ["1000000"],
        "/sys/fs/cgroup/memory.stat": ["anon 5", "inactive_file 300000"],
    }
    monkeypatch.setattr(device, "_lines", lambda path: files[path])
    assert device.free_bytes(torch.device("cpu")) == 800_000
    files["/sys/fs/cgroup/memory.max"] = ["max"]
    assert device.free_bytes(torch.device("cpu")) == 2048 * 1024
