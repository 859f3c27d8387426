"""Sentences of the text alternatives: ranges of values by panel, in plain characters."""

from collections.abc import Iterable, Mapping, Sequence

from lora.figures import labels
from lora.figures.rows import count_constant
from lora.files import Row

MOST = 6  # groups of values in a text; of more groups, the number is given


def counts(cells: Iterable[Row], runs: Sequence[Row]) -> str:
    """Return the number of finished runs of these cells, and how many runs are constant.

    Args:
        cells: Rows with the column `n`.
        runs: Rows with the columns BEST_COLUMNS, one for each requested run.

    Returns:
        For example `n = 3`, or `n = 3; 2 of 12 runs predict one class` with constant runs.
    """
    constant = count_constant(runs)
    counted = f"; {constant} of {len(runs)} runs predict one class" if constant else ""
    return labels.run_counts(cells) + counted


def panel_name(row: Row) -> str:
    """Return the name of a cell's panel: task, model and metric with its unit."""
    metric = labels.metric_with_unit(row["metric"])
    return f"{row['task_title']}, {labels.model_name(row['model'])}, {metric}"


def ranges(groups: Mapping[str, Sequence[tuple[float, str]]]) -> str:
    """Return the lowest and highest value of each group, with what they belong to.

    Args:
        groups: Name of a group, and its values with their labels.

    Returns:
        For example `RTE, MiniLM, accuracy (%): 60.5 (W_q r=1) to 72.2 (W_q, W_v r=8)`.
    """
    return shorten(f"{name}: {_range(values)}" for name, values in groups.items() if values)


def shorten(parts: Iterable[str]) -> str:
    """Join parts with semicolons; after MOST parts, give the number of the others.

    Without parts, such as of cells whose runs are all constant, it is `none`.
    """
    found = list(parts)
    more = f"; and {len(found) - MOST} more" if len(found) > MOST else ""
    return "; ".join(found[:MOST]) + more or "none"


def _range(values: Sequence[tuple[float, str]]) -> str:
    (low, low_label), (high, high_label) = min(values), max(values)
    if len(values) == 1:
        return f"{low:.1f} ({labels.plain(low_label)})"
    return f"{low:.1f} ({labels.plain(low_label)}) to {high:.1f} ({labels.plain(high_label)})"
