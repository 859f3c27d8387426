"""Commands that show results: what they print is what the tables and runs say."""

import json

import pytest
from helpers.synthetic import load, make_runs, table

from lora.__main__ import main
from lora.tables import cells, collect, render

pytestmark = pytest.mark.usefixtures("logging_as_before")


@pytest.fixture
def made(tmp_path):
    """Return the grid of trained runs, and the path of its config."""
    changes = dict(
        seeds=[0, 1],
        results=str(tmp_path),
        overrides=dict(epochs=2),
        subspace=None,
        tables=dict(table2=None, table6=table(["minilm"], ["sst2"], ["q", "qv"], [1, 8])),
    )
    grid = load(**changes)
    make_runs(grid, tmp_path / "runs")
    collect.collect(grid, tmp_path / "runs", tmp_path / "tables/runs.csv")
    for name in ("table6", "claims"):
        cells.write(grid, tmp_path / "tables/runs.csv", name, tmp_path / "tables")
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(changes))
    return grid, str(config)


def test_show_prints_the_tables_of_the_config(made, capsys):
    assert main(["show", "--config", made[1]]) == 0
    text = capsys.readouterr().out
    assert "LoRA by rank and weight type" in text and "Claims of the paper" in text


def test_show_in_each_format(made, tmp_path, capsys):
    grid, config = made
    page = cells.make(grid, tmp_path / "tables/runs.csv", "table6").page
    for form, expected in (
        ("md", render.to_markdown(page)),
        ("tex", render.to_latex(page)),
        ("html", render.to_html(page)),
        ("csv", (tmp_path / "tables/table6.csv").read_text()),
    ):
        assert main(["show", "table6", "--config", config, "--format", form]) == 0
        assert capsys.readouterr().out.strip() == expected.strip()


def test_show_all_statistics(made, tmp_path, capsys):
    """The second page of a table; as CSV it is the table's file, which has them all."""
    grid, config = made
    data = cells.make(grid, tmp_path / "tables/runs.csv", "table6")
    assert main(["show", "table6_details", "--config", config, "--format", "md"]) == 0
    assert capsys.readouterr().out.strip() == render.to_markdown(data.details).strip()
    assert main(["show", "table6_details", "--config", config, "--format", "csv"]) == 0
    assert capsys.readouterr().out == (tmp_path / "tables/table6.csv").read_text()


def test_show_without_tables_or_with_an_unknown_one(made, tmp_path, capsys):
    assert main(["show", "table2", "--config", made[1]]) == 2
    assert (
        "no table 'table2'; allowed: table6, table6_details, selection" in capsys.readouterr().err
    )
    (tmp_path / "tables/runs.csv").unlink()
    assert main(["show", "--config", made[1]]) == 2
    assert "there are no tables in" in capsys.readouterr().err


def test_status_as_text_and_as_json(made, capsys):
    assert main(["status", "--config", made[1]]) == 0
    text = capsys.readouterr().out
    assert "8 runs: 8 done, 0 failed, 0 running, 0 missing." in text and "Time left" not in text
    assert main(["status", "--config", made[1], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["runs"], found["done"], len(found["cells"])) == (8, 8, 4)


def test_compare_prints_the_comparison(made, tmp_path, capsys):
    grid, _ = made
    folders = [str(tmp_path / "runs" / cell.path) for cell in grid.cells[:2]]
    assert main(["compare", *folders]) == 0
    text = capsys.readouterr().out
    assert text.startswith("A compared with B") and folders[0] in text
