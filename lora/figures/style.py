"""Shared by all figures: reading a table's CSV files, colours, lines, panels, labels, captions.

Series differ by colour (Okabe and Ito's palette, safe for colour-blind readers, then brown and
grey), by marker and by dash. A failed or missing run is not drawn, and the caption counts it. A
figure without data says so.
"""

import textwrap
from pathlib import Path

from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from lora import columns, files
from lora.tables.labels import METHODS, METRICS, MODELS, OTHER_SETS, SYMBOLS

BLACK, BLUE, ORANGE, GREEN, PURPLE, GREY = (
    "#000000",
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#666666",
)
SERIES = (  # colour, marker, dash
    (BLUE, "o", "-"),
    (ORANGE, "s", (0, (5, 2))),
    (GREEN, "^", (0, (1, 1.5))),
    (PURPLE, "D", (0, (5, 1.5, 1, 1.5))),
    ("#56B4E9", "v", (0, (8, 2))),
    ("#E69F00", "P", (0, (3, 1, 1, 1, 1, 1))),
    ("#7A5C3E", "X", (0, (2, 1))),
    (GREY, "<", (0, (6, 1, 2, 1))),
)
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e5e8",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "svg.hashsalt": "lora",
    "svg.fonttype": "path",
}
CELL = columns.CELL_COLUMNS
KINDS = {"": "TABLE", "_published": "PUBLISHED", "_best": "BEST", "_curves": "CURVES"}
LEFT_OUT = ("average", *OTHER_SETS)  # metrics of table 2 that no figure draws


def read(folder: Path, table: str, kind: str = "") -> list[dict]:
    """Return the rows of one of a table's CSV files; none if the table was not requested."""
    path = folder / f"{table}{kind}.csv"
    return (
        files.read_csv(path, getattr(columns, f"{KINDS[kind]}_COLUMNS")) if path.is_file() else []
    )


def panels(rows: int, columns: int, height: float, width: float = 2.4, **shared):
    """A figure of `height` inches with room for a legend above and a caption below, and its axes,
    [rows, columns].
    """
    figure = Figure(figsize=(max(4.6, width * columns + 0.5), height + 0.55), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def nothing(why: str) -> Figure:
    """A picture that says why there is none."""
    figure = Figure(figsize=(4.5, 1.6))
    figure.text(0.5, 0.5, why, ha="center", va="center", wrap=True, color=GREY)
    return figure


def finish(figure: Figure, axes, used: int, columns: int = 4, proxies: dict | None = None) -> None:
    """Blank the panels that are left over; one legend above all panels, each name once, then those
    of `proxies`.
    """
    axes = list(axes)
    for axis in axes[used:]:
        axis.set_axis_off()
    found = {}
    for axis in axes[:used]:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    found = dict(
        sorted(found.items(), key=lambda item: not isinstance(item[1], ErrorbarContainer))
    ) | (proxies or {})
    fits = max(
        1, int(figure.get_figwidth() / (1.5 if max(map(len, found)) < 24 else 2.2))
    )  # inches that a name takes
    across = min(columns, fits, len(found))
    figure.set_figheight(figure.get_figheight() + 0.17 * max(0, -(-len(found) // across) - 2))
    figure.legend(found.values(), found, loc="outside upper center", ncols=across)


def caption(figure: Figure, text: str, best: list[dict]) -> None:
    """Text under the figure, with what is absent from it."""
    absent = [
        f"{sum(run['status'] == status for run in best)} {word}"
        for status, word in (
            ("missing", "missing"),
            ("non_finite", "failed"),
            ("undefined", "with an undefined metric"),
        )
        if any(run["status"] == status for run in best)
    ]
    text += f"\nNot shown, of {len(best)} runs: {', '.join(absent)}." if absent else ""
    text = "\n".join(
        textwrap.fill(line, int(17 * figure.get_figwidth())) for line in text.splitlines()
    )
    figure.supxlabel(text, fontsize=7, color=GREY, ha="center")


def points(
    axis,
    x: list,
    y: list,
    series,
    vertical: list | None = None,
    sideways: list | None = None,
    **options,
) -> None:
    """Marks with bars, upright or lying; a NaN in a spread is a mark without one."""
    colour, marker, dash = series
    style = dict(color=colour, marker=marker, linestyle=dash, capsize=2, elinewidth=0.9) | options
    axis.errorbar(x, y, yerr=vertical, xerr=sideways, **style)


def ticks(**options) -> MaxNLocator:
    return MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], **options)


def rank_axis(axis, ranks: list[int]) -> None:
    axis.set_xscale("log", base=2)
    axis.set_xticks(ranks, [str(rank) for rank in ranks])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlim(ranks[0] / 1.5, ranks[-1] * 1.5)
    axis.yaxis.set_major_locator(ticks())
    axis.set_xlabel("rank r (log scale)")


def groups(rows: list[dict], *keys: str) -> dict[tuple, list[dict]]:
    """Rows by the values of these keys, in the order they first come."""
    found = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return found


def finished(rows: list[dict]) -> list[dict]:
    return [row for row in rows if row["n"] > 0]


def same(row: dict, cell: dict, *more: str) -> bool:
    """Whether two rows are of one cell."""
    return all(row[key] == cell[key] for key in (*CELL, *more))


def count(rows: list[dict]) -> str:
    counts = sorted({row["n"] for row in rows})
    return f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"


def weights_order(rows: list[dict]) -> list[str]:
    """Weight types in the order that gives them the same colour in every figure."""
    return sorted({row["weights"] for row in rows}, key=lambda weights: (len(weights), weights))


def method_order(rows: list[dict]) -> list[dict]:
    """Rows in the paper's order of methods, otherwise as they come."""
    return sorted(rows, key=lambda row: list(METHODS).index(row["method"]))


def model(name: str) -> str:
    return MODELS.get(name, name)


def weights(letters: str) -> str:
    return ", ".join(rf"$W_{letter}$" for letter in letters)


def symbol(method: str) -> str:
    """A method as the paper prints it: FT, Adpt with its letter raised, LoRA."""
    base, mark, letter = SYMBOLS[method].partition("^")
    return f"{base}$^{letter}$" if mark else base


def adapted(row: dict) -> str:
    """What a cell's method adapts, where the method's name does not say it."""
    if row["method"] == "lora":
        return weights(row["weights"])
    dropped = row["weights"].removeprefix("ffn") if row["method"] == "adapter_drop" else "0"
    return f"layers {int(dropped) + 1}+" if dropped != "0" else ""


def row_label(row: dict) -> str:
    """A row of table 2 in a few characters: method, size, and what it adapts."""
    if row["method"] == "lora":
        return f"{symbol('lora')} {adapted(row)} r={row['rank']}"
    size = f" {row['rank']}" if row["rank"] else ""
    return ", ".join(word for word in (symbol(row["method"]) + size, adapted(row)) if word)


def series_of(rows: list[dict]) -> dict[tuple, tuple]:
    """(method, weights, rank, protocol) -> colour, marker, dash: a colour for each value of the
    first of method, weights, protocol and rank that differs, and markers and dashes for what else
    does.
    """
    keys = ("method", "weights", "rank", "protocol")
    in_order = method_order(sorted(rows, key=lambda row: (len(row["weights"]), row["weights"])))
    lines = list(groups(in_order, *keys))
    first = next((place for place in (0, 1, 3, 2) if len({line[place] for line in lines}) > 1), 0)
    values, found = list(dict.fromkeys(line[first] for line in lines)), {}
    for line in lines:
        own = values.index(line[first])
        before = sum(other[first] == line[first] for other in found)
        _, marker, dash = SERIES[(own + 3 * before) % len(SERIES)]
        found[line] = (SERIES[own % len(SERIES)][0], marker, dash)
    return found


def several(rows: list[dict], key: str) -> bool:
    return len({row[key] for row in rows}) > 1


def metric(name: str) -> str:
    return METRICS.get(name, name).removesuffix(" × 100") + (
        " (%)" if name in ("accuracy", "f1") else " × 100"
    )
