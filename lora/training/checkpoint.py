"""State of one run, kept where a job can find it again: whole, checked, and never somebody else's.

A run's state is a safetensors file and a sealed JSON that names it with its sha256, read back from the file; the JSON is
written last and renamed into place, so what it names is complete. The state before it is kept as well, for the day the
newer one is damaged on the disk. The folder is the run's digest: another setting, data set, model or version looks
elsewhere. State that is damaged or carries another digest is left alone with a message, never used; state that the system
does not let us read stops the job, as it may be whole. It lies beside the declared outputs, which Snakemake deletes before a
job starts. A job holds its runs' state from beginning to end with locks of the operating system, which go with the process
however it ends: the same job started a second time waits, then finds everything done.
"""

import contextlib
import fcntl
import json
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from lora import files
from lora.model.tensor_files import save_tensors

log = logging.getLogger(__name__)
NEWEST, BEFORE, LOCK = "state.json", "before.json", "lock"


def folder_of(state_dir: Path, digest: str) -> Path:
    return Path(state_dir) / digest[:16]


@contextlib.contextmanager
def held(state_dir: Path, digests: Iterable[str]) -> Iterator[None]:
    """Hold the state of the runs with these digests, and take away what a killed job left half written there. Waits for
    another job that holds one of them; they are taken in one order, so that no two jobs wait for each other."""
    with contextlib.ExitStack() as locks:
        for digest in sorted(set(digests)):
            folder = folder_of(state_dir, digest)
            folder.mkdir(parents=True, exist_ok=True)
            _lock(locks.enter_context(open(folder / LOCK, "ab")), folder)
            files.remove_temporary_files(folder)
        yield


def _lock(handle, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.warning(
            "another job trains the run whose state is in %s: waiting for it to end", folder
        )
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        log.warning(
            "the file system of %s has no locks (%s): do not start the same job twice at a time",
            folder,
            error,
        )


def save(state_dir: Path, digest: str, name: str, tensors: dict[str, Tensor], meta: dict) -> None:
    """Make `tensors` and `meta` (JSON) the run's state, and what was its state the one before; tensor files of older ones
    go once the new state stands."""
    folder = folder_of(state_dir, digest)
    path = folder / f"{name}.safetensors"
    save_tensors(path, tensors)
    state = dict(digest=digest, file=path.name, sha256=files.file_sha256(path), meta=meta)
    if (folder / NEWEST).is_file():
        os.replace(folder / NEWEST, folder / BEFORE)
    files.write_json(folder / NEWEST, files.with_checksum(state))
    kept = {path.name, _file_of(folder / BEFORE)}
    for old in folder.glob("*.safetensors"):
        if old.name not in kept:
            old.unlink()


def _file_of(state: Path) -> str | None:
    """The tensor file that a state's JSON names; None where it cannot be read."""
    try:
        return json.loads(state.read_text(encoding="utf-8"))["file"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def load(state_dir: Path, digest: str) -> tuple[dict[str, Tensor], dict] | None:
    """(tensors, meta) of the run with this digest: its newest state that can be trusted, or None where there is none. The
    one before takes the place of a damaged one, or the next state that is saved would push it out."""
    folder = folder_of(state_dir, digest)
    found = _load(folder, NEWEST, digest)
    if found is None:
        found = _load(folder, BEFORE, digest)
        if found:
            os.replace(folder / BEFORE, folder / NEWEST)
    return found


def _load(folder: Path, name: str, digest: str) -> tuple[dict[str, Tensor], dict] | None:
    try:
        state = json.loads((folder / name).read_text(encoding="utf-8"))
        if state["digest"] != digest:
            log.warning(
                "state in %s belongs to another run (digest %.12s, not %.12s): not used",
                folder,
                state["digest"],
                digest,
            )
            return None
        if files.CHECKSUM_KEY not in state or files.checksum_fails(state):
            log.warning("state %s was changed since it was written: not used", folder / name)
            return None
        path = folder / state["file"]
        if files.file_sha256(path) != state["sha256"]:
            log.warning(
                "state file %s does not have the sha256 it was written with: not used", path
            )
            return None
        try:
            return safetensors.torch.load_file(path), state["meta"]
        except RuntimeError as error:  # whole, but the system does not open it
            raise OSError(f"state file {path} cannot be read ({error})") from None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError, safetensors.SafetensorError) as error:
        log.warning("state %s cannot be read (%s): not used", folder / name, error)
        return None
