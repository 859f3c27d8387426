"""Memory-map the arrays of a safetensors file: only the header is read.

`safetensors` itself has no NumPy reader that maps a file. Every entry of the header is checked
before it is used, because a file may be cut off or damaged.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lora import files
from lora.errors import shown


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
