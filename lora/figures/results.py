"""Draw the figures of the tables' CSV files, as SVG and PNG, each with a text file.

Nothing is computed here: every mark is a number in a CSV file, so a figure can't disagree with a
table. The same CSV files give the same bytes: no dates, and a fixed salt for SVG names.
"""

from collections.abc import Callable
from pathlib import Path

from lora.figures import (
    drawing,
    head_ablation,
    learning_curves,
    parameters,
    rank_cost,
    ranks,
    table2,
)
from lora.figures.drawing import Drawing

FIGURES: dict[str, Callable[[Path], Drawing]] = {
    "table2": table2.table2,
    "rank_curves": ranks.rank_curves,
    "rank_cost": rank_cost.rank_cost,
    "head_ablation": head_ablation.head_ablation,
    "learning_curves": learning_curves.learning_curves,
    "parameters": parameters.parameters,
}


def draw(figure: str, tables_folder: Path, output_stem: Path) -> None:
    """Write one of FIGURES to `output_stem`.svg and .png (300 dpi), and its text to .txt.

    Args:
        figure: Name of the figure.
        tables_folder: Folder with the CSV files of the tables. A table that was not requested has
            no files there, and is not drawn.
        output_stem: Path without the suffix. Its folder is created.

    Raises:
        ValueError: If there is no such figure.
    """
    if figure not in FIGURES:
        raise ValueError(f"no figure {figure!r}; there are: {', '.join(FIGURES)}; name one of them")
    drawing.save(lambda: FIGURES[figure](Path(tables_folder)), output_stem)
