"""Checkpoint of one run: written atomically, with a checksum, keyed by the run's digest.

A checkpoint is a safetensors file, and a JSON file that has its name and SHA-256. The JSON file is
renamed into place last, so what it names is complete. The checkpoint before it is kept, in case the
newer one is damaged. The folder's name is the digest, so a run with another setting, data set,
model or version never finds it. A damaged checkpoint is left alone with a warning; one that the
system can't read stops the job, because it may be whole.

A job locks the checkpoints of its runs from beginning to end, with flock: the kernel releases a
lock when its process ends. A second start of the same job waits, then finds everything done.
"""

import contextlib
import fcntl
import json
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import safetensors
import safetensors.torch
from torch import Tensor

from lora import files, paths
from lora.model.tensor_files import save_tensors

log = logging.getLogger(__name__)
NEWEST, PREVIOUS, LOCK = "state.json", "before.json", "lock"


def folder_of(state_dir: Path, digest: str) -> Path:
    """Return the folder of the checkpoints of the run with this digest."""
    return Path(paths.checkpoint_dir(state_dir, digest))


@contextlib.contextmanager
def held(state_dir: Path, digests: Iterable[str]) -> Iterator[None]:
    """Lock the checkpoints of several runs, and remove what a killed job left half written.

    Waits while another job holds one of them. All jobs lock in the same order, so no two wait for
    each other.

    Args:
        state_dir: Folder of all checkpoints.
        digests: Digests of the runs.
    """
    with contextlib.ExitStack() as locks:
        for digest in sorted(set(digests)):
            folder = folder_of(state_dir, digest)
            folder.mkdir(parents=True, exist_ok=True)
            _lock(locks.enter_context(open(folder / LOCK, "ab")), folder)
            files.remove_temporary_files(folder)
        yield


def _lock(handle: IO[bytes], folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.warning("another job trains the run with checkpoints in %s: waiting for it", folder)
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        log.warning(
            "the file system of %s has no locks (%s): do not start the same job twice at a time",
            folder,
            error,
        )


def save(
    state_dir: Path, digest: str, name: str, tensors: dict[str, Tensor], meta: files.JsonObject
) -> None:
    """Write a checkpoint. The newest one becomes the previous one; older ones are deleted.

    Args:
        state_dir: Folder of all checkpoints.
        digest: Digest of the run.
        name: Name of the tensor file, without its ending.
        tensors: The tensors by name.
        meta: Everything else, as plain JSON values.

    Raises:
        OSError: If the file can't be written. The checkpoints before it are kept.
    """
    folder = folder_of(state_dir, digest)
    path = folder / f"{name}.safetensors"
    save_tensors(path, tensors)
    state = dict(digest=digest, file=path.name, sha256=files.file_sha256(path), meta=meta)
    if (folder / NEWEST).is_file():
        os.replace(folder / NEWEST, folder / PREVIOUS)
    files.write_json(folder / NEWEST, files.with_checksum(state))
    kept = {path.name, _tensor_file(folder / PREVIOUS)}
    for old in folder.glob("*.safetensors"):
        if old.name not in kept:
            old.unlink()


def _tensor_file(state: Path) -> str | None:
    """Return the name of a checkpoint's tensor file; None if its JSON file can't be read."""
    try:
        return str(json.loads(state.read_text(encoding="utf-8"))["file"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def load(state_dir: Path, digest: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Load the newest valid checkpoint of a run.

    If the newest one is damaged, the previous one takes its place: otherwise the next save would
    delete it.

    Returns:
        The tensors and `meta` that were saved; None if there is no valid checkpoint.

    Raises:
        OSError: If the system can't read a checkpoint.
    """
    folder = folder_of(state_dir, digest)
    state = _load(folder, NEWEST, digest)
    if state is None:
        state = _load(folder, PREVIOUS, digest)
        if state:
            os.replace(folder / PREVIOUS, folder / NEWEST)
    return state


def _load(folder: Path, name: str, digest: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    try:
        state = json.loads((folder / name).read_text(encoding="utf-8"))
        if state["digest"] != digest:
            log.warning(
                "checkpoint in %s belongs to another run (digest %.12s, not %.12s): not used",
                folder,
                state["digest"],
                digest,
            )
            return None
        if not files.has_checksum(state) or files.checksum_fails(state):
            log.warning("checkpoint %s was changed since it was written: not used", folder / name)
            return None
        path = folder / state["file"]
        if files.file_sha256(path) != state["sha256"]:
            log.warning("checkpoint %s does not have its SHA-256: not used", path)
            return None
        try:
            return safetensors.torch.load_file(path), state["meta"]
        except RuntimeError as error:  # the file is whole, but the system can't open it
            raise OSError(f"checkpoint {path} cannot be read ({error})") from None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError, safetensors.SafetensorError) as error:
        log.warning("checkpoint %s cannot be read (%s): not used", folder / name, error)
        return None
