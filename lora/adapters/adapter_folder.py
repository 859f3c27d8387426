"""Find the adapter in a folder that a user gave, or say what the folder is and what to give.

Accepted are an adapter folder, and a folder with exactly one adapter below it, such as a run's.
This module imports no torch: a wrong folder is refused before anything is fetched or loaded.
"""

import functools
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora.adapters import peft_header
from lora.adapters.peft_header import CONFIG, PICKLED, TENSORS
from lora.paths import ADAPTER_LABELS

log = logging.getLogger(__name__)
ALLOWED = f"a folder with {CONFIG} and {TENSORS}"
LEVELS = 3  # folders below the given one that are searched for adapters
MAX_FOLDERS = 2000
MAX_NAMES = 3
# Files that are read elsewhere, or say nothing about the adapter.
NOTES = (Path(ADAPTER_LABELS).name, "README.md", ".gitattributes", "fetched.json")
CONVERT = (
    'python -c "import sys, torch, safetensors.torch as st; st.save_file(torch.load(sys.argv[1], '
    'weights_only=True), sys.argv[2])"'
)


@dataclass(frozen=True)
class AdapterFolder:
    """An adapter folder.

    Attributes:
        path: The folder with adapter_config.json and adapter_model.safetensors.
        config: Its adapter_config.json.
    """

    path: Path
    config: Mapping[str, Any]

    @property
    def method(self) -> str:
        """The method: that of a run's adapter_config.json, or `lora` for one of peft."""
        if "peft_type" in self.config or "method" not in self.config:
            return "lora"
        return str(self.config["method"])


def find(given: Path | str, option: str) -> AdapterFolder:
    """Return the adapter in a folder; files in it that are not used are named in the log.

    Args:
        given: An adapter folder, or a folder with exactly one adapter below it.
        option: The option or key that gave it, for messages.

    Raises:
        ValueError: If it is anything else. The message says what it is, and what to give.
    """
    folder = Path(given).expanduser()
    if problem := _not_a_folder(folder, str(given)) or _incomplete(folder):
        raise ValueError(f"{option} is {given}; allowed: {ALLOWED}. {problem}")
    if not _is_adapter(folder):
        found = list(_adapters_below(folder))
        if len(found) != 1:
            what = _several(found) if found else _no_adapter(folder)
            raise ValueError(f"{option} is {given}; allowed: {ALLOWED}. {what}")
        _inform(f"{option} {given}: the only adapter in it is {found[0]}")
        folder = found[0]
    unused = sorted(
        path.name for path in folder.iterdir() if path.name not in (CONFIG, TENSORS, *NOTES)
    )
    if unused:
        _inform(f"{folder}: not used: {_some(unused)}")
    return AdapterFolder(folder, peft_header.read_config(folder))


@functools.cache
def _inform(text: str) -> None:
    """Log a line once in a process: every run of a pack may start from the same folder."""
    log.info("%s", text)


def _is_adapter(folder: Path) -> bool:
    return (folder / CONFIG).is_file() and (folder / TENSORS).is_file()


def _not_a_folder(folder: Path, given: str) -> str:
    """Return what to do if there is no such folder, otherwise an empty text."""
    if folder.is_dir():
        return ""
    if folder.exists():
        parent = next((one for one in folder.parents if _is_adapter(one)), None)
        return f"It is a file. Give {parent or 'the folder that it is in'}."
    if re.fullmatch(r"[\w.-]+/[\w.-]+", given) and not given.startswith("."):
        return (
            "There is no such folder. If it is a name on the Hugging Face hub, download it first: "
            f"`hf download {given} --local-dir FOLDER`, then give FOLDER with a / in it."
        )
    above = next(one for one in folder.absolute().parents if one.is_dir())
    return f"There is no such folder; the last part of the path that exists is {above}."


def _incomplete(folder: Path) -> str:
    """Return what to do with a folder that has a part of an adapter, otherwise an empty text."""
    has_config, pickled = (folder / CONFIG).is_file(), (folder / PICKLED).is_file()
    if _is_adapter(folder) or not (has_config or pickled or (folder / TENSORS).is_file()):
        return ""
    if pickled and not (folder / TENSORS).is_file():
        convert = f"{CONVERT} {folder / PICKLED} {folder / TENSORS}"
        return (
            f"{PICKLED} is there, but pickled files are not loaded. If you trust it, convert it: "
            f"{convert}"
        )
    lacking = TENSORS if has_config else CONFIG
    return f"There is no {lacking} in it. Copy the whole adapter folder, or save it again."


def _adapters_below(folder: Path) -> Iterator[Path]:
    """Yield the adapter folders below a folder, down to LEVELS."""
    for count, (name, folders, _) in enumerate(os.walk(folder)):
        path = Path(name)
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        if count >= MAX_FOLDERS or len(path.relative_to(folder).parts) >= LEVELS:
            folders.clear()
        if path != folder and _is_adapter(path):
            folders.clear()
            yield path


def _several(found: list[Path]) -> str:
    """Return which of several adapters to give."""
    steps = {
        path: int(match[1])
        for path in found
        if (match := re.fullmatch(r"(?:checkpoint|global_step|step)[-_](\d+)", path.name))
    }
    if len(steps) == len(found) and len({path.parent for path in found}) == 1:
        newest = max(steps, key=lambda path: steps[path])
        return (
            f"It has {len(found)} checkpoints of a training, each with an adapter. Give one of "
            f"them; the newest is {newest}."
        )
    return f"It has {len(found)} adapters below it. Give one of them: {_some(found)}."


def _no_adapter(folder: Path) -> str:
    """Return what a folder without an adapter is."""
    if not any(folder.iterdir()):
        return "The folder is empty: the adapter was not written, or not copied."
    pickled = sorted(folder.glob(f"*/{PICKLED}"))
    if pickled:
        return (
            f"Below it is only {pickled[0]}, which is not loaded. {_incomplete(pickled[0].parent)}"
        )
    models = [folder, *sorted(folder.glob("checkpoint-*"))]
    for model in models:
        if (model / "config.json").is_file() and any(
            path.suffix in (".safetensors", ".bin") for path in model.iterdir()
        ):
            return (
                f"{model} is a whole model, not an adapter. Give it as the base model "
                "(--model-dir, or a source of the config with kind: file)."
            )
    if (folder / "run.json").is_file() or (folder / "metrics.csv").is_file():
        return "It is a run without adapter/: copy that too, or train the run again."
    return f"It has no adapter, only {_some(sorted(path.name for path in folder.iterdir()))}."


def _some(names: Iterable[object]) -> str:
    listed = [str(name) for name in names]
    more = f" and {len(listed) - MAX_NAMES} more" if len(listed) > MAX_NAMES else ""
    return ", ".join(listed[:MAX_NAMES]) + more
