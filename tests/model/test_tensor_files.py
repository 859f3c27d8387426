"""Tensors come back from a file unchanged, and a failed write leaves no file."""

import pytest
import safetensors
import safetensors.torch
import torch

from lora.model import tensor_files


def test_tensors_are_saved_and_loaded_unchanged(tmp_path):
    tensors = {"a": torch.randn(3, 4).T, "b": torch.arange(3)}
    tensor_files.save_tensors(tmp_path / "x.safetensors", tensors)
    found = safetensors.torch.load_file(tmp_path / "x.safetensors")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], value) for name, value in tensors.items())


def test_failed_write_is_an_os_error_and_leaves_nothing(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise safetensors.SafetensorError("no space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(OSError, match="no space left"):
        tensor_files.save_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(1)})
    assert list(tmp_path.iterdir()) == []
