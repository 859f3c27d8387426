"""State of one run, kept where a job can find it again: whole, checked, and never somebody else's.

A run's state is a safetensors file and a JSON that names it with its sha256; the JSON is written last and renamed into
place, so what it names is complete, and the state before it stays until then. The folder is the run's digest: another
setting, data set, model or version looks elsewhere. State that is damaged or carries another digest is left alone with a
message, never used. It lies beside the declared outputs, which Snakemake deletes before a job starts.
"""

import json
import logging
import os
from pathlib import Path

import safetensors.torch
from torch import Tensor

from lora import records

log = logging.getLogger(__name__)


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
    """Make `tensors` and `meta` (JSON) the run's state; older tensor files go once the new state stands."""
    folder = folder_of(state_dir, digest)
    path = folder / f"{name}.safetensors"
    save_tensors(path, tensors)
    records.write_json(
        folder / "state.json", dict(digest=digest, file=path.name, sha256=records.file_sha256(path), meta=meta)
    )
    for old in folder.glob("*.safetensors"):
        if old != path:
            old.unlink()


def load(state_dir: Path, digest: str) -> tuple[dict[str, Tensor], dict] | None:
    """(tensors, meta) of the run with this digest, or None where there is none that can be trusted."""
    folder = folder_of(state_dir, digest)
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if state["digest"] != digest:
            log.warning(
                "state in %s belongs to another run (digest %.12s, not %.12s): not used", folder, state["digest"], digest
            )
            return None
        path = folder / state["file"]
        if records.file_sha256(path) != state["sha256"]:
            log.warning("state file %s does not have the sha256 it was written with: not used, training starts anew", path)
            return None
        return safetensors.torch.load_file(path), state["meta"]
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        log.warning("state in %s cannot be read (%s): not used, training starts anew", folder, error)
        return None
