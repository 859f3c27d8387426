"""Data sets of the library `datasets`: folders of `save_to_disk`, and parquet files of the hub.

A snapshot of a data set on the hub has files such as `sst2/train-00000-of-00001.parquet`; the hub's
branch refs/convert/parquet has `sst2/train/0000.parquet`. They are read with pyarrow where they
are; `load_dataset` would copy them into its cache. Names of classes are in the metadata of the
parquet file, or in `dataset_info` of the card, README.md.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lora import files
from lora.data import card
from lora.data.checks import check_columns
from lora.data.examples import RawSplit
from lora.errors import HubError
from lora.experiment.task import Task

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict, Features

SAVED = "dataset_dict.json"  # in a folder that datasets' save_to_disk wrote
LABEL = "label"
# Paths below the folder of a configuration: those of a data set, and of refs/convert/parquet.
SHARD = re.compile(r"(?P<split>[^/]+?)(-(?P<index>\d+)-of-(?P<count>\d+)(-[0-9a-f]+)?)?\.parquet")
CONVERTED = re.compile(r"(?P<split>[^/]+)/(?P<index>\d{4,})\.parquet")
DAMAGED = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


def read_saved(task: Task, folder: Path, splits: Sequence[str]) -> dict[str, RawSplit]:
    """Return splits of a data set that `datasets` saved with `save_to_disk`.

    Raises:
        ValueError: If `datasets` cannot load it.
    """
    saved = load_saved(folder)
    return {
        split: _raw_split(
            task,
            f"{folder}, split {split}",
            saved[split].features,
            {
                name: saved[split][name][:]
                for name in (*task.text_columns, LABEL)
                if name in saved[split].column_names
            },
            saved[split].column_names,
        )
        if split in saved
        else _missing_split(str(folder), split, list(saved))
        for split in splits
    }


def load_saved(folder: Path) -> "DatasetDict | Dataset":
    """Return a data set that `datasets` saved with `save_to_disk`.

    Raises:
        ValueError: If `datasets` cannot load it.
    """
    from datasets import load_from_disk

    try:
        return load_from_disk(str(folder))
    except DAMAGED as error:
        raise ValueError(
            f"{folder}: datasets cannot load this data set ({_one_line(error)}); save or fetch it "
            "again"
        ) from None


def saved_splits(folder: Path) -> list[str]:
    """Return the names of the splits in a folder with a `dataset_dict.json`. Raises ValueError."""
    splits = files.read_object(folder / SAVED, "save or fetch the data set again").get("splits")
    if not isinstance(splits, list) or not splits:
        raise ValueError(f"{folder / SAVED} lists no splits; save or fetch the data set again")
    return [str(split) for split in splits]


def parquet_folders(task: Task, folder: Path) -> list[str]:
    """Return where a folder has parquet files of a task's training split, relative to it."""
    places = (".", task.name, "data")
    return [place for place in places if "train" in _shards(folder / place)]


def read_parquet(
    task: Task, folder: Path, place: Path, splits: Sequence[str]
) -> dict[str, RawSplit]:
    """Return splits of a snapshot of the hub.

    Args:
        task: The task.
        folder: The folder of the snapshot, or of one configuration.
        place: The folder of the parquet files.
        splits: Names of the splits.
    """
    shards = _shards(place)
    cards = dict.fromkeys((folder / "README.md", place / "README.md", place.parent / "README.md"))
    card_names = next((_card_names(task, path) for path in cards if path.is_file()), None)
    return {
        split: _read_shards(task, f"{place}, split {split}", shards[split], card_names)
        if split in shards
        else _missing_split(str(place), split, list(shards))
        for split in splits
    }


def _missing_split(where: str, split: str, found: list[str]) -> RawSplit:
    problem = f"{where}: no split {split!r}; it has: {', '.join(found)}"
    if others := [name for name in ("dev", "valid", "val", "test") if name in found]:
        problem += f". If {others[0]} has labels, save it as {split}"
    return RawSplit(where, problems=[problem])


@dataclass(frozen=True)
class _Shard:
    """One parquet file of a split: its index from 0, and the number of files if its name has it."""

    index: int
    count: int | None
    path: Path


def _shards(folder: Path) -> dict[str, list[_Shard]]:
    """Return the parquet files of a folder by split, in the order of their indices."""
    found: dict[str, list[_Shard]] = {}
    for path in sorted([*folder.glob("*.parquet"), *folder.glob("*/*.parquet")]):
        name = path.relative_to(folder).as_posix()
        if not path.is_file():
            continue
        if match := SHARD.fullmatch(name):
            shard = _Shard(int(match["index"] or 0), int(match["count"] or 1), path)
        elif match := CONVERTED.fullmatch(name):
            shard = _Shard(int(match["index"]), None, path)
        else:
            continue
        found.setdefault(match["split"], []).append(shard)
    return {split: sorted(shards, key=lambda one: one.index) for split, shards in found.items()}


def _check_shards(where: str, shards: Sequence[_Shard]) -> list[str]:
    """Return a problem if a file of a split is missing or there twice."""
    count = shards[0].count
    expected = [(index, count) for index in range(count or len(shards))]
    if [(one.index, one.count) for one in shards] == expected:
        return []
    wanted = "the files 0000.parquet, 0001.parquet and so on"
    if count is not None:
        wanted = f"each of {count} files once, -00000-of-{count:05} and so on"
    names = ", ".join(one.path.name for one in shards[:10])
    return [
        f"{where}: expected {wanted}; there are {len(shards)}: {names}. Download the data set again"
    ]


def _read_shards(
    task: Task, where: str, shards: Sequence[_Shard], card_names: tuple[str, ...] | None
) -> RawSplit:
    """Return one split of parquet files."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import ClassLabel, Features

    if problems := _check_shards(where, shards):
        return RawSplit(where, problems=problems)
    needed, tables = [*task.text_columns, LABEL], []
    for path in (one.path for one in shards):
        try:
            with pq.ParquetFile(path) as file:
                schema = file.schema_arrow
                if problems := check_columns(needed, schema.names, str(path)):
                    return RawSplit(where, problems=problems)
                tables.append(file.read(columns=needed))
        except DAMAGED as error:
            again = f"{path} is damaged ({_one_line(error)}); download it again"
            return RawSplit(where, problems=[again])
    try:
        table = pa.concat_tables(tables)
        features = Features.from_arrow_schema(table.schema)
    except DAMAGED as error:
        why = f"{where}: the files do not fit together ({_one_line(error)}); download them again"
        return RawSplit(where, problems=[why])
    if not isinstance(features[LABEL], ClassLabel) and card_names and not task.is_regression:
        features[LABEL] = ClassLabel(names=list(card_names))
    columns = {name: table[name].to_pylist() for name in needed}
    return _raw_split(task, where, features, columns, needed)


def _raw_split(
    task: Task,
    where: str,
    features: "Features",
    columns: Mapping[str, Sequence[object]],
    found: Sequence[str],
) -> RawSplit:
    """Return the columns of a split, with the names of its classes if it has them.

    Args:
        task: Names the columns of texts.
        where: The folder and the split.
        features: The types of the columns.
        columns: The values of the task's columns.
        found: The names of all columns.
    """
    from datasets import ClassLabel

    if problems := check_columns((*task.text_columns, LABEL), found, where):
        return RawSplit(where, problems=problems)
    kind, labels = features[LABEL], columns[LABEL]
    return RawSplit(
        where=where,
        texts={name: columns[name] for name in task.text_columns},
        labels=labels,
        rows=range(len(labels)),
        unit="row",
        label_names=tuple(kind.names) if isinstance(kind, ClassLabel) else None,
    )


def _card_names(task: Task, path: Path) -> tuple[str, ...] | None:
    """Return the class names in a card's `dataset_info`, None if it has none.

    Raises:
        ValueError: If the card's metadata is not YAML.
    """
    try:
        return card.class_names(card.read(path), task.name, LABEL)
    except HubError as error:
        raise ValueError(f"{path}: {error}; download it again") from None


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
