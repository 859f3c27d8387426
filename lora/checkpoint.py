"""State of one run, kept where a job can find it again: whole, checked, and never somebody else's.

A run's state is a safetensors file and a JSON that names it with its sha256, read back from the file; the JSON is written
last and renamed into place, so what it names is complete. The state before it is kept as well, for the day the newer one is
damaged on the disk. The folder is the run's digest: another setting, data set, model or version looks elsewhere. State that
is damaged or carries another digest is left alone with a message, never used. It lies beside the declared outputs, which
Snakemake deletes before a job starts.
"""

import hashlib
import json
import logging
import os
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from lora import records

log = logging.getLogger(__name__)
NEWEST, BEFORE = "state.json", "before.json"


def folder_of(state_dir: Path, digest: str) -> Path:
    return Path(state_dir) / digest[:16]


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """One whole safetensors file or nothing, on the CPU."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    safetensors.torch.save_file(on_cpu, temporary, metadata={"format": "pt"})
    with open(temporary, "rb") as handle:
        os.fsync(handle.fileno())
    os.replace(temporary, path)


def save(state_dir: Path, digest: str, name: str, tensors: dict[str, Tensor], meta: dict) -> None:
    """Make `tensors` and `meta` (JSON) the run's state, and what was its state the one before; tensor files of older ones
    go once the new state stands."""
    folder = folder_of(state_dir, digest)
    path = folder / f"{name}.safetensors"
    save_tensors(path, tensors)
    state = dict(digest=digest, file=path.name, sha256=records.file_sha256(path), meta=meta, meta_sha256=_hash(meta))
    if (folder / NEWEST).is_file():
        os.replace(folder / NEWEST, folder / BEFORE)
    records.write_json(folder / NEWEST, state)
    kept = {path.name, _file_of(folder / BEFORE)}
    for old in folder.glob("*.safetensors"):
        if old.name not in kept:
            old.unlink()


def _hash(meta: dict) -> str:
    """Of what JSON keeps of `meta`, so that it is the same before it is written and after."""
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def _file_of(state: Path) -> str | None:
    """The tensor file that a state's JSON names; None where it cannot be read."""
    try:
        return json.loads(state.read_text(encoding="utf-8"))["file"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def load(state_dir: Path, digest: str) -> tuple[dict[str, Tensor], dict] | None:
    """(tensors, meta) of the run with this digest: its newest state that can be trusted, or None where there is none."""
    folder = folder_of(state_dir, digest)
    for name in (NEWEST, BEFORE):
        found = _load(folder, name, digest)
        if found:
            return found
    return None


def _load(folder: Path, name: str, digest: str) -> tuple[dict[str, Tensor], dict] | None:
    try:
        state = json.loads((folder / name).read_text(encoding="utf-8"))
        if state["digest"] != digest:
            log.warning(
                "state in %s belongs to another run (digest %.12s, not %.12s): not used", folder, state["digest"], digest
            )
            return None
        path = folder / state["file"]
        if records.file_sha256(path) != state["sha256"]:
            log.warning("state file %s does not have the sha256 it was written with: not used", path)
            return None
        if _hash(state["meta"]) != state["meta_sha256"]:
            log.warning("state %s was changed since it was written: not used", folder / name)
            return None
        return safetensors.torch.load_file(path), state["meta"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, safetensors.SafetensorError) as error:
        log.warning("state %s cannot be read (%s): not used", folder / name, error)
        return None
