"""Memory-map the arrays of a safetensors file, and write such a file without a copy in memory.

`safetensors` itself has no NumPy reader that maps a file, and its writer holds the whole file in
memory. Every entry of the header is checked before it is used, because a file may be cut off or
damaged.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from lora import files
from lora.errors import shown

NAMES = {"<i4": "I32", "<i8": "I64", "|u1": "U8", "<f4": "F32"}  # of types in a header
ORDER = ("I64", "F32", "I32", "U8")  # the order of types in a file that `safetensors` writes


class Entry(NamedTuple):
    """Position of one array: first byte, byte after the last one, shape and type."""

    start: int
    end: int
    shape: list[int]
    dtype: type[np.generic]


def map_arrays(path: Path, dtypes: Mapping[str, type[np.generic]]) -> dict[str, np.ndarray]:
    """Return the arrays of a safetensors file as read-only views.

    Args:
        path: The file.
        dtypes: Type of each array, by the part of its name after the last dot.

    Raises:
        ValueError: If the file is cut off, or its header is damaged or names another array.
        OSError: If the file cannot be mapped.
    """
    content = np.memmap(path, dtype=np.uint8, mode="r")
    start = 8 + int.from_bytes(content[:8].tobytes(), "little")
    if start > len(content):
        raise ValueError(
            f"it is cut off: its header ends at byte {start}, the file at {len(content)}"
        )
    text = content[8:start].tobytes().decode("utf-8")
    header = files.parse_object(text, "its header", "it is damaged")
    arrays = {}
    for name, values in header.items():
        if name != "__metadata__":
            entry = _check_entry(name, values, dtypes, len(content) - start)
            part = content[start + entry.start : start + entry.end]
            arrays[name] = part.view(entry.dtype).reshape(entry.shape)
    return arrays


def write_arrays(handle: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a safetensors file with the bytes that `safetensors.numpy.save` gives.

    Args:
        handle: The file.
        arrays: Arrays by name, of the types in NAMES. They may be mapped from files.
    """
    kinds = {name: NAMES[array.dtype.str] for name, array in arrays.items()}
    names = sorted(arrays, key=lambda name: (ORDER.index(kinds[name]), name))
    header, end = {}, 0
    for name in names:
        start, end = end, end + arrays[name].nbytes
        shape = list(arrays[name].shape)
        header[name] = {"dtype": kinds[name], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    handle.write(len(text).to_bytes(8, "little") + text)
    for name in names:
        handle.write(np.ascontiguousarray(arrays[name]).data)


def _check_entry(
    name: str, values: object, dtypes: Mapping[str, type[np.generic]], size: int
) -> Entry:
    """Return an entry of the header, of a file with `size` bytes of arrays."""
    dtype = dtypes.get(name.rpartition(".")[2])
    offsets = _whole_numbers(values, "data_offsets")
    shape = _whole_numbers(values, "shape")
    if dtype is None or offsets is None or len(offsets) != 2 or shape is None:
        raise ValueError(f"its header says of {shown(name)}: {shown(values)}")
    start, end = offsets
    if end > size:
        raise ValueError(f"it is cut off: {shown(name)} ends at byte {end}, the arrays at {size}")
    if end - start != math.prod(shape) * np.dtype(dtype).itemsize:
        raise ValueError(
            f"{shown(name)} has {end - start} bytes, which shape {shown(shape)} does not fit"
        )
    return Entry(start, end, shape, dtype)


def _whole_numbers(values: object, key: str) -> list[int] | None:
    """Return the list of numbers from 0 up under `key`, None if there is no such list."""
    found = values.get(key) if isinstance(values, dict) else None
    if not isinstance(found, list) or any(type(one) is not int or one < 0 for one in found):
        return None
    return found
