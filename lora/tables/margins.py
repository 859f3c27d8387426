"""Notes on the differences to published values: which are within their uncertainty."""

import math

from lora.columns import group_by
from lora.experiment.grid import Grid
from lora.files import Row
from lora.tables.labels import (
    OTHER_SETS,
    Note,
    Subject,
    adapted,
    listed,
    method_name,
    model_name,
    origin,
)

FROM = {
    "both": "from both spreads",
    "ours": "from our spread alone, as theirs or its n is not published",
    "single": "with the published value taken as one run that varies as ours",
}

BEYOND: Subject = ("beyond",)  # differences that are larger than their margin


def notes(grid: Grid, values: list[Row]) -> list[Note]:
    """Return notes on the margins of differences, and on which differences are within them.

    Args:
        grid: The grid of the table.
        values: Its published values, with the columns PUBLISHED_COLUMNS.
    """
    same = [value for value in values if value["relation"] == "same"]
    known = [value for value in same if not math.isnan(value["difference"])]
    with_margin = [value for value in known if value["margin_from"]]
    found = []
    if with_margin:
        used = dict.fromkeys(value["margin_from"] for value in with_margin)
        text = (
            "± of a difference is half of its 95 % interval: Student's t with the degrees of "
            "freedom of Welch and Satterthwaite, times sqrt(e1² + e2²). e is std/sqrt(n) of a "
            "mean, and sqrt(π/2) times that of a median (the large-sample error of normal data). "
            "A published ± counts as a standard deviation over its runs, also where the source "
            f"does not say what it is. Margins are {'; or '.join(FROM[name] for name in used)}."
        )
        found.append(Note(text))
    groups = group_by(map(_with_names, known), "row_name", "source_name")
    for (name, source), group in groups.items():
        parts = []
        for text, of_kind in (
            ("within", [v for v in group if v["margin_from"] and _is_within(v)]),
            ("beyond", [v for v in group if v["margin_from"] and not _is_within(v)]),
            (
                "without a margin (Avg, fewer than two runs, or runs that do not vary):",
                [v for v in group if not v["margin_from"]],
            ),
        ):
            if of_kind:
                parts.append(f"{text} {listed([column_name(grid, value) for value in of_kind])}")
        margin = "its 95 % margin, " if any(v["margin_from"] for v in group) else ""
        text = f"Difference of {name} to the {source} and {margin}{'; '.join(parts)}."
        found.append(Note(text))
    return found


def beyond(values: list[Row]) -> list[Note]:
    """Return a note on the differences that are larger than their margin, if there are any."""
    if not any(map(is_beyond, values)):
        return []
    text = "The difference is larger than its 95 % margin, which is on the page of all statistics."
    return [Note(text, (BEYOND,))]


def is_beyond(value: Row) -> bool:
    """Return whether the difference to a published value is larger than its margin."""
    return bool(value["margin_from"]) and not _is_within(value)


def _with_names(value: Row) -> Row:
    """Return a value with what its differences are grouped by: our row and the source."""
    name = f"{model_name(value['ours_model'])}, {method_name(value)}, {value['ours_protocol']}"
    if value["table"] != "table2":
        name = f"{model_name(value['ours_model'])}, {value['ours_protocol']}"
    return value | {"row_name": name, "source_name": origin(value)}


def _is_within(value: Row) -> bool:
    return bool(abs(value["difference"]) <= value["difference_margin"])


def column_name(grid: Grid, value: Row) -> str:
    """Return a name for the column that a published value is in: task, or weights and rank."""
    if value["table"] != "table2":
        return f"{adapted(value['method'], value['weights'])} r={value['rank']}"
    if value["task"] == "average":
        return "Avg"
    suffix = OTHER_SETS.get(value["metric"])
    return grid.tasks[value["task"]].title + (f"-{suffix}" if suffix else "")
