"""Tables to draw from, and the text of a drawn figure."""

import re
from pathlib import Path

from lora.experiment.grid import Grid
from lora.figures import results
from lora.tables import cells, collect


def words(svg: bytes) -> str:
    """Return the text of a figure: matplotlib draws glyphs as paths and adds comments with it."""
    return "\n".join(re.findall(r"<!-- (.*?) -->", svg.decode(), re.S))


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
