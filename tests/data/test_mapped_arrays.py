"""Mapped arrays compared with those that safetensors reads."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save, save_file

from lora.data.mapped_arrays import map_arrays, write_arrays
from lora.data.tokens import DTYPES as TOKEN_DTYPES

DTYPES = {"a": np.int32, "b": np.float32}
ARRAYS = {"x.a": np.arange(6, dtype=np.int32).reshape(2, 3), "y.b": np.ones(4, np.float32)}


@pytest.fixture
def path(tmp_path):
    save_file(ARRAYS, tmp_path / "arrays.safetensors", metadata={"made": "here"})
    return tmp_path / "arrays.safetensors"


def with_header(path, change) -> None:
    """Change the header of a file; its arrays stay as they are."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])


def test_arrays_are_those_that_safetensors_reads(path):
    mapped, expected = map_arrays(path, DTYPES), load_file(path)
    assert mapped.keys() == expected.keys()
    for name, array in mapped.items():
        assert array.dtype == expected[name].dtype and np.array_equal(array, expected[name])
        assert not array.flags.writeable


def test_a_file_that_is_cut_off_is_refused(path):
    content = path.read_bytes()
    for size in range(1, len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match="it is cut off"):
            map_arrays(path, DTYPES)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda header: header.update({"x.c": header.pop("x.a")}), "its header says of 'x.c'"),
        (lambda header: header.update({"x.a": 3}), "its header says of 'x.a': 3"),
        (lambda header: header["x.a"].update(shape=[2, -3]), "its header says of 'x.a'"),
        (lambda header: header["x.a"].update(shape=[2, 4]), "'x.a' has 24 bytes, which shape"),
        (lambda header: header["x.a"].update(data_offsets=[0]), "its header says of 'x.a'"),
        (lambda header: header["x.a"].update(data_offsets=[0, 99]), "'x.a' ends at byte 99"),
    ],
)
def test_a_wrong_header_is_refused(path, change, message):
    with_header(path, change)
    with pytest.raises(ValueError, match=message):
        map_arrays(path, DTYPES)


@pytest.mark.parametrize("names", ["train validation", "train", "b a é c"])
def test_a_written_file_has_the_bytes_of_safetensors(tmp_path, names):
    """Tokens of earlier versions were written by safetensors itself."""
    random, arrays = np.random.default_rng(0), {}
    for size, name in enumerate(names.split()):
        for part, dtype in TOKEN_DTYPES.items():
            arrays[f"{name}.{part}"] = random.integers(0, 99, size * 3).astype(dtype)
    with open(tmp_path / "file", "wb") as handle:
        write_arrays(handle, arrays)
    assert (tmp_path / "file").read_bytes() == save(arrays)
