"""Tables to draw from, and the words of a drawn figure."""

import re

from lora.figures import results
from lora.tables import cells, collect


def words(svg: bytes) -> str:
    """Return the text of a figure: matplotlib keeps each text as a comment."""
    return "\n".join(re.findall(r"<!-- (.*?) -->", svg.decode(), re.S))


def drawn(figure: str, folder, place) -> str:
    """Draw a figure into `place` and return its words."""
    results.draw(figure, folder, place / "figure")
    return words((place / "figure.svg").read_bytes())


def write_tables(asked, place):
    collect.collect(asked, place / "runs", place / "runs.csv")
    for name in asked.tables:
        cells.write(asked, place / "runs.csv", name, place / "tables")
    return place / "tables"
