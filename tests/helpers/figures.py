"""Tables to draw from, and the text of a drawn figure."""

import html
import itertools
import re
from pathlib import Path
from unittest import mock

from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from lora.experiment.grid import Grid
from lora.figures import results
from lora.tables import cells, collect


def words(svg: bytes) -> str:
    """Return the text of a figure, without its description.

    Matplotlib writes text as it is, and a text with formulas as single letters after a comment.
    """
    found = re.findall(r"<!-- (.*?) -->|<text[^>]*>([^<]+)</text>", svg.decode(), re.S)
    return "\n".join(html.unescape(comment or text) for comment, text in found)


def drawn_texts(figure: Figure) -> list[tuple[str, Bbox]]:
    """Draw a figure, and return the texts that are drawn with their boxes in pixels."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    drawn = []
    draw = Text.draw

    def record(text: Text, renderer: RendererBase) -> None:
        if text.get_visible() and text.get_text().strip():
            drawn.append(text)
        draw(text, renderer)

    with mock.patch.object(Text, "draw", record):
        figure.draw(renderer)
    return [
        (text.get_text(), Text.get_window_extent(text, renderer))
        for text in {id(text): text for text in drawn}.values()
    ]


def check_texts(figure: Figure) -> None:
    """Check the texts of a figure: one size, all inside the figure, none over another."""
    canvas = FigureCanvasAgg(figure)
    texts = drawn_texts(figure)
    width, height = canvas.get_width_height()
    assert {text.get_fontsize() for text in figure.findobj(Text) if text.get_text()} == {7}
    assert figure.get_figwidth() in (3.3, 7.0)
    for text, box in texts:
        inside = box.x0 > -1 and box.y0 > -1 and box.x1 < width + 1 and box.y1 < height + 1
        assert inside, f"{text!r} leaves the figure: {box}"
    for (text, box), (other, other_box) in itertools.combinations(texts, 2):
        wide = min(box.x1, other_box.x1) - max(box.x0, other_box.x0)
        high = min(box.y1, other_box.y1) - max(box.y0, other_box.y0)
        assert wide < 1 or high < 1, f"{text!r} and {other!r} overlap"


def draw_text(figure: str, tables_folder: Path, output_folder: Path) -> str:
    """Draw a figure as `figure.svg` and `figure.png` in `output_folder` and return its text."""
    results.draw(figure, tables_folder, output_folder / "figure")
    return words((output_folder / "figure.svg").read_bytes())


def write_tables(grid: Grid, folder: Path) -> Path:
    """Write the CSV files of a grid, whose runs are in `folder`/runs, and return their folder."""
    collect.collect(grid, folder / "runs", folder / "runs.csv")
    for name in grid.tables:
        cells.write(grid, folder / "runs.csv", name, folder / "tables")
    return folder / "tables"
