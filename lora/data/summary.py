"""Summary of a task's data: examples, labels, token lengths and how many examples are cut."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from lora.data import prepare
from lora.data.examples import Examples
from lora.data.tokenizer import ModelTokenizer
from lora.experiment.task import Task

QUANTILES = (0.5, 0.9, 0.99)
MOST_CLASSES = 20  # that the text lists
WIDTH = 30  # of a class name in the text
Summary = dict[str, Any]  # JSON


def of_task(task: Task, splits: Mapping[str, Examples]) -> Summary:
    """Return the counts and labels of a task's splits as JSON values.

    Args:
        task: The task, with its classes.
        splits: Its examples by split.
    """
    return {
        "task": task.name,
        "title": task.title,
        "metric": task.metric,
        "label_names": list(task.label_names),
        "splits": {name: _of_split(task, splits[name]) for name in ("train", *task.eval_splits)},
    }


def _of_split(task: Task, examples: Examples) -> Summary:
    counts = examples.counts
    found: Summary = {
        "examples": len(examples),
        "skipped_rows": counts.skipped_lines,
        "empty_texts": counts.empty_texts,
        "repeated": counts.repeated,
        "in_train": counts.in_train,
        "made": examples.made,
    }
    if task.is_regression:
        scores = np.array(examples.labels)
        low, mean, high = (float(one) for one in (scores.min(), scores.mean(), scores.max()))
        return found | {"scores": {"lowest": low, "mean": mean, "highest": high}}
    numbers = Counter(int(label) for label in examples.labels)
    names = task.label_names or tuple(map(str, range(task.num_labels)))
    return found | {"labels": {name: numbers[number] for number, name in enumerate(names)}}


def lengths(examples: Examples, tokenizer: ModelTokenizer, max_tokens: int) -> Summary:
    """Return the lengths of a split in tokens, special tokens included, before examples are cut.

    Args:
        examples: The split.
        tokenizer: A tokenizer that does not cut.
        max_tokens: Length at which training cuts examples.
    """
    found: list[int] = []
    for start in range(0, len(examples), prepare.CHUNK):
        texts = prepare.texts_of(examples, start, start + prepare.CHUNK)
        found += [len(encoding) for encoding in tokenizer.encode(texts)]
    of_each = np.array(found)
    middle = np.quantile(of_each, QUANTILES, method="higher")
    return {
        "mean": round(float(of_each.mean()), 2),
        **{f"{share:.0%}": int(value) for share, value in zip(QUANTILES, middle, strict=True)},
        "longest": int(of_each.max()),
        "cut": int((of_each > max_tokens).sum()),
    }


def text(summary: Summary) -> str:
    """Return a summary as text of at most 80 columns.

    Args:
        summary: What `of_task` returned. With "model" and "max_tokens", each split also has
            "tokens", what `lengths` returned.
    """
    splits: dict[str, Summary] = summary["splits"]
    lines = [f"{summary['task']}: {summary['title']}, metric {summary['metric']}"]
    lines += [f"{name} was made: {one['made']}" for name, one in splits.items() if one["made"]]
    head = ["split", "examples", "skipped", "empty", "repeated", "in train"]
    keys = ("examples", "skipped_rows", "empty_texts", "repeated", "in_train")
    rows = [[name, *(f"{one[key]:,}" for key in keys)] for name, one in splits.items()]
    lines += ["", *_table([head, *rows])]
    if summary["label_names"] or "labels" in next(iter(splits.values())):
        lines += ["", *_labels(splits)]
    else:
        rows = [
            [name, *(f"{value:.3g}" for value in one["scores"].values())]
            for name, one in splits.items()
        ]
        lines += ["", *_table([["scores", "lowest", "mean", "highest"], *rows])]
    if "model" in summary:
        tokens = {name: one["tokens"] for name, one in splits.items()}
        head = [f"tokens of {summary['model']}"[:WIDTH], *next(iter(tokens.values()))]
        rows = [[name, *(f"{value:,}" for value in one.values())] for name, one in tokens.items()]
        lines += ["", *_table([head, *rows]), f"cut: longer than {summary['max_tokens']} tokens"]
    return "\n".join(lines)


def _labels(splits: Mapping[str, Summary]) -> list[str]:
    """Return the table of labels: the number and the share of each class in each split."""
    names = list(next(iter(splits.values()))["labels"])
    rows = [["label", *(cell for name in splits for cell in (name, "share"))]]
    for label in names[:MOST_CLASSES]:
        row = [label if len(label) <= WIDTH else f"{label[: WIDTH - 3]}..."]
        for one in splits.values():
            count = one["labels"][label]
            row += [f"{count:,}", f"{count / one['examples']:.1%}"]
        rows.append(row)
    more = len(names) - MOST_CLASSES
    return [*_table(rows), *([f"and {more} more labels; --json has them"] if more > 0 else [])]


def _table(rows: list[list[str]]) -> list[str]:
    """Return aligned columns: the first on the left, the others on the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
