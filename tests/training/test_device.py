"""Choice of device and precision, and free memory."""

import logging
from types import SimpleNamespace

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


@pytest.mark.parametrize(
    ("speedup", "warns"), [(0.02, True), (0.9, True), (1.2, False), (5, False)]
)
def test_bf16_where_it_is_slower_has_a_warning(speedup, warns, monkeypatch, caplog):
    """A CPU without bf16 instructions takes 50 times as long as in fp32."""
    monkeypatch.setattr(device, "_bf16_speedup", lambda: speedup)
    assert device.pick_precision("bf16", torch.device("cpu")) == "bf16"
    assert ("slower than with precision fp32" in caplog.text) == warns
    assert (f"{speedup} times as fast here" in caplog.text) == warns


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


@pytest.fixture
def fake_gpu(monkeypatch):
    """A function that makes torch see a GPU of some kind; its module has the given functions."""

    def install(kind: str, **functions) -> torch.device:
        found, cpu_module = torch.device(kind), torch.get_device_module("cpu")
        module = SimpleNamespace(**functions)
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda *_, **__: found)
        monkeypatch.setattr(
            torch,
            "get_device_module",
            lambda device: module if torch.device(device).type == kind else cpu_module,
        )
        return found

    return install


@pytest.mark.parametrize("kind", ["mps", "xpu", "hpu"])
def test_other_gpus_are_used_if_they_can_train(monkeypatch, fake_gpu, caplog, kind):
    """Otherwise auto falls back to the CPU and says why, and a request is refused."""
    found = fake_gpu(kind, get_device_name=lambda device: f"Some {device.type}")
    tried = []
    monkeypatch.setattr(device.device_trial, "find_problem", lambda one: tried.append(one) or "")
    with caplog.at_level(logging.INFO):
        assert device.pick_device("auto") == device.pick_device(kind) == found
        assert device.pick_device("cpu").type == "cpu"
    assert tried == [found, found] and f"device Some {kind}" in caplog.text
    monkeypatch.setattr(device.device_trial, "find_problem", lambda one: "no such operation")
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert device.pick_device("auto").type == "cpu"
    assert f"({kind} cannot train: no such operation)" in caplog.text
    with pytest.raises(ValueError, match=f"device is {kind}, but it cannot train .*use device cpu"):
        device.pick_device(kind)
    with pytest.raises(ValueError, match="device is cuda, but torch sees no GPU of this kind"):
        device.pick_device("cuda")


def test_cuda_is_used_without_a_trial(monkeypatch, fake_gpu):
    """A trial that fails would hide what is wrong."""
    found = fake_gpu("cuda", get_device_name=lambda device: "H100")
    monkeypatch.setattr(device.device_trial, "find_problem", lambda one: pytest.fail("called"))
    assert device.pick_device("auto") == device.pick_device("cuda") == found
    with pytest.raises(ValueError, match="device is mps.*use a Mac"):
        device.pick_device("mps")


def test_precision_and_memory_of_other_gpus(fake_gpu):
    """Without a function for it, bf16 is not used and the peak is unknown."""
    xpu = fake_gpu(
        "xpu",
        is_bf16_supported=lambda including_emulation: not including_emulation,
        mem_get_info=lambda one: (5, 9),
        max_memory_reserved=lambda one: 7,
    )
    assert device.pick_precision("auto", xpu) == "bf16"
    assert (device.free_bytes(xpu), device.peak_device_bytes(xpu)) == (5, 7)
    mps = fake_gpu("mps", recommended_max_memory=lambda: 100, driver_allocated_memory=lambda: 30)
    assert device.pick_precision("auto", mps) == "fp32"
    assert (device.free_bytes(mps), device.peak_device_bytes(mps)) == (70, 30)
    assert device.device_name(mps).startswith("mps GPU of ")
    hpu = fake_gpu("hpu")
    assert device.peak_device_bytes(hpu) == 0


def test_losses_are_summed_in_float64_where_there_is_one(monkeypatch):
    zeros = torch.zeros

    def without_float64(*shape, dtype, device):
        if dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return zeros(*shape, dtype=dtype)

    assert device.sum_dtype(torch.device("cpu")) == torch.float64
    monkeypatch.setattr(torch, "zeros", without_float64)
    assert device.sum_dtype.__wrapped__(torch.device("mps")) == torch.float32


def test_memory_is_released_on_the_gpu_that_is_there(fake_gpu):
    device.release_cached_memory()  # nothing to do on a CPU
    released = []
    fake_gpu("xpu", empty_cache=lambda: released.append("xpu"))
    device.release_cached_memory()
    assert released == ["xpu"]


def test_running_out_of_memory_is_recognised_on_every_kind_of_gpu():
    for error in (
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB, other allocations: 2 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ):
        assert device.is_out_of_memory(error)
    assert not device.is_out_of_memory(RuntimeError("shapes do not match"))
