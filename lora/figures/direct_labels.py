"""Labels at the lines of a panel, where they cover nothing and belong to one line only.

A label is tried to the right of its line's last point, first at the same height and then above and
below with a thin connecting line, and then above and below the points of its line. Positions are in
pixels: `box` is (left, bottom, right, top), `points` are [n, 2].
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

Points = npt.NDArray[np.float64]
Box = tuple[float, float, float, float]
Position = tuple[Box, Points | None]  # of a label, and its connecting line

WIDEST = 0.4  # of a panel's width: a longer label makes no room for itself to the right
STEP = 3.0  # pixels between two points of a sampled line
GAP = 4.0  # pixels between a label and anything else; markers have a radius of 3
LINK = 16.0  # pixels from the last point of a line to a label with a connecting line
NO_POINTS: Points = np.empty((0, 2))


@dataclass
class _Line:
    """A labelled line, with what is drawn of it."""

    label: str
    colour: str
    points: Points
    drawn: Points
    size: tuple[float, float]


@dataclass
class _Panel:
    """A panel with its labelled lines, and everything that a label must not cover."""

    ax: Axes
    box: Box
    lines: list[_Line]
    marks: Points
    placed: list[tuple[_Line, Box, Points | None]] = field(default_factory=list)


def place(figure: Figure, axes: Sequence[Axes]) -> bool:
    """Label every labelled line of these panels.

    Args:
        figure: The figure, complete but for a legend.
        axes: Its panels. Their horizontal axis may be made longer at the right end.

    Returns:
        Whether there is room for each label. If not, the figure is as before.
    """
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    limits = [ax.get_xlim() for ax in axes]
    for ax in axes:
        _make_room(_read(ax, canvas))
    found = [_read(ax, canvas) for ax in axes]
    if not all(_place_panel(panel) for panel in found):
        for ax, limit in zip(axes, limits, strict=True):
            ax.set_xlim(limit)
        return False
    for panel in found:
        _write(panel)
    return True


def _read(ax: Axes, canvas: FigureCanvasAgg) -> _Panel:
    """Return a panel's lines and marks, in pixels."""
    lines = []
    for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
        artists: list[Artist] = [handle]
        if isinstance(handle, ErrorbarContainer):
            data, caps, bars = handle.lines
            artists = [data, *caps, *bars]
        first = artists[0]
        text = ax.text(0, 0, label)
        extent = text.get_window_extent(canvas.get_renderer())
        text.remove()
        if isinstance(first, Line2D) and len(_vertices(first)):
            drawn = np.concatenate([_sample(artist) for artist in artists])
            size = (extent.width, extent.height)
            lines.append(_Line(label, str(first.get_color()), _vertices(first), drawn, size))
    marks = [_sample(artist) for artist in (*ax.lines, *ax.collections)]
    left, bottom, right, top = map(float, ax.get_window_extent().extents)
    return _Panel(ax, (left, bottom, right, top), lines, np.concatenate([NO_POINTS, *marks]))


def _vertices(line: Line2D) -> Points:
    points = line.get_transform().transform(line.get_xydata())
    return points[np.isfinite(points).all(axis=1)]


def _sample(artist: Artist) -> Points:
    """Return points of a line or of error bars, STEP apart; no points for bands."""
    if isinstance(artist, LineCollection):
        transform = artist.get_transform()
        parts = [transform.transform(segment) for segment in artist.get_segments()]
        return np.concatenate([NO_POINTS, *(_along(part) for part in parts if len(part))])
    if isinstance(artist, Line2D):
        points = _vertices(artist)
        return points if artist.get_linestyle() in ("None", "") else _along(points)
    return NO_POINTS


def _along(points: Points) -> Points:
    """Return points on a polygonal line, STEP apart."""
    parts = [points]
    for start, end in zip(points[:-1], points[1:], strict=True):
        count = int(np.hypot(*(end - start)) / STEP) + 1
        parts.append(start + np.linspace(0, 1, count + 1)[:, None] * (end - start))
    return np.concatenate(parts)


def _make_room(panel: _Panel) -> None:
    """Extend the horizontal axis so that labels fit to the right of the last points."""
    left, _, right, _ = panel.box
    inside = [line for line in panel.lines if line.points[-1, 0] < right - 1]
    widths = [line.size[0] + LINK + GAP for line in inside]
    if not inside or max(widths) > WIDEST * (right - left):
        return
    ends = [line.points[-1, 0] for line in inside]
    missing = max(end + width - right for end, width in zip(ends, widths, strict=True))
    if missing <= 0:
        return
    scale = panel.ax.xaxis.get_transform()
    low, high = scale.transform(np.array(panel.ax.get_xlim()))
    furthest = (max(ends) - left) / (right - left)  # the axis from here on has the labels
    longer = low + (high - low) * furthest / (1 - max(widths) / (right - left))
    panel.ax.set_xlim(right=float(scale.inverted().transform(np.array([longer]))[0]))


def _place_panel(panel: _Panel) -> bool:
    """Choose a position for each label, the highest line first; return whether all have one."""
    for line in sorted(
        panel.lines, key=lambda line: -line.points[-1, 1] if len(line.points) else 0
    ):
        position = next((one for one in _positions(line) if _is_free(panel, line, *one)), None)
        if position is None:
            return False
        panel.placed.append((line, *position))
    return True


def _positions(line: _Line) -> Iterator[Position]:
    """Yield positions of a line's label, the best first."""
    width, height = line.size
    x, y = line.points[-1]
    for up in (0, 1, -1):
        middle = y + 0.5 * up * height
        yield _box(x + 2 * GAP, middle, line.size), None
    for up in (1, -1, 2, -2, 3, -3):
        middle = y + 0.6 * up * height
        link = _along(np.array([(x + GAP, y), (x + LINK, middle)]))
        yield _box(x + LINK + 1, middle, line.size), link
    for x in line.points[::-1, 0]:
        near = line.drawn[np.abs(line.drawn[:, 0] - x) < GAP, 1]  # the point and its error bar
        for left in (x - width / 2, x - width, x, x - 1.5 * GAP - width):
            for middle in (near.max() + GAP + height / 2 + 1, near.min() - GAP - height / 2 - 1):
                yield _box(left, middle, line.size), None


def _box(left: float, middle: float, size: tuple[float, float]) -> Box:
    return (left, middle - size[1] / 2, left + size[0], middle + size[1] / 2)


def _is_free(panel: _Panel, line: _Line, box: Box, link: Points | None) -> bool:
    """Return whether a label here covers nothing, and is nearest to its own line."""
    left, bottom, right, top = panel.box
    if box[0] < left + 1 or box[1] < bottom + 1 or box[2] > right or box[3] > top:
        return False
    if _distance(box, panel.marks) < GAP:
        return False
    others = [other for other in panel.lines if other is not line]
    if link is None:
        nearest = min((_distance(box, other.drawn) for other in others), default=np.inf)
        if _distance(box, line.drawn) > 0.5 * nearest:
            return False
    for _, placed, placed_link in panel.placed:
        apart = placed[2] < box[0] or placed[0] > box[2] or placed[3] < box[1] or placed[1] > box[3]
        crossed = placed_link is not None and _distance(box, placed_link) < 1
        crosses = link is not None and _distance(placed, link) < 1
        if not apart or crossed or crosses:
            return False
    return True


def _distance(box: Box, points: Points) -> float:
    """Return the distance of the nearest point to a box, 0 inside it."""
    if not len(points):
        return np.inf
    x = np.maximum.reduce([box[0] - points[:, 0], points[:, 0] - box[2], np.zeros(len(points))])
    y = np.maximum.reduce([box[1] - points[:, 1], points[:, 1] - box[3], np.zeros(len(points))])
    return float(np.hypot(x, y).min())


def _write(panel: _Panel) -> None:
    """Write the labels; positions become fractions of the panel, for any resolution."""
    fraction = panel.ax.transAxes.inverted()
    for line, box, link in panel.placed:
        x, y = fraction.transform((box[0], (box[1] + box[3]) / 2))
        start = (x, y) if link is None else fraction.transform(link[0])
        arrow = dict(arrowstyle="-", color=line.colour, linewidth=0.6, shrinkA=1, shrinkB=0)
        label = panel.ax.annotate(
            line.label,
            xy=tuple(start),
            xytext=(x, y),
            xycoords="axes fraction",
            va="center",
            arrowprops=None if link is None else arrow | {"relpos": (0, 0.5)},
        )
        label.set_in_layout(False)
