"""Table 7 of the paper for our runs: how W and dW relate, and how much dW amplifies.

The numbers are computed by `lora.adapters.subspace`; this module arranges them beside the paper's.
"""

import math
from pathlib import Path

from lora import files
from lora.experiment import csv_tables
from lora.files import Row
from lora.tables import render
from lora.tables.labels import Line, Note, Page, Section, model_name, number

NAME = "table7"
VALUES = ("projected_delta", "projected_w", "projected_random", "w_norm", "delta_norm")
COLUMNS = ("Run", "dW", "W", "Random", "Norm of W", "Norm of dW", "Amplification")
NOTES = (
    "Columns dW, W and Random: Frobenius norm of U'WV', where U and V are the top r left and right "
    "singular vectors of that matrix. Random is one draw of a Gaussian matrix.",
    "dW = (alpha/r) B A. The paper does not say whether its dW includes alpha/r; amplification.csv "
    "has both.",
    "Amplification: norm of dW over column dW (App. H.4). The paper prints 21.5 for r=4, which is "
    "21.6 by division.",
    "The paper's values are for GPT-3 175B, on a data set that it does not name: compare the "
    "shape, not the level.",
)


def page(rows: list[Row]) -> Page:
    """Return the table.

    Args:
        rows: Rows with the columns AMPLIFICATION_COLUMNS.
    """
    sections: dict[str, list[Line]] = {}
    for row in rows:
        title = (
            f"{model_name(row['model'])}, {row['task']}: W_{row['letter']}, layer {row['layer']} "
            f"of {row['depth']}"
        )
        line = _line("ours", f"r={row['rank']}, seed {row['seed']}", row)
        sections.setdefault(title, []).append(line)
    published = [
        {name: float(row[name]) for name in VALUES} | {"rank": row["rank"]}
        for row in csv_tables.read_rows("table7.csv")
    ]
    paper = tuple(_line("published", f"r={row['rank']}, paper", row) for row in published)
    return Page(
        name=NAME,
        title="Frozen weights and their updates",
        caption="As Table 7 of Hu et al. (2021), Sec. 7.3: is the update dW large in directions "
        "that W already has?",
        partial="",
        columns=COLUMNS,
        sections=(
            *(Section(title, tuple(lines)) for title, lines in sections.items()),
            Section("GPT-3 175B: W_q, layer 48 of 96", paper),
        ),
        notes=tuple(map(Note, NOTES)),
    )


def write(rows: list[Row], folder: Path) -> None:
    """Write table7.html, .md and .tex into a folder."""
    table = page(rows)
    for suffix, text in (
        ("html", render.to_html(table)),
        ("md", render.to_markdown(table)),
        ("tex", render.to_latex(table)),
    ):
        files.write_text(Path(folder) / f"{NAME}.{suffix}", text)


def _line(kind: str, name: str, row: Row) -> Line:
    factor = row["delta_norm"] / row["projected_delta"] if row["projected_delta"] else math.nan
    return Line(kind, (name, *(number(row[value], 2) for value in VALUES), number(factor, 1)))
