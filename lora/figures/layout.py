"""Layout of a figure: panels at column width, titles, labels of lines, legend and caption.

A figure is as wide as one column of a page (one panel) or two, so that its text needs no scaling.
"""

import re
import textwrap
from collections.abc import Iterable, Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from lora.figures import direct_labels, labels
from lora.figures.rows import count_constant
from lora.figures.style import BLACK, CONSTANT, FONT_SIZE, GREY
from lora.files import Row

ONE_COLUMN, TWO_COLUMNS = 3.3, 7.0  # width of a figure, in inches
LINE = 1.35 * FONT_SIZE / 72  # height of a line of text, in inches
METRIC_CHARACTERS = 18  # most characters in a line of a vertical label
OUTSIDE_FORMULAS = r" (?=(?:[^$]*\$[^$]*\$)*[^$]*$)"  # a space that is not between two $
HARD_SPACE = "\u00a0"
CHARACTER, BOLD = 0.56 * FONT_SIZE / 72, 0.66 * FONT_SIZE / 72  # mean width, in inches


def panels(
    rows: int, columns: int, height: float, height_ratios: Sequence[float] | None = None
) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure and its axes by row. A legend and a caption make it higher.

    Args:
        rows: Number of rows of panels.
        columns: Number of columns of panels.
        height: Height of all rows together, in inches.
        height_ratios: Relative heights of the rows; None for equal heights.
    """
    width = ONE_COLUMN if columns == 1 else TWO_COLUMNS
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, height_ratios=height_ratios)
    return figure, [list(row) for row in axes]


def hide(axes: Iterable[Axes]) -> None:
    """Hide the panels that have no data."""
    for ax in axes:
        ax.set_axis_off()


def set_title(ax: Axes, title: str, columns: int, colour: str = BLACK) -> None:
    """Set the title of one of `columns` panels of a row; long lines are wrapped."""
    width = ONE_COLUMN if columns == 1 else TWO_COLUMNS
    characters = int((width / columns - 0.25) / BOLD)
    # "n = 3" is not cut.
    lines = title.replace(" = ", f"{HARD_SPACE}={HARD_SPACE}").splitlines()
    wrapped = "\n".join(part for line in lines for part in _wrap(line, characters))
    ax.set_title(wrapped.replace(HARD_SPACE, " "), color=colour)


def _wrap(line: str, characters: int) -> list[str]:
    """Return a line in parts of at most `characters`; a formula is not cut."""
    if "$" not in line:
        return textwrap.wrap(line, characters)
    parts = [""]
    for word in re.split(OUTSIDE_FORMULAS, line):
        longer = f"{parts[-1]} {word}".strip()
        if parts[-1] and _length(longer) > characters:
            parts.append(word)
        else:
            parts[-1] = longer
    return parts


def _length(label: str) -> int:
    """Return the number of characters of a label as drawn."""
    return len(labels.plain(label).replace("_", "").replace("^", ""))


def label_metrics(axes: Sequence[Sequence[Axes]], names: Sequence[str]) -> None:
    """Label the vertical axis of each panel, unless its left neighbour has the same label.

    Args:
        axes: Panels by row.
        names: Labels of the panels, by row; panels at the end may have none.
    """
    columns = len(axes[0])
    for index, name in enumerate(names):
        row, column = divmod(index, columns)
        if column == 0 or names[index - 1] != name:
            axes[row][column].set_ylabel("\n".join(textwrap.wrap(name, METRIC_CHARACTERS)))


def label_lines(
    figure: Figure,
    axes: Sequence[Axes],
    columns: int = 4,
    extra: dict[str, Artist] | None = None,
) -> None:
    """Write the labels of lines at the lines if there is room in each panel, else in a legend.

    Stars of runs with constant predictions are no line: with them, there is a legend.

    Args:
        figure: The figure, with titles, axis labels and caption.
        axes: The panels with labelled data.
        columns: Most columns of the legend.
        extra: Entries that only a legend can show. If there are any, there is a legend.
    """
    stars = any(CONSTANT in ax.get_legend_handles_labels()[1] for ax in axes)
    if extra or stars or not direct_labels.place(figure, axes):
        add_legend(figure, axes, columns, extra)


def add_legend(
    figure: Figure,
    axes: Iterable[Axes],
    columns: int = 4,
    extra: dict[str, Artist] | None = None,
) -> None:
    """Add one legend for all panels above them, each label once; points with error bars first.

    Args:
        figure: The figure. It grows with the number of the legend's rows.
        axes: The panels with labelled data.
        columns: Most columns of the legend.
        extra: Further entries, drawn after those of the panels.
    """
    found: dict[str, Artist] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    ordered = sorted(found.items(), key=lambda item: not isinstance(item[1], ErrorbarContainer))
    entries = dict(ordered) | (extra or {})
    if not entries:
        return
    longest = max(_length(label) for label in entries)
    entry_width = longest * CHARACTER + 0.5  # with its line and the space beside it
    fitting = max(1, int(figure.get_figwidth() / entry_width))
    used_columns = min(columns, fitting, len(entries))
    legend_rows = -(-len(entries) // used_columns)
    figure.set_figheight(figure.get_figheight() + 1.15 * LINE * legend_rows + 0.05)
    figure.legend(
        list(entries.values()), list(entries), loc="outside upper center", ncols=used_columns
    )


def add_caption(figure: Figure, text: str, runs: Sequence[Row], has_stars: bool = True) -> None:
    """Add a caption below the panels, with the numbers of constant runs and of runs not drawn.

    Args:
        figure: The figure. It grows with the lines of the caption.
        text: The caption. Its lines are wrapped to the figure's width.
        runs: Rows with the columns BEST_COLUMNS, one for each requested run.
        has_stars: Whether runs with constant predictions are drawn as stars.
    """
    absent = [
        f"{sum(run['status'] == status for run in runs)} {word}"
        for status, word in (
            ("missing", "missing"),
            ("non_finite", "failed"),
            ("undefined", "with an undefined metric"),
        )
        if any(run["status"] == status for run in runs)
    ]
    constant = count_constant(runs)
    if constant:
        text += (
            f"\nConstant: {constant} of {len(runs)} runs predict one class only at their best or "
            "last epoch"
        )
        text += "; a cell of such runs alone has no other mark." if has_stars else "."
    if absent:
        text += f"\nNot shown, of {len(runs)} runs: {', '.join(absent)}."
    characters = int(figure.get_figwidth() / CHARACTER)
    lines = [wrapped for line in text.splitlines() for wrapped in textwrap.wrap(line, characters)]
    figure.set_figheight(figure.get_figheight() + LINE * len(lines))
    figure.supxlabel("\n".join(lines), fontsize=FONT_SIZE, color=GREY, ha="center")
