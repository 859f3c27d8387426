"""Draw the similarity of LoRA's subspaces as heat maps: the paper's Figures 3, 4, 6 and 7.

They are drawn from phi.csv, in SVG and PNG. The layout is the paper's: i down, j across, one panel
for each weight type. Figure 3 adds the magnified triangle j <= i with its numbers. Figure 4 adds a
pair of random matrices. Figures 6 and 7 have one row for each layer. All panels share one colour
scale from 0 to 1, so figures can be compared. A line on the scale marks the largest value of random
matrices, and each panel prints its phi(1, 1). The same CSV file gives the same bytes.
"""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from lora import files
from lora.columns import PHI_COLUMNS, group_by
from lora.figures import labels, style
from lora.files import Row

FIGURES = ("figure3", "figure4", "figure6", "figure7")
MAGNIFIED = ("figure3", "figure6")
NUMBERED = 10  # most rows of a panel that has its values as numbers, and a tick for each row
STYLE: style.Settings = style.STYLE | {
    "axes.grid": False,
    "axes.spines.top": True,
    "axes.spines.right": True,
    "axes.linewidth": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "image.cmap": "viridis",
}
SIDE = 1.75  # of a panel, in inches

Matrix = npt.NDArray[np.float64]


def draw(figure: str, phi_csv: Path, output_stem: Path) -> None:
    """Write one of FIGURES to `output_stem`.svg and .png (200 dpi).

    Args:
        figure: Name of the figure.
        phi_csv: The file that `lora subspace` wrote.
        output_stem: Path without the suffix. Its folder is created.

    Raises:
        ValueError: If there is no such figure, or `phi_csv` has no rows of it.
    """
    if figure not in FIGURES:
        raise ValueError(f"no figure {figure!r}; there are: {', '.join(FIGURES)}; name one of them")
    rows = [row for row in files.read_csv(phi_csv, PHI_COLUMNS) if row["figure"] == figure]
    if not rows:
        raise ValueError(
            f"{phi_csv} has no rows of {figure}; make it again with `python -m lora subspace`"
        )
    style.save(lambda: _heat_maps(rows, figure in MAGNIFIED), output_stem, STYLE)


def _heat_maps(rows: list[Row], magnified: bool) -> Figure:
    """Draw a row of panels for each layer.

    Args:
        rows: Rows of one figure, with the columns PHI_COLUMNS.
        magnified: Whether the weight types are followed by their magnified triangles, instead of
            by a pair of random matrices.
    """
    by_panel = group_by(rows, "layer", "letter")
    layers = list(dict.fromkeys(layer for layer, _ in by_panel))
    letters = list(dict.fromkeys(letter for _, letter in by_panel))
    columns = 2 * len(letters) if magnified else len(letters) + 1
    size = (SIDE * columns + 1.3, (SIDE + 0.42) * len(layers) + 0.75)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(layers), columns, squeeze=False)
    for axes_row, layer in zip(axes, layers, strict=True):
        for ax, letter in zip(axes_row, letters, strict=False):
            title = f"{_delta(letter)}, layer {layer} of {rows[0]['depth']}"
            image = _draw_panel(ax, _matrix(by_panel[layer, letter], "phi"), title)
        others = axes_row[len(letters) :]
        if magnified:
            for ax, letter in zip(others, letters, strict=True):
                title = f"{_delta(letter)}, layer {layer}\nwhere $j \\leq i$"
                _draw_triangle(ax, _matrix(by_panel[layer, letter], "phi"), title)
        else:
            random = _matrix(by_panel[layer, letters[0]], "random_drawn")
            _draw_panel(others[0], random, "random Gaussian matrices")
        axes_row[0].set_ylabel("i")
    for ax in axes[-1]:
        ax.set_xlabel("j")
    bar = figure.colorbar(
        image, ax=axes, label="φ(i, j)", fraction=0.05, pad=0.02, aspect=24 * len(layers)
    )
    bar.ax.axhline(max(row["random_drawn"] for row in rows), color="white", linewidth=1.2)
    style.add_caption(figure, _caption(rows), [])
    return figure


def _matrix(rows: list[Row], key: str) -> Matrix:
    """Return one column of phi.csv as a matrix, [i, j]."""
    values = np.full((max(row["i"] for row in rows), max(row["j"] for row in rows)), math.nan)
    for row in rows:
        values[row["i"] - 1, row["j"] - 1] = row[key]
    return values


def _delta(letter: str) -> str:
    return rf"$\Delta W_{letter}$"


def _draw_panel(ax: Axes, values: Matrix, title: str) -> AxesImage:
    """Draw a whole matrix, [i, j], with its first value in the title."""
    ax.set_title(f"{title}\nφ(1, 1) = {values[0, 0]:.2f}", fontsize=8)
    return _draw_image(ax, values)


def _draw_image(ax: Axes, values: Matrix) -> AxesImage:
    """Draw a matrix, [i, j], as a heat map with i down and j across, counted from 1."""
    height, width = values.shape
    image = ax.imshow(
        values,
        vmin=0,
        vmax=1,
        aspect="auto",
        interpolation="none",
        extent=(0.5, width + 0.5, height + 0.5, 0.5),
    )
    ax.set_xticks(_ticks(width))
    ax.set_yticks(_ticks(height))
    return image


def _draw_triangle(ax: Axes, values: Matrix, title: str) -> None:
    """Draw the part of a matrix where j is at most i, with numbers if there is room for them."""
    size = min(values.shape)
    corner = np.where(np.tri(size, dtype=bool), values[:size, :size], math.nan)
    _draw_image(ax, corner)
    ax.set_title(title, fontsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    if size > NUMBERED:
        return
    for i, j in zip(*np.nonzero(np.tri(size)), strict=True):
        colour = "black" if corner[i, j] > 0.45 else "white"
        text = f"{corner[i, j]:.2f}".removeprefix("0")
        ax.text(j + 1, i + 1, text, ha="center", va="center", fontsize=5, color=colour)


def _ticks(count: int) -> list[int]:
    """Return every number from 1 to `count`; above NUMBERED, 1 and the four quarters of `count`."""
    if count <= NUMBERED:
        return list(range(1, count + 1))
    return sorted({1, *(round(count * quarter / 4) for quarter in range(1, 5))})


def _caption(rows: list[Row]) -> str:
    first = rows[0]
    expected = [row["random_expected"] for row in rows]
    drawn, start = (max(row[key] for row in rows) for key in ("random_drawn", "phi_at_start"))
    before = "φ is unknown (the runs started from other adapters)"
    if not math.isnan(start):
        before = f"φ was at most {start:.2f}"
    return (
        f"{labels.model_name(first['model'])}, {first['task']}. "
        f"i: directions of A in run {first['first']}; j: in run {first['second']}. "
        "φ is 0 for orthogonal subspaces and 1 if one contains the other. For random subspaces it "
        f"is max(i, j)/d on average, here {min(expected):.3f} to {max(expected):.2f}; "
        f"the largest value drawn is {drawn:.2f}, the white line on the colour scale. "
        f"Before training, {before}."
    )
