"""First page of the report: what was run, which claims of the paper it confirms, and one figure.

It is reStructuredText, because Snakemake puts a page of that kind first.
"""

import base64
import re
import textwrap
from pathlib import Path

from lora import files
from lora.experiment.grid import Grid
from lora.tables import claims, statistics
from lora.tables.labels import METHODS, listed, model_name

NAME = "home.rst"
LINE = 1000  # characters of a line of an image; docutils allows 10,000
SPECIAL = re.compile(r"([\\*`_|])")
WEIGHT = re.compile(r"W\\_([qkvo])")


def text(grid: Grid, runs_csv: Path, figure: Path | None) -> str:
    """Return the page.

    Args:
        grid: The grid.
        runs_csv: The file that `collect` wrote.
        figure: PNG file to show; None for no figure.

    Raises:
        ConfigError: If runs.csv lacks runs of the grid.
    """
    rows, _ = claims.make(grid, runs_csv)
    parts = [_about(grid, runs_csv)]
    if rows:
        parts.append("**Claims of the paper**")
        parts.append("\n".join(f"* {escaped(sentence)}" for sentence in claims.sentences(rows)))
    parts.append(_sizes(grid, runs_csv))
    if figure is not None:
        content = f"data:image/png;base64,{base64.b64encode(figure.read_bytes()).decode()}"
        lines = "\n   ".join(textwrap.wrap(content, LINE, break_on_hyphens=False))
        words = figure.with_suffix(".txt")
        alt = " ".join(words.read_text().split()) if words.is_file() else figure.stem
        parts.append(f".. image:: {lines}\n   :alt: {alt}")
    parts.append(
        "*Claims*, *table2* and the other tables are under Tables. *Provenance* lists versions, "
        "device and inputs of every run, *Configuration* every setting."
    )
    return "\n\n".join(parts) + "\n"


def write(grid: Grid, runs_csv: Path, figures_dir: Path, output: Path) -> None:
    """Write the page, with the first of rank_curves.png and table2.png that there is."""
    figures = (figures_dir / f"{name}.png" for name in ("rank_curves", "table2"))
    figure = next((path for path in figures if path.is_file()), None)
    files.write_text(output, text(grid, runs_csv, figure))


def escaped(plain: str) -> str:
    """Escape text for reStructuredText, and write W_q with a subscript."""
    return WEIGHT.sub(r"W\\ :sub:`\1`", SPECIAL.sub(r"\\\1", plain))


def _about(grid: Grid, runs_csv: Path) -> str:
    """Return what was run, in two or three sentences."""
    cells = grid.table_cells
    runs = statistics.read(grid, runs_csv, cells)
    counts = [statistics.counts(of_cell) for of_cell in runs.values()]
    done, requested = (sum(one[key] for one in counts) for key in ("n", "n_expected"))
    failed, missing = (sum(one[key] for one in counts) for key in ("n_failed", "n_missing"))
    models = listed([model_name(name) for name in dict.fromkeys(cell.model for cell in cells)])
    tasks = listed([grid.tasks[name].title for name in dict.fromkeys(c.task for c in cells)])
    methods = listed([METHODS[name] for name in dict.fromkeys(cell.method for cell in cells)])
    protocols = listed([f"**{p}**" for p in dict.fromkeys(cell.protocol for cell in cells)])
    seeds = ", ".join(map(str, grid.seeds))
    state = f"{done} of {requested} runs finished"
    state += f", {failed} failed" if failed else ""
    state += f", {missing} {'is' if missing == 1 else 'are'} missing" if missing else ""
    several = "s" * (len({cell.protocol for cell in cells}) > 1)
    return (
        f"Reproduction of LoRA (Hu et al. 2021, arXiv 2106.09685): {escaped(methods)} of "
        f"{escaped(models)} on {escaped(tasks)}.\n\n{len(cells)} cells with n = {len(grid.seeds)} "
        f"(seeds {seeds}), protocol{several} {protocols}. {state}."
    )


def _sizes(grid: Grid, runs_csv: Path) -> str:
    """Return the sizes of the training sets: small ones may make a rank matter more."""
    sizes: dict[str, int] = {}
    for cell, runs in statistics.read(grid, runs_csv, grid.table_cells).items():
        for run in runs:
            examples = run.rows["train_examples"].iloc[0]
            if examples == examples:
                sizes[grid.tasks[cell.task].title] = int(examples)
    if not sizes:
        return ""
    each = listed([f"{escaped(task)} {count:,}" for task, count in sizes.items()])
    return f"Training examples: {each}."
