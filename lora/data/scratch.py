"""Temporary files for data that may not fit memory, in the folder that TMPDIR names.

The files have no name, or lose it once they are mapped, so nothing is left behind.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lora import files

if TYPE_CHECKING:
    import numpy as np


@contextlib.contextmanager
def explain_errors() -> Iterator[None]:
    """Name the folder in an error of the system while a temporary file is written.

    Raises:
        OSError: Instead of the system's own error.
    """
    try:
        yield
    except OSError as error:
        why, fix = error.strerror or str(error), files.FIXES.get(error.errno or 0, "Fix this")
        raise OSError(
            f"temporary files in {tempfile.gettempdir()} cannot be written ({why}). {fix}, or set "
            "TMPDIR to another folder, and run the same command again."
        ) from error


class GrowingArray:
    """A one-dimensional array that is written in parts to a temporary file, then mapped."""

    def __init__(self, dtype: "type[np.generic]"):
        with explain_errors():
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as it is mapped
        self._dtype, self._length = dtype, 0

    def append(self, part: "np.ndarray") -> None:
        """Add the elements of an array of the same type."""
        import numpy as np

        with explain_errors():
            self._file.write(np.ascontiguousarray(part, self._dtype).data)
        self._length += len(part)

    def mapped(self) -> "np.ndarray":
        """Return everything that was added, read-only. Nothing can be added afterwards."""
        import numpy as np

        with explain_errors(), self._file as file:
            file.flush()
            if not self._length:
                return np.zeros(0, self._dtype)
            return np.memmap(file, self._dtype, mode="r", shape=(self._length,))

    def __del__(self) -> None:
        """Delete the file of an array that is never mapped, as after an error."""
        self._file.close()
