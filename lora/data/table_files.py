"""Files of a task of the config: which file or saved split is train, and which one is evaluated."""

import re
from dataclasses import dataclass
from pathlib import Path

from lora.data import arrow
from lora.errors import shown
from lora.experiment.task import TableOptions, Task

TEXT_KINDS = (".csv", ".tsv", ".jsonl", ".ndjson")
KINDS = (*TEXT_KINDS, *(f"{kind}.gz" for kind in TEXT_KINDS), ".parquet")
DEV_NAMES = ("validation", "dev", "valid", "val")
SAVED_SPLIT = "state.json"  # in a folder of a single split that datasets' save_to_disk wrote
SHARD = re.compile(r"(?P<split>.+?)-\d{5}-of-\d{5}")


@dataclass(frozen=True)
class Found:
    """Where the splits of a task are.

    Attributes:
        where: The file or folder, for messages.
        splits: Files of each split by its name, in order; None for a saved split.
        train: Name of the training split.
        dev: Name of the evaluation split; empty if it is made of train.
    """

    where: Path
    splits: dict[str, list[Path] | None]
    train: str
    dev: str


def kind_of(path: Path) -> str:
    """Return the ending of a table's name that says how it is read; empty for other files."""
    return next((kind for kind in KINDS if path.name.lower().endswith(kind)), "")


def find(task: Task, path: Path) -> Found:
    """Return the training and the evaluation split of a task of the config.

    Args:
        task: The task; `task.table` has the names of its splits.
        path: The file or folder of the data, or the folder that they were fetched to.

    Raises:
        ValueError: If there are no tables, or it is not clear which is which.
    """
    options = task.table or TableOptions()
    if not path.exists():
        raise ValueError(f"there is no file or folder {path}; correct path, or make it")
    splits = _splits(path)
    if not splits:
        files = [one.name for one in sorted(path.iterdir())] if path.is_dir() else [path.name]
        raise ValueError(
            f"{path} has no table; allowed: files that end in {', '.join(KINDS)}, or a folder of "
            f"save_to_disk. It has: {shown(files[:10])}"
        )
    have = f"{path} has {', '.join(splits)}"
    train = _named(options.train, splits) or ("train" if "train" in splits else "")
    if options.train and train not in splits:
        raise ValueError(f"splits.train is {shown(options.train)}, but {have}; use one of them")
    if not train and len(splits) > 1:
        raise ValueError(f"{have}; say which is which: splits: {{train: ..., dev: ...}}")
    train = train or next(iter(splits))
    dev = _named(options.dev, splits)
    if dev and dev not in splits:
        raise ValueError(f"splits.dev is {shown(options.dev)}, but {have}; use one of them")
    if dev == train:
        raise ValueError(f"{have}; splits has {shown(train)} as train and as dev; correct one")
    usual = [name for name in DEV_NAMES if name in splits and name != train]
    if not dev and len(usual) > 1:
        raise ValueError(f"{have}; say which one is evaluated: splits: {{dev: {usual[0]}}}")
    return Found(path, splits, train, dev or "".join(usual))


def _splits(path: Path) -> dict[str, list[Path] | None]:
    """Return the files of each split; {} if there is no table."""
    if path.is_file():
        return {_split_of(path): [path]} if kind_of(path) else {}
    if (path / arrow.SAVED).is_file():
        return dict.fromkeys(arrow.saved_splits(path))
    if (path / SAVED_SPLIT).is_file():
        return {"train": None}
    found: dict[str, list[Path] | None] = {}
    for one in sorted(path.iterdir()):
        if one.is_file() and kind_of(one) and not one.name.startswith("."):
            files = found.setdefault(_split_of(one), [])
            if files and kind_of(files[0]) != kind_of(one):
                raise ValueError(f"{path} has {files[0].name} and {one.name}; keep one of them")
            files.append(one) if files is not None else None
    return found


def _split_of(path: Path) -> str:
    stem = path.name[: len(path.name) - len(kind_of(path))]
    match = SHARD.fullmatch(stem)
    return match["split"] if match else stem


def _named(name: str, splits: dict[str, list[Path] | None]) -> str:
    """Return a split's name as the config writes it, without the ending of its file."""
    return name if name in splits or not kind_of(Path(name)) else _split_of(Path(name))
