"""A figure with its text alternative, and its files: SVG, PNG and TXT."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import matplotlib
from matplotlib.figure import Figure

from lora import files
from lora.figures.style import FONTS, GREY, STYLE, Settings

PNG_DPI = 300


@dataclass(frozen=True)
class Drawing:
    """A figure, and what it shows in words for readers who do not see it.

    Attributes:
        figure: The figure.
        title: What is shown, in a few words.
        alt: One to three sentences: what is shown, and its main values.
    """

    figure: Figure
    title: str
    alt: str


def empty_drawing(reason: str) -> Drawing:
    """Return a figure that says why it shows no data."""
    figure = Figure(figsize=(3.3, 1.2))
    figure.text(0.5, 0.5, reason, ha="center", va="center", wrap=True, color=GREY)
    return Drawing(figure, reason.partition(":")[0], f"{reason}.")


def save(make: Callable[[], Drawing], output_stem: Path, settings: Settings = STYLE) -> None:
    """Write a figure to `output_stem`.svg and .png (300 dpi), and its text to .txt.

    The text is in the SVG and PNG too: as <title> and <desc>, and as Title and Description. The
    same figure gives the same bytes: the user's own matplotlib settings are ignored, and no date is
    written.

    Args:
        make: Draws the figure. It is called with the settings in force.
        output_stem: Path without the suffix. Its folder is created.
        settings: Changes to matplotlib's default settings.
    """
    stem = Path(output_stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    svg, png, text = (stem.with_name(f"{stem.name}.{end}") for end in ("svg", "png", "txt"))
    backend = matplotlib.rcParams["backend"]
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **settings, "backend": backend}):
        drawing = make()
        metadata = {"Title": drawing.title, "Date": None}
        drawing.figure.savefig(svg, metadata=metadata)
        metadata = {"Title": drawing.title, "Description": drawing.alt, "Software": None}
        drawing.figure.savefig(png, dpi=PNG_DPI, metadata=metadata)
    files.write_text(svg, _accessible(svg.read_text(encoding="utf-8"), drawing.alt))
    files.write_text(text, drawing.alt + "\n")


def _accessible(svg: str, alt: str) -> str:
    """Return an SVG with its description, and with fallback fonts for formulas.

    Matplotlib writes fallback fonts for other text only.
    """
    svg = svg.replace("<svg ", '<svg role="img" ', 1)
    svg = svg.replace("</title>", f"</title>\n <desc>{escape(alt)}</desc>", 1)
    stack = ", ".join(f"'{font}'" for font in FONTS)
    alone = f"font-family: '{FONTS[0]}'"
    for end in ('"', ";"):
        svg = svg.replace(f"{alone}{end}", f"font-family: {stack}, sans-serif{end}")
    return svg
