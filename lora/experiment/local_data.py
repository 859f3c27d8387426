"""Files of a data set on this machine, and the hash of their content.

A source of kind file is a folder, or a single file. Snakemake calls this module in every job.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from lora import paths
from lora.files import file_sha256


def select(path: Path) -> dict[str, Path]:
    """Return the files of a data set: {relative path: path}. Links are followed.

    Args:
        path: A folder, whose files are all selected but its manifest, or a single file.
    """
    if path.is_file():
        return {path.name: path}
    return {
        one.relative_to(path).as_posix(): one
        for one in sorted(path.rglob("*"))
        if one.is_file() and one != path / paths.MANIFEST
    }


def tree_sha256(files: Mapping[str, Mapping[str, str | int]]) -> str:
    """Return one hash of many files: SHA-256 of the sorted lines `path sha256`."""
    lines = "".join(f"{name} {files[name]['sha256']}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def content_sha256(path: Path) -> str:
    """Return the hash of a data set's files, as a source's `sha256` has it."""
    return tree_sha256({name: {"sha256": file_sha256(one)} for name, one in select(path).items()})
