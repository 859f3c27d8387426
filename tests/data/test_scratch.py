"""Temporary files: arrays that grow on disk, and errors that name the folder."""

import tempfile
from pathlib import Path

import numpy as np
import pytest

from lora.data import scratch


def test_a_growing_array_is_its_parts_one_after_another():
    assert scratch.GrowingArray(np.int32).mapped().tolist() == []
    growing = scratch.GrowingArray(np.int32)
    for part in ([1, 2], [], [3]):
        growing.append(np.array(part, np.int32))
    mapped = growing.mapped()
    del growing
    assert mapped.tolist() == [1, 2, 3] and mapped.dtype == np.int32


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_names_the_folder_and_the_variable(monkeypatch):
    with Path("/dev/full").open("wb", buffering=0) as full:
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda: full)
        growing = scratch.GrowingArray(np.int32)
        with pytest.raises(OSError, match="Free some disk space, or set TMPDIR to another folder"):
            growing.append(np.zeros(10, np.int32))
