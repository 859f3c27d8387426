"""GLUE data: the official TSV files, and data sets of the hub saved by `datasets`.

Both give the hub's label numbers. Any other task in one of these layouts can be read too. Test
splits have no labels and are never read. QQP's official training file has a few broken lines: they
are refused here and left out of the hub's copy.
"""

from dataclasses import dataclass
from pathlib import Path

from lora.data import tsv
from lora.data.examples import UNLIMITED, Examples, from_columns, parse_label
from lora.errors import shown
from lora.experiment.task import Task

ENTAILMENT = {"entailment": 0, "not_entailment": 1}
SAVED = "dataset_dict.json"  # in a folder that datasets' save_to_disk wrote


@dataclass(frozen=True)
class Layout:
    """Columns of an official TSV data set.

    Attributes:
        folder: Its folder inside the GLUE download.
        texts: Columns of the one or two texts.
        label: Column of the label.
        names: Label names and the hub's numbers; None if the file has numbers.
        header: Column names of a file without a header line.
        limits: Lowest and highest score of a regression task.
    """

    folder: str
    texts: tuple[str, ...]
    label: str = "label"
    names: dict[str, int] | None = None
    header: tuple[str, ...] | None = None
    limits: tuple[float, float] = UNLIMITED


# Files of gluebenchmark.com; label numbers of nyu-mll/glue@bcdcba7.
OFFICIAL = {
    "cola": Layout("CoLA", ("sentence",), header=("source", "label", "mark", "sentence")),
    "sst2": Layout("SST-2", ("sentence",)),
    "mrpc": Layout("MRPC", ("#1 String", "#2 String"), "Quality"),
    "stsb": Layout("STS-B", ("sentence1", "sentence2"), "score", limits=(0.0, 5.0)),
    "qqp": Layout("QQP", ("question1", "question2"), "is_duplicate"),
    "mnli": Layout(
        "MNLI",
        ("sentence1", "sentence2"),
        "gold_label",
        {"entailment": 0, "neutral": 1, "contradiction": 2},
    ),
    "qnli": Layout("QNLI", ("question", "sentence"), names=ENTAILMENT),
    "rte": Layout("RTE", ("sentence1", "sentence2"), names=ENTAILMENT),
}
DEV_FILES = {
    "validation": "dev",
    "validation_matched": "dev_matched",
    "validation_mismatched": "dev_mismatched",
}


def read(task: Task, folder: Path) -> dict[str, Examples]:
    """Return the task's splits from a folder in either layout.

    A task that is not in OFFICIAL needs its `text_columns` and `label` in the header. The official
    files may be in the folder or in its subfolder of the official name.

    Raises:
        ValueError: If the data are not there, there more than once, or wrong.
    """
    layout = OFFICIAL.get(task.name, Layout(task.name, task.text_columns))
    places = (SAVED, "train.tsv", f"{layout.folder}/train.tsv")
    found = [name for name in places if (folder / name).is_file()]
    if not found:
        raise ValueError(
            f"task {task.name}: no data in {folder}; allowed: a folder with {SAVED} (datasets' "
            f"save_to_disk), train.tsv, or {layout.folder}/train.tsv"
        )
    if len(found) > 1:
        raise ValueError(
            f"task {task.name}: {folder} has {' and '.join(found)}; keep the data in one of them"
        )
    if found == [SAVED]:
        return _read_saved(task, folder)
    folder = (folder / found[0]).parent
    return {
        split: _read_tsv(task, layout, _file_of(split, folder))
        for split in ("train", *task.eval_splits)
    }


def _read_saved(task: Task, folder: Path) -> dict[str, Examples]:
    """Read a data set that `datasets` saved with `save_to_disk`."""
    from datasets import load_from_disk

    damaged = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
    try:
        saved = load_from_disk(str(folder))
    except damaged as error:
        raise ValueError(
            f"{folder}: datasets cannot load this data set ({type(error).__name__}: "
            f"{str(error)[:300]}); save or fetch it again"
        ) from None
    splits = {}
    for split in ("train", *task.eval_splits):
        if split not in saved:
            raise ValueError(f"{folder}: no split {split!r}; it has: {', '.join(saved)}")
        table, where = saved[split], f"{folder}, split {split}"
        _check_columns((*task.text_columns, "label"), table.column_names, where)
        texts = [table[name][:] for name in task.text_columns]
        for name, column in zip(task.text_columns, texts, strict=True):
            for row, text in enumerate(column):
                if not isinstance(text, str):
                    raise ValueError(f"{where}, row {row}, column {name}: {text!r}; expected text")
        labels = [
            parse_label(task, label, f"{where}, row {row}")
            for row, label in enumerate(table["label"][:])
        ]
        splits[split] = from_columns(texts, labels, where)
    return splits


def _check_columns(needed: tuple[str, ...], found: list[str], where: str) -> None:
    missing = [name for name in needed if name not in found]
    if missing:
        raise ValueError(f"{where}: no column {missing}; it has: {', '.join(found)}")


def _file_of(split: str, folder: Path) -> Path:
    """Return the path of a split's file: the official dev.tsv, or validation.tsv as on the hub.

    Raises:
        ValueError: If both are there.
    """
    official, own = folder / f"{DEV_FILES.get(split, split)}.tsv", folder / f"{split}.tsv"
    if official != own and official.is_file() and own.is_file():
        raise ValueError(
            f"{folder} has both {official.name} and {own.name} for split {split}; keep one of them"
        )
    return own if own.is_file() else official


def _read_tsv(task: Task, layout: Layout, path: Path) -> Examples:
    rows = tsv.read_rows(path)
    header = list(layout.header or rows[0][1])
    first = 0 if layout.header else 1
    _check_header((*layout.texts, layout.label), header, path)
    texts: list[list[str]] = [[] for _ in layout.texts]
    labels = []
    text_indices = [header.index(name) for name in layout.texts]
    label_index = header.index(layout.label)
    for number, cells in rows[first:]:
        where = f"{path}, line {number}"
        if len(cells) != len(header):
            hint = ""
            if task.name == "qqp":
                hint = " (the hub's copy, glue:qqp, leaves such lines out)"
            elif any(cell.startswith('"') for cell in cells):
                hint = f"; for a tab or line end inside a cell, {tsv.QUOTE_ALL}"
            raise ValueError(
                f"{where}: {len(cells)} columns; expected {len(header)}: {shown(header)}{hint}"
            )
        for column, index in zip(texts, text_indices, strict=True):
            column.append(cells[index])
        labels.append(parse_label(task, cells[label_index], where, layout.names, layout.limits))
    return from_columns(texts, labels, str(path))


def _check_header(needed: tuple[str, ...], header: list[str], path: Path) -> None:
    missing = [name for name in needed if name not in header]
    if missing:
        raise ValueError(
            f"{path}: no column {missing}; its header is {shown(header)}, expected "
            f"{', '.join(needed)}"
        )
    repeated = sorted({name for name in needed if header.count(name) > 1})
    if repeated:
        raise ValueError(
            f"{path}: column {', '.join(repeated)} is in its header more than once; keep one"
        )
