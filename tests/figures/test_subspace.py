"""Heat maps show the values of phi.csv in the paper's layout, and have the same bytes twice."""

import math
import re
import struct

import matplotlib
import numpy as np
import pytest
from helpers.figures import check_texts, words
from matplotlib.figure import Figure

from lora import files
from lora.adapters import subspace
from lora.columns import PHI_COLUMNS
from lora.figures import subspace as heatmaps

LOW, HIGH, WIDTH = 3, 12, 40
PANELS = {"figure3": (1, 4), "figure4": (1, 3), "figure6": (2, 4), "figure7": (2, 3)}


def phi_rows(start: float = 0.05) -> list[dict]:
    """Rows of every figure; phi decreases with i and j, and differs by layer and weight type."""
    rows = []
    for figure, layers in (
        ("figure3", (2,)),
        ("figure4", (2,)),
        ("figure6", (1, 4)),
        ("figure7", (1, 4)),
    ):
        first = LOW if figure in heatmaps.MAGNIFIED else HIGH
        drawn = subspace.random_phi(first, HIGH, WIDTH, 1)
        for layer in layers:
            for letter in "qv":
                for i, j in np.ndindex(first, HIGH):
                    value = 1 / (1 + i + 0.3 * j + 0.1 * layer + (letter == "v"))
                    rows.append(
                        dict(
                            figure=figure,
                            model="minilm",
                            task="same-article",
                            layer=layer,
                            depth=4,
                            letter=letter,
                            first=f"r{first} seed0",
                            second=f"r{HIGH} seed1",
                            i=i + 1,
                            j=j + 1,
                            phi=value,
                            phi_at_start=start,
                            random_drawn=float(drawn[i, j]),
                            random_expected=max(i + 1, j + 1) / WIDTH,
                        )
                    )
    return rows


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("heatmaps") / "phi.csv"
    files.write_csv(path, PHI_COLUMNS, phi_rows())
    return path


@pytest.fixture
def saved(monkeypatch):
    """Figures that were saved, by the stem of their file."""
    figures = {}
    savefig = Figure.savefig

    def record(figure, path, **options):
        figures[path.stem] = figure
        savefig(figure, path, **options)

    monkeypatch.setattr(Figure, "savefig", record)
    return figures


@pytest.mark.parametrize("figure", heatmaps.FIGURES)
def test_a_figure_has_the_same_bytes_twice(figure, table, tmp_path):
    for name in ("once", "again"):
        heatmaps.draw(figure, table, tmp_path / "new folder" / name)
    once, again = tmp_path / "new folder/once", tmp_path / "new folder/again"
    assert once.with_suffix(".svg").read_bytes() == again.with_suffix(".svg").read_bytes()
    assert b"<dc:date>" not in once.with_suffix(".svg").read_bytes()
    png = once.with_suffix(".png").read_bytes()
    assert png == again.with_suffix(".png").read_bytes() and png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    assert width > 1000 and height > 500


@pytest.mark.parametrize("figure", heatmaps.FIGURES)
def test_panels_show_the_values_of_the_table(figure, table, tmp_path, saved):
    """Weight types in order, one colour scale, i down and j across, counted from 1."""
    heatmaps.draw(figure, table, tmp_path / figure)
    panel_rows, columns = PANELS[figure]
    axes = [ax for ax in saved[figure].axes if ax.images]
    assert len(axes) == panel_rows * columns
    rows = [row for row in files.read_csv(table, PHI_COLUMNS) if row["figure"] == figure]
    layers = sorted({row["layer"] for row in rows})
    for index, ax in enumerate(axes):
        layer, letter = layers[index // columns], "qvqv"[index % columns]
        shown = {
            (row["i"], row["j"]): row
            for row in rows
            if (row["layer"], row["letter"]) == (layer, letter)
        }
        key = "random_drawn" if (columns, index % columns) == (3, 2) else "phi"
        values = np.ma.filled(ax.images[0].get_array(), math.nan)
        assert ax.images[0].get_clim() == (0, 1) and ax.images[0].norm is axes[0].images[0].norm
        left, right, bottom, top = ax.images[0].get_extent()
        height, width = values.shape
        assert (left, right, bottom, top) == (0.5, width + 0.5, height + 0.5, 0.5)
        magnified = figure in heatmaps.MAGNIFIED and index % columns > 1
        assert values.shape == (
            (LOW, LOW) if magnified else (LOW if figure in heatmaps.MAGNIFIED else HIGH, HIGH)
        )
        for i, j in np.ndindex(values.shape):
            hidden = magnified and j > i
            expected = math.nan if hidden else shown[i + 1, j + 1][key]
            assert values[i, j] == expected or (hidden and math.isnan(values[i, j]))


def test_titles_axes_and_the_colour_scale_have_labels(table, tmp_path):
    heatmaps.draw("figure6", table, tmp_path / "figure")
    text = words((tmp_path / "figure.svg").read_bytes())
    for letter in "qv":
        for layer in (1, 4):
            assert f"$\\Delta W_{letter}$, layer {layer} of 4" in text
            assert f"$\\Delta W_{letter}$, layer {layer}\n" in text
    assert text.count("where $j \\leq i$") == 4
    assert "φ(i, j)" in text and re.search(r"^i$", text, re.M) and re.search(r"^j$", text, re.M)
    assert (
        "φ(1, 1) = 0.91" in text and "φ(1, 1) = 0.48" in text
    )  # 1/1.1 of q in layer 1, 1/2.1 of v
    heatmaps.draw("figure4", table, tmp_path / "figure")
    assert "random Gaussian matrices" in words((tmp_path / "figure.svg").read_bytes())


def test_the_caption_gives_phi_of_random_matrices_and_before_training(table, tmp_path, saved):
    heatmaps.draw("figure4", table, tmp_path / "figure")
    text = " ".join(words((tmp_path / "figure.svg").read_bytes()).split())
    assert "MiniLM, same-article." in text and "run r12 seed0; j: in run r12 seed1" in text
    assert f"max(i, j)/d on average, here {1 / WIDTH:.3f} to {HIGH / WIDTH:.2f};" in text
    assert "Before training, φ was at most 0.05." in text
    largest = max(row["random_drawn"] for row in phi_rows() if row["figure"] == "figure4")
    assert f"the largest value drawn is {largest:.2f}," in text
    (line,) = [line for ax in saved["figure"].axes if not ax.images for line in ax.lines]
    assert set(line.get_ydata()) == {largest}


def test_numbers_of_the_magnified_triangle_are_those_of_the_table(table, tmp_path, saved):
    heatmaps.draw("figure3", table, tmp_path / "figure")
    written = [text.get_text() for ax in saved["figure"].axes for text in ax.texts]
    expected = [
        f"{100 / (1 + i + 0.3 * j + 0.2 + (letter == 'v')):.0f}"
        for letter in "qv"
        for i in range(LOW)
        for j in range(i + 1)
    ]
    assert written == expected


def test_the_caption_says_that_phi_before_training_is_unknown(tmp_path):
    files.write_csv(tmp_path / "phi.csv", PHI_COLUMNS, phi_rows(start=math.nan))
    heatmaps.draw("figure3", tmp_path / "phi.csv", tmp_path / "figure")
    text = " ".join(words((tmp_path / "figure.svg").read_bytes()).split())
    assert "Before training, φ is unknown (the runs started from other adapters)." in text


def test_an_unknown_figure_and_a_table_without_it_are_refused(table, tmp_path):
    with pytest.raises(ValueError, match="no figure 'figure5'; there are: figure3, figure4"):
        heatmaps.draw("figure5", table, tmp_path / "figure")
    files.write_csv(
        tmp_path / "phi.csv",
        PHI_COLUMNS,
        [row for row in phi_rows() if row["figure"] != "figure3"],
    )
    with pytest.raises(ValueError, match="no rows of figure3; make it again"):
        heatmaps.draw("figure3", tmp_path / "phi.csv", tmp_path / "figure")
    assert not list(tmp_path.glob("figure*"))


@pytest.mark.parametrize(
    "top, limits, words_of_scale",
    [
        (0.95, (0, 1), "Colours span 0 to 1, by the power 0."),
        (0.4, None, "Colours span the values of this figure, 0.02 to 0.40, by the power 0."),
    ],
)
def test_colours_use_the_whole_map(top, limits, words_of_scale, tmp_path, saved):
    """From 0 to 1 if the values take up most of it, else from the lowest to the highest value."""
    rows = [row for row in phi_rows() if row["figure"] == "figure3"]
    highest = max(row["phi"] for row in rows)
    for row in rows:
        row["phi"] *= top / highest
        row["random_drawn"] = 0.02 + 0.01 * row["random_drawn"]
    rows[0]["random_drawn"] = 0.02
    low = min(row[key] for row in rows for key in ("phi", "random_drawn"))
    files.write_csv(tmp_path / "phi.csv", PHI_COLUMNS, rows)
    heatmaps.draw("figure3", tmp_path / "phi.csv", tmp_path / "figure")
    images = [ax.images[0] for ax in saved["figure"].axes if ax.images]
    for image in images:
        assert image.get_clim() == pytest.approx(limits or (low, top))
        assert image.get_cmap().name == "viridis"
    values = np.array([row["phi"] for row in rows])
    assert images[0].norm(np.median(values)) == pytest.approx(0.5, abs=0.02)
    text = " ".join(words((tmp_path / "figure.svg").read_bytes()).split())
    assert words_of_scale in text
    assert words_of_scale in (tmp_path / "figure.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("figure", heatmaps.FIGURES)
def test_texts_have_one_size_and_do_not_overlap(figure, table, tmp_path, saved):
    """Also the numbers in the triangles."""
    heatmaps.draw(figure, table, tmp_path / figure)
    with matplotlib.rc_context(heatmaps.STYLE):
        check_texts(saved[figure])


def test_four_weight_types_have_their_triangles_in_rows_of_their_own(tmp_path, saved):
    rows = [row for row in phi_rows() if row["figure"] == "figure6"]
    letters = dict(q="k", v="o")
    rows += [row | dict(letter=letters[row["letter"]]) for row in rows]
    files.write_csv(tmp_path / "phi.csv", PHI_COLUMNS, rows)
    heatmaps.draw("figure6", tmp_path / "phi.csv", tmp_path / "figure")
    figure = saved["figure"]
    panels = [ax for ax in figure.axes if ax.images]
    assert len(panels) == 2 * 4 * 2 and figure.get_figwidth() == 7
    shapes = [ax.images[0].get_array().shape for ax in panels]
    assert shapes == 2 * (4 * [(LOW, HIGH)] + 4 * [(LOW, LOW)])
    with matplotlib.rc_context(heatmaps.STYLE):
        check_texts(figure)
