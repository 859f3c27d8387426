"""Table 7 for our runs, beside the paper's values."""

import math

import pytest

from lora.columns import AMPLIFICATION_COLUMNS
from lora.tables import table7


def row(**changes):
    found = dict.fromkeys(AMPLIFICATION_COLUMNS, 1.0)
    found |= dict(model="minilm", task="sst2", layer=3, depth=6, letter="q", rank=8, seed=0)
    return found | changes


def test_values_of_each_run_and_of_the_paper():
    """The paper's own factors: 6.91 / 0.32 = 21.6 (it prints 21.5) and 3.57 / 1.90 = 1.9."""
    rows = [row(delta_norm=3.0, projected_delta=1.5), row(letter="v", seed=1)]
    page = table7.page(rows)
    assert [section.title for section in page.sections] == [
        "MiniLM, sst2: W_q, layer 3 of 6",
        "MiniLM, sst2: W_v, layer 3 of 6",
        "GPT-3 175B: W_q, layer 48 of 96",
    ]
    (ours,) = page.sections[0].lines
    assert ours.cells == ("r=8, seed 0", "1.50", "1.00", "1.00", "1.00", "3.00", "2.0")
    paper = [line.cells for line in page.sections[2].lines]
    assert paper == [
        ("r=4, paper", "0.32", "21.67", "0.02", "61.95", "6.91", "21.6"),
        ("r=64, paper", "1.90", "37.71", "0.33", "61.95", "3.57", "1.9"),
    ]


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_no_factor_without_a_projection(value):
    page = table7.page([row(projected_delta=value)])
    assert page.sections[0].lines[0].cells[-1] == "–"


def test_files(tmp_path):
    table7.write([row()], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "table7.html",
        "table7.md",
        "table7.tex",
    }
    assert "Frozen weights and their updates" in (tmp_path / "table7.html").read_text()
