"""Text alternatives have the numbers of the CSV files, and are in the SVG and PNG too."""

import re
import xml.etree.ElementTree as ET
from math import isnan

import pytest
from PIL import Image

from lora.figures import alt_text, results
from lora.figures.rows import LEFT_OUT, finished, read_all_tables, read_table

SVG = "{http://www.w3.org/2000/svg}"


def values(folder, figure):
    """Values of the cells of each panel of a figure, from the CSV files alone."""
    table = "table2" if figure in ("table2", "learning_curves") else "table6"
    cells = finished(read_table(folder, table))
    if figure == "parameters":
        cells, _ = read_all_tables(folder)
    key = dict(rank_cost="last_mean", head_ablation="last_mean").get(figure, "best_median")
    if figure == "learning_curves":
        rows = read_table(folder, "table2", "_curves")
        last = max(row["epoch"] for row in rows)
        cells, key = [row for row in rows if row["epoch"] == last], "metric_mean"
    panels = {}
    for cell in cells:
        if cell["metric"] not in LEFT_OUT and not isnan(cell[key]):
            protocol = cell["protocol"] if table == "table6" and figure != "parameters" else ""
            weights = cell["weights"] if figure == "rank_cost" else ""
            panel = (cell["model"], cell["task"], protocol, weights)
            panels.setdefault(panel, []).append(cell[key])
    return list(panels.values())


@pytest.mark.parametrize("grid", ["folder", "methods"])
@pytest.mark.parametrize("figure", results.FIGURES)
def test_the_text_has_the_lowest_and_highest_value_of_each_panel(figure, grid, request):
    folder = request.getfixturevalue(grid)
    drawing = results.FIGURES[figure](folder)
    if not drawing.figure.axes:
        assert "one protocol" in drawing.alt
        return
    panels = values(folder, figure)
    if figure == "rank_cost":
        panels = [panel for panel in panels if len(panel) > 1]
    assert panels
    for panel in panels[: alt_text.MOST]:
        assert f"{min(panel):.1f}" in drawing.alt and f"{max(panel):.1f}" in drawing.alt
    numbers = {f"{value:.1f}" for panel in panels for value in panel}
    written = re.findall(r"(?<![\d,.])(\d{2}\.\d)(?= )", drawing.alt)
    assert written and set(written) <= numbers


@pytest.mark.parametrize("figure", results.FIGURES)
def test_the_text_is_one_to_three_sentences_in_plain_characters(figure, methods, folder):
    for tables in (methods, folder):
        drawing = results.FIGURES[figure](tables)
        sentences = re.findall(r"[^.]\.(?= [A-Z]|$)", drawing.alt)
        assert 1 <= len(sentences) <= 3
        assert not set("$\\{}\n") & set(drawing.alt)


@pytest.mark.parametrize("figure", results.FIGURES)
def test_svg_png_and_text_file_have_the_same_text(figure, folder, tmp_path):
    results.draw(figure, folder, tmp_path / "figure")
    text = (tmp_path / "figure.txt").read_text(encoding="utf-8").strip()
    root = ET.parse(tmp_path / "figure.svg").getroot()
    title, description = root[0], root[1]
    assert (title.tag, description.tag) == (f"{SVG}title", f"{SVG}desc")
    assert root.get("role") == "img" and description.text == text
    with Image.open(tmp_path / "figure.png") as image:
        assert image.info["Description"] == text and image.info["Title"] == title.text
        assert image.info["dpi"][0] == pytest.approx(300, abs=0.1)


def test_of_many_panels_the_others_are_counted():
    groups = {f"task {index}": [(50.0 + index, "$W_q$")] for index in range(alt_text.MOST + 3)}
    text = alt_text.ranges(groups)
    assert text.startswith("task 0: 50.0 (W_q); task 1") and text.endswith("; and 3 more")
