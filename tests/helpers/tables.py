"""Small tables of synthetic runs, and the text of their pages."""

from pathlib import Path

from helpers.synthetic import epochs, load, make_table, table, write_run
from lora.experiment.grid import Grid
from lora.tables import cells
from lora.tables.labels import Page


def small(seeds=(0, 1, 2), tasks=("sst2",), **axes) -> Grid:
    """Return a grid of Table 2 alone, for RoBERTa-base and `tasks`."""
    return load(
        seeds=list(seeds), tables=dict(table2=table(["roberta-base"], tasks, **axes), table6=None)
    )


def with_values(grid: Grid, folder: Path, series, metric="accuracy", **others) -> cells.TableData:
    """Return a table of one cell.

    `series` has for each seed a list of metrics by epoch, or None for a missing run.
    """
    for seed, values in zip(grid.seeds, series, strict=True):
        if values is not None:
            write_run(grid, grid.cells[0], seed, folder / "runs", epochs(values, metric, **others))
    return make_table(grid, folder)


def text_of(page: Page) -> str:
    """Return the cells of a page, one line per row."""
    return "\n".join(" | ".join(line.cells) for section in page.sections for line in section.lines)


def lines_of(page: Page, kind: str) -> list[tuple[str, ...]]:
    """Return the rows of one kind: ours, published or difference."""
    return [line.cells for section in page.sections for line in section.lines if line.kind == kind]
