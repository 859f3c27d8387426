"""GLUE data: the official TSV files, and data sets of the hub.

Any other task in one of these layouts can be read too. Test splits have no labels and are never
read.

QQP's official files have a few broken lines. GLUE's reference readers leave out a line without one
of the columns they need, or with an empty label, and of a longer line they take the columns by
their index: the processors of transformers (`except IndexError: continue`) and the script that
made the hub's copy (csv.DictReader, "Filter out corrupted rows"). So does this reader, for official
files with few such lines. In a file of the user's own each such line is an error.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lora.data import arrow, tsv
from lora.data.checks import check_columns
from lora.data.examples import UNLIMITED, RawSplit, ReadCounts
from lora.errors import ConfigError, shown
from lora.experiment.task import Task

MOST_RAGGED = 0.001  # share of ragged lines in an official file; more is an error
SHOWN = 3  # ragged lines that a message shows in full


@dataclass(frozen=True)
class Layout:
    """Columns of an official TSV data set.

    Attributes:
        folder: Its folder inside the GLUE download.
        texts: Columns of the one or two texts.
        label: Column of the label.
        header: Column names of a file without a header line.
        limits: Lowest and highest score of a regression task.
    """

    folder: str
    texts: tuple[str, ...]
    label: str = "label"
    header: tuple[str, ...] | None = None
    limits: tuple[float, float] = UNLIMITED


# Files of gluebenchmark.com.
OFFICIAL = {
    "cola": Layout("CoLA", ("sentence",), header=("source", "label", "mark", "sentence")),
    "sst2": Layout("SST-2", ("sentence",)),
    "mrpc": Layout("MRPC", ("#1 String", "#2 String"), "Quality"),
    "stsb": Layout("STS-B", ("sentence1", "sentence2"), "score", limits=(0.0, 5.0)),
    "qqp": Layout("QQP", ("question1", "question2"), "is_duplicate"),
    "mnli": Layout("MNLI", ("sentence1", "sentence2"), "gold_label"),
    "qnli": Layout("QNLI", ("question", "sentence")),
    "rte": Layout("RTE", ("sentence1", "sentence2")),
}
DEV_FILES = {
    "validation": "dev",
    "validation_matched": "dev_matched",
    "validation_mismatched": "dev_mismatched",
}


def read(task: Task, folder: Path) -> dict[str, RawSplit]:
    """Return the task's splits from a folder in one of the layouts.

    A task that is not in OFFICIAL needs its `text_columns` and `label` in the header. The official
    files may be in the folder or in its subfolder of the official name.

    Raises:
        ValueError: If the data are not there, or there more than once.
    """
    layout = OFFICIAL.get(task.name, Layout(task.name, task.text_columns))
    places = (arrow.SAVED, "train.tsv", f"{layout.folder}/train.tsv")
    found = [name for name in places if (folder / name).is_file()]
    found += arrow.parquet_folders(task, folder)
    if not found:
        raise ValueError(
            f"task {task.name}: no data in {folder}; allowed: a folder with {arrow.SAVED} "
            f"(datasets' save_to_disk), train.tsv, {layout.folder}/train.tsv, or parquet files of "
            f"the hub (train-00000-of-00001.parquet or train/0000.parquet, also in {task.name}/)"
            f"{_other_files(folder)}"
        )
    if len(found) > 1:
        raise ValueError(
            f"task {task.name}: {folder} has {' and '.join(found)}; keep the data in one of them"
        )
    splits = ("train", *task.eval_splits)
    if found == [arrow.SAVED]:
        return arrow.read_saved(task, folder, splits)
    if not found[0].endswith(".tsv"):
        return arrow.read_parquet(task, folder, folder / found[0], splits)
    folder = (folder / found[0]).parent
    return {split: _read_tsv(task, layout, split, folder) for split in splits}


def _other_files(folder: Path) -> str:
    """Return a hint for files that look like tables in another format."""
    if (folder / "state.json").is_file():
        return ". It is a single saved split; save a DatasetDict with all splits"
    kinds = (".csv", ".json", ".jsonl", ".xlsx", ".txt", ".tsv", ".gz", ".zip")
    files = [path for path in sorted(folder.glob("*")) if path.suffix in kinds and path.is_file()]
    names = [path.name for path in files[:5]]
    return f". It has {', '.join(names)}; save it as one of these" if names else ""


def _file_of(split: str, folder: Path) -> Path:
    """Return the path of a split's file: the official dev.tsv, or validation.tsv as on the hub.

    Raises:
        ValueError: If both are there, or neither.
    """
    official, own = folder / f"{DEV_FILES.get(split, split)}.tsv", folder / f"{split}.tsv"
    if official != own and official.is_file() and own.is_file():
        raise ValueError(
            f"{folder} has both {official.name} and {own.name} for split {split}; keep one of them"
        )
    if not official.exists() and not own.exists():
        names = ", ".join(sorted(path.name for path in folder.glob("*.tsv")))
        raise ValueError(
            f"there is no file {official} or {own.name} for split {split}; the folder has {names}. "
            f"Save the examples with labels that you evaluate on as {own.name}"
        )
    return own if own.is_file() else official


def _read_tsv(task: Task, layout: Layout, split: str, folder: Path) -> RawSplit:
    """Return the columns of a split's TSV file."""
    try:
        path = _file_of(split, folder)
        rows = tsv.read_rows(path)
    except ConfigError as error:
        return RawSplit(str(folder), problems=[f"{error.title} {one}" for one in error.problems])
    except ValueError as error:
        return RawSplit(str(folder), problems=[str(error)])
    header = list(layout.header or rows[0][1])
    if problems := check_columns((*layout.texts, layout.label), header, str(path)):
        if len(header) == 1 and any(mark in header[0] for mark in ",;"):
            problems[0] += "; the columns must be separated by tabs"
        return RawSplit(str(path), problems=problems)
    lines = rows if layout.header else rows[1:]
    at = [header.index(name) for name in (*layout.texts, layout.label)]
    ragged = [(number, cells) for number, cells in lines if len(cells) != len(header)]
    counts, problems = ReadCounts(), []
    if task.name in OFFICIAL:
        broken = {number for number, cells in lines if _is_broken(cells, at)}
        long = [number for number, cells in ragged if number not in broken]
        counts = ReadCounts(skipped_lines=len(broken), long_lines=len(long))
        lines = [(number, cells) for number, cells in lines if number not in broken]
        ragged = [line for line in rows if line[0] in broken.union(long)]
    if len(ragged) > (MOST_RAGGED * len(rows) if task.name in OFFICIAL else 0):
        problems = _explain_ragged(path, ragged, header, len(rows), task.name in OFFICIAL)
        lines = [(number, cells) for number, cells in lines if len(cells) == len(header)]
    *texts, labels = [[cells[index] for _, cells in lines] for index in at]
    return RawSplit(
        where=str(path),
        texts=dict(zip(layout.texts, texts, strict=True)),
        labels=labels,
        rows=[number for number, _ in lines],
        limits=layout.limits,
        problems=problems,
        counts=counts,
    )


def _is_broken(cells: Sequence[str], at: Sequence[int]) -> bool:
    """Return whether a line of an official file lacks a column that is needed, or its label."""
    return len(cells) <= max(at) or not cells[at[-1]]


def _explain_ragged(
    path: Path, ragged: tsv.Rows, header: list[str], lines: int, official: bool
) -> list[str]:
    """Return a problem for each of the first ragged lines, and one with the numbers of all."""
    problems = []
    for number, cells in ragged[:SHOWN]:
        hint = ""
        if any(cell.startswith('"') for cell in cells):
            hint = f"; for a tab or line end inside a cell, {tsv.QUOTE_ALL}"
        elif len(cells) == len(header):
            hint = ", but no label"
        problems.append(
            f"{path}, line {number}: {len(cells)} columns; expected {len(header)}: "
            f"{shown(header)}{hint}. The line is {shown(chr(9).join(cells), 300)}"
        )
    if official:
        problems[-1] += (
            f". Few such lines are skipped, but {len(ragged)} of {lines} lines is more than "
            f"{MOST_RAGGED:.1%}: download the file again"
        )
    if len(ragged) > 1:
        numbers = ", ".join(_ranges([number for number, _ in ragged]))
        problems.append(f"{path}: {len(ragged)} of {lines} lines are like this: {numbers}")
    return problems


def _ranges(numbers: list[int]) -> list[str]:
    """Return numbers in ascending order as ranges, such as 3, 5-9."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    listed = [f"{first}" if first == last else f"{first}-{last}" for first, last in ranges]
    return listed if len(listed) <= 200 else [*listed[:200], "..."]
