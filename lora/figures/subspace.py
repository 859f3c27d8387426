"""Draw the similarity of LoRA's subspaces as heat maps: the paper's Figures 3, 4, 6 and 7.

They are drawn from phi.csv, in SVG and PNG. The layout is the paper's: i down, j across, one panel
for each weight type. Figure 3 adds the magnified triangle j <= i with its numbers. Figure 4 adds a
pair of random matrices. Figures 6 and 7 have one row for each layer. All panels share one colour
scale from 0 to 1, so figures can be compared. A line on the scale marks the largest value of random
matrices, and each panel prints its phi(1, 1). The same CSV file gives the same bytes.
"""

import math
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from lora import files
from lora.columns import PHI_COLUMNS
from lora.figures.style import STYLE, caption, groups
from lora.tables.labels import MODELS

FIGURES = ("figure3", "figure4", "figure6", "figure7")
MAGNIFIED = ("figure3", "figure6")
NUMBERED = 10  # rows of a magnified panel that still have room for numbers
LOOK = STYLE | {
    "axes.grid": False,
    "axes.spines.top": True,
    "axes.spines.right": True,
    "axes.linewidth": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "image.cmap": "viridis",
}
SIDE = 1.75  # inches of a panel


def draw(figure: str, phi_csv: Path, output_stem: Path) -> None:
    """Write `output_stem`.svg and .png (200 dpi) of one of FIGURES. Raises ValueError for another,
    or one without rows.
    """
    if figure not in FIGURES:
        raise ValueError(f"no figure {figure!r}; there are: {', '.join(FIGURES)}; name one of them")
    rows = [row for row in files.read_csv(phi_csv, PHI_COLUMNS) if row["figure"] == figure]
    if not rows:
        raise ValueError(
            f"{phi_csv} has no rows of {figure}; make it again with `python -m lora subspace`"
        )
    stem = Path(output_stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(
        {**matplotlib.rcParamsDefault, **LOOK, "backend": matplotlib.rcParams["backend"]}
    ):
        drawn = _figure(rows, magnified=figure in MAGNIFIED)
        drawn.savefig(stem.with_name(f"{stem.name}.svg"), metadata={"Date": None})
        drawn.savefig(stem.with_name(f"{stem.name}.png"), dpi=200, metadata={"Software": None})


def _figure(rows: list[dict], magnified: bool) -> Figure:
    """A row of panels for each layer: the weight types, then the weight types magnified, or random
    matrices.
    """
    panels = groups(rows, "layer", "letter")
    layers = list(dict.fromkeys(layer for layer, _ in panels))
    letters = list(dict.fromkeys(letter for _, letter in panels))
    columns = 2 * len(letters) if magnified else len(letters) + 1
    figure = Figure(
        figsize=(SIDE * columns + 1.3, (SIDE + 0.42) * len(layers) + 0.75), layout="constrained"
    )
    axes = figure.subplots(len(layers), columns, squeeze=False)
    for line, layer in zip(axes, layers, strict=True):
        for axis, letter in zip(line, letters, strict=False):
            about = f"{_delta(letter)}, layer {layer} of {rows[0]['depth']}"
            image = _panel(axis, _matrix(panels[layer, letter], "phi"), about)
        for axis, letter in zip(
            line[len(letters) :], letters if magnified else letters[:1], strict=True
        ):
            if magnified:
                _triangle(
                    axis,
                    _matrix(panels[layer, letter], "phi"),
                    f"{_delta(letter)}, layer {layer}\nwhere $j \\leq i$",
                )
            else:
                _panel(
                    axis, _matrix(panels[layer, letter], "random_drawn"), "random Gaussian matrices"
                )
        line[0].set_ylabel("i")
    for axis in axes[-1]:
        axis.set_xlabel("j")
    bar = figure.colorbar(
        image, ax=axes, label="φ(i, j)", fraction=0.05, pad=0.02, aspect=24 * len(layers)
    )
    bar.ax.axhline(max(row["random_drawn"] for row in rows), color="white", linewidth=1.2)
    _caption(figure, rows)
    return figure


def _matrix(rows: list[dict], key: str) -> np.ndarray:
    """One column of phi.csv as a matrix, i down and j across."""
    values = np.full((max(row["i"] for row in rows), max(row["j"] for row in rows)), math.nan)
    for row in rows:
        values[row["i"] - 1, row["j"] - 1] = row[key]
    return values


def _delta(letter: str) -> str:
    return rf"$\Delta W_{letter}$"


def _panel(axis, values: np.ndarray, about: str):
    axis.set_title(f"{about}\nφ(1, 1) = {values[0, 0]:.2f}", fontsize=8)
    return _image(axis, values)


def _image(axis, values: np.ndarray):
    high, wide = values.shape
    image = axis.imshow(
        values,
        vmin=0,
        vmax=1,
        aspect="auto",
        interpolation="none",
        extent=(0.5, wide + 0.5, high + 0.5, 0.5),
    )
    axis.set_xticks(_ticks(wide))
    axis.set_yticks(_ticks(high))
    return image


def _triangle(axis, values: np.ndarray, title: str) -> None:
    """The panel's corner where j is at most i, with its numbers where they can be read."""
    size = min(values.shape)
    corner = np.where(np.tri(size, dtype=bool), values[:size, :size], math.nan)
    _image(axis, corner)
    axis.set_title(title, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    for i, j in zip(*np.nonzero(np.tri(size)), strict=True):
        if size <= NUMBERED:
            colour = "black" if corner[i, j] > 0.45 else "white"
            text = f"{corner[i, j]:.2f}".removeprefix("0")
            axis.text(j + 1, i + 1, text, ha="center", va="center", fontsize=5, color=colour)


def _ticks(count: int) -> list[int]:
    """1 and about four more, the last of them `count`."""
    if count <= NUMBERED:
        return list(range(1, count + 1))
    return sorted({1, *(round(count * quarter / 4) for quarter in range(1, 5))})


def _caption(figure: Figure, rows: list[dict]) -> None:
    about = rows[0]
    expected = [row["random_expected"] for row in rows]
    drawn, start = (max(row[key] for row in rows) for key in ("random_drawn", "phi_at_start"))
    began = (
        "not known, they started from other adapters"
        if math.isnan(start)
        else f"at most {start:.2f}"
    )
    text = (
        f"{MODELS.get(about['model'], about['model'])}, {about['task']}. i: directions of A in run "
        f"{about['first']}; j: in "
        f"run {about['second']}. φ is 0 for subspaces at right angles, 1 for one inside the other. "
        "Of random subspaces it "
        f"is max(i, j)/d on average, here {min(expected):.3f} to {max(expected):.2f}; "
        f"drawn at most {drawn:.2f}, the white "
        f"line on the scale. Of these A before training: {began}."
    )
    caption(figure, text, [])
