"""Draw the similarity of LoRA's subspaces as heat maps: the paper's Figures 3, 4, 6 and 7.

They are drawn from phi.csv, in SVG and PNG. The layout is the paper's: i down, j across, one panel
for each weight type. Figure 3 adds the magnified triangle j <= i with its numbers. Figure 4 adds a
pair of random matrices. Figures 6 and 7 have one row for each layer. All panels of a figure share
one colour scale: from 0 to 1 if the values take up most of it, else from the lowest to the highest
value. Colours follow a power of the value, chosen so that the median of the figure has the middle
colour: most values are small, and would be dark. The scale has the ticks of the values. A line on
it marks the largest value of random matrices, and each panel prints its phi(1, 1). The same CSV
file gives the same bytes.
"""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patheffects import withStroke

from lora import files
from lora.columns import PHI_COLUMNS, group_by
from lora.figures import alt_text, drawing, labels, layout, style
from lora.figures.drawing import Drawing
from lora.files import Row

FIGURES = ("figure3", "figure4", "figure6", "figure7")
MAGNIFIED = ("figure3", "figure6")
NUMBERED = 8  # most rows of a panel that has its values as numbers, and a tick for each row
STYLE: style.Settings = style.STYLE | {
    "axes.grid": False,
    "axes.spines.top": True,
    "axes.spines.right": True,
    "image.cmap": "viridis",
}
LEAST_POWER = 0.3  # of the colour scale: a lower one makes small differences large
WHOLE_SCALE = 0.8  # values that take up so much of 0 to 1 are shown on the scale from 0 to 1
COLUMNS = 4  # most columns with the triangles beside the weight types

Matrix = npt.NDArray[np.float64]


def draw(figure: str, phi_csv: Path, output_stem: Path) -> None:
    """Write one of FIGURES to `output_stem`.svg and .png (300 dpi), and its text to .txt.

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
    drawing.save(lambda: heat_maps(rows, figure in MAGNIFIED), output_stem, STYLE)


def heat_maps(rows: list[Row], magnified: bool) -> Drawing:
    """Draw a row of panels for each layer.

    Args:
        rows: Rows of one figure, with the columns PHI_COLUMNS.
        magnified: Whether the weight types are followed by their magnified triangles, instead of
            by a pair of random matrices.
    """
    by_panel = group_by(rows, "layer", "letter")
    layers = list(dict.fromkeys(layer for layer, _ in by_panel))
    letters = list(dict.fromkeys(letter for _, letter in by_panel))
    beside = magnified and 2 * len(letters) <= COLUMNS
    columns = len(letters) * (2 if beside else 1) + (not magnified)
    rows_per_layer = 2 if magnified and not beside else 1
    scale = _scale(rows)
    side = (layout.TWO_COLUMNS - 0.6) / columns  # of a panel with its labels, in inches
    height = (min(side, 2.2) + 0.2) * len(layers) * rows_per_layer
    figure = Figure(figsize=(layout.TWO_COLUMNS, height), layout="constrained")
    axes = figure.subplots(len(layers) * rows_per_layer, columns, squeeze=False)
    of_layers = axes.reshape(len(layers), -1)
    for of_layer, layer in zip(of_layers, layers, strict=True):
        for ax, letter in zip(of_layer, letters, strict=False):
            title = f"{_delta(letter)}, layer {layer} of {rows[0]['depth']}"
            values = _matrix(by_panel[layer, letter], "phi")
            image = _draw_panel(ax, values, title, columns, scale)
        others = of_layer[len(letters) :]
        if magnified:
            for ax, letter in zip(others, letters, strict=True):
                title = f"{_delta(letter)}, layer {layer}\nwhere $j \\leq i$"
                layout.set_title(ax, title, columns)
                _draw_triangle(ax, _matrix(by_panel[layer, letter], "phi"), scale)
        else:
            random = _matrix(by_panel[layer, letters[0]], "random_drawn")
            _draw_panel(others[0], random, "random Gaussian matrices", columns, scale)
    for ax in axes[:, 0]:
        ax.set_ylabel("i")
    for ax in axes[-1]:
        ax.set_xlabel("j")
    bar = figure.colorbar(image, ax=axes, label="φ(i, j)", fraction=0.05, pad=0.02, aspect=24)
    bar.ax.axhline(
        max(row["random_drawn"] for row in rows),
        color="white",
        linewidth=1.2,
        path_effects=[withStroke(linewidth=2.4, foreground="black")],
    )
    numbered = magnified and min(max(row[key] for row in rows) for key in "ij") <= NUMBERED
    text = _caption(rows, scale) + (" Numbers: 100 φ." if numbered else "")
    layout.add_caption(figure, text, [])
    return Drawing(figure, "Similarity of LoRA's subspaces", _alt_text(rows, scale))


def _scale(rows: list[Row]) -> PowerNorm:
    """Return the colour scale of a figure: limits, and a power that spreads the values over it."""
    values = [row[key] for row in rows for key in ("phi", "random_drawn")]
    low, high = min(values), max(values)
    if high - low >= WHOLE_SCALE:
        low, high = 0.0, 1.0
    median = float(np.median([row["phi"] for row in rows]))
    share = (median - low) / (high - low) if high > low else 0.5
    power = math.log(0.5) / math.log(share) if 0 < share < 1 else 1.0
    return PowerNorm(round(min(max(power, LEAST_POWER), 1.0), 2), low, high)


def _matrix(rows: list[Row], key: str) -> Matrix:
    """Return one column of phi.csv as a matrix, [i, j]."""
    values = np.full((max(row["i"] for row in rows), max(row["j"] for row in rows)), math.nan)
    for row in rows:
        values[row["i"] - 1, row["j"] - 1] = row[key]
    return values


def _delta(letter: str) -> str:
    return rf"$\Delta W_{letter}$"


def _draw_panel(ax: Axes, values: Matrix, title: str, columns: int, scale: PowerNorm) -> AxesImage:
    """Draw a whole matrix, [i, j], with its first value in the title."""
    layout.set_title(ax, f"{title}\nφ(1, 1) = {values[0, 0]:.2f}", columns)
    return _draw_image(ax, values, scale)


def _draw_image(ax: Axes, values: Matrix, scale: PowerNorm) -> AxesImage:
    """Draw a matrix, [i, j], as a heat map with i down and j across, counted from 1."""
    height, width = values.shape
    image = ax.imshow(
        values,
        norm=scale,
        aspect="auto",
        interpolation="none",
        extent=(0.5, width + 0.5, height + 0.5, 0.5),
    )
    ax.set_xticks(_ticks(width))
    ax.set_yticks(_ticks(height))
    return image


def _draw_triangle(ax: Axes, values: Matrix, scale: PowerNorm) -> None:
    """Draw the part of a matrix where j is at most i, with 100 φ as numbers if there is room."""
    size = min(values.shape)
    corner = np.where(np.tri(size, dtype=bool), values[:size, :size], math.nan)
    _draw_image(ax, corner, scale)
    ax.spines[["top", "right"]].set_visible(False)
    if size > NUMBERED:
        return
    for i, j in zip(*np.nonzero(np.tri(size)), strict=True):
        colour = "black" if scale(corner[i, j]) > 0.45 else "white"
        text = f"{100 * corner[i, j]:.0f}"
        ax.text(j + 1, i + 1, text, ha="center", va="center", color=colour)


def _ticks(count: int) -> list[int]:
    """Return every number from 1 to `count`; above NUMBERED, 1 and the four quarters of `count`."""
    if count <= NUMBERED:
        return list(range(1, count + 1))
    return sorted({1, *(round(count * quarter / 4) for quarter in range(1, 5))})


def _caption(rows: list[Row], scale: PowerNorm) -> str:
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
        f"Before training, {before}. {_scale_text(scale)}"
    )


def _scale_text(scale: PowerNorm) -> str:
    """Return what the colours span, and that they are the figure's own."""
    is_whole = (scale.vmin, scale.vmax) == (0, 1)
    text = f"Colours span the values of this figure, {scale.vmin:.2f} to {scale.vmax:.2f}"
    if is_whole:
        text = "Colours span 0 to 1"
    if scale.gamma != 1:
        text += f", by the power {scale.gamma:g}"
    is_shared = is_whole and scale.gamma == 1
    return f"{text}." if is_shared else f"{text}: do not compare them with another figure's."


def _alt_text(rows: list[Row], scale: PowerNorm) -> str:
    first = rows[0]
    values = alt_text.shorten(
        f"{labels.plain(_delta(row['letter']))} in layer {row['layer']} {row['phi']:.2f}"
        for row in rows
        if (row["i"], row["j"]) == (1, 1)
    )
    drawn = max(row["random_drawn"] for row in rows)
    return (
        f"Heat maps of the similarity φ(i, j) of LoRA's subspaces in runs {first['first']} and "
        f"{first['second']} on {labels.model_name(first['model'])}, {first['task']}. φ(1, 1): "
        f"{values}; the largest value of random matrices is {drawn:.2f}. {_scale_text(scale)}"
    )
