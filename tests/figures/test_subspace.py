"""Heat maps are drawn from phi.csv alone, show its values in the paper's arrangement, and are the
same bytes twice.
"""

import math
import re
import struct

import numpy as np
import pytest
from matplotlib.figure import Figure

from lora import files
from lora.adapters import subspace
from lora.columns import PHI_COLUMNS
from lora.figures import subspace as heatmaps

LOW, HIGH, WIDTH = 3, 12, 40
PANELS = {"figure3": (1, 4), "figure4": (1, 3), "figure6": (2, 4), "figure7": (2, 3)}


def words(svg: bytes) -> str:
    """The text of a figure: glyphs are paths, but matplotlib keeps each text as a comment."""
    return "\n".join(re.findall(r"<!-- (.*?) -->", svg.decode(), re.S))


def made_rows(start: float = 0.05) -> list[dict]:
    """Rows of every figure of a made model; phi falls with i and j, differently in each layer and
    weight type.
    """
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
    files.write_csv(path, PHI_COLUMNS, made_rows())
    return path


@pytest.fixture
def drawn(monkeypatch):
    """Figures as they were saved, by the stem of their file."""
    kept = {}
    save = Figure.savefig

    def keep(figure, path, **options):
        kept[path.stem] = figure
        save(figure, path, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return kept


@pytest.mark.parametrize("figure", heatmaps.FIGURES)
def test_every_figure_is_drawn_and_is_the_same_bytes_twice(figure, table, tmp_path):
    for name in ("once", "again"):
        heatmaps.draw(figure, table, tmp_path / "new folder" / name)
    once, again = tmp_path / "new folder/once", tmp_path / "new folder/again"
    assert once.with_suffix(".svg").read_bytes() == again.with_suffix(".svg").read_bytes()
    assert b"<dc:date>" not in once.with_suffix(".svg").read_bytes()
    picture = once.with_suffix(".png").read_bytes()
    assert picture == again.with_suffix(".png").read_bytes() and picture[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", picture[16:24])
    assert width > 1000 and height > 500


@pytest.mark.parametrize("figure", heatmaps.FIGURES)
def test_panels_hold_the_values_of_the_table(figure, table, tmp_path, drawn):
    """Panel by panel: weight types in their order, one colour scale, i down and j across, counted
    from 1.
    """
    heatmaps.draw(figure, table, tmp_path / figure)
    lines, columns = PANELS[figure]
    axes = [axis for axis in drawn[figure].axes if axis.images]
    assert len(axes) == lines * columns
    rows = [row for row in files.read_csv(table, PHI_COLUMNS) if row["figure"] == figure]
    layers = sorted({row["layer"] for row in rows})
    for place, axis in enumerate(axes):
        layer, letter = layers[place // columns], "qvqv"[place % columns]
        shown = {
            (row["i"], row["j"]): row
            for row in rows
            if (row["layer"], row["letter"]) == (layer, letter)
        }
        key = "random_drawn" if (columns, place % columns) == (3, 2) else "phi"
        values = np.ma.filled(axis.images[0].get_array(), math.nan)
        assert axis.images[0].get_clim() == (0, 1)
        left, right, bottom, top = axis.images[0].get_extent()
        high, wide = values.shape
        assert (left, right, bottom, top) == (0.5, wide + 0.5, high + 0.5, 0.5)
        magnified = figure in heatmaps.MAGNIFIED and place % columns > 1
        assert values.shape == (
            (LOW, LOW) if magnified else (LOW if figure in heatmaps.MAGNIFIED else HIGH, HIGH)
        )
        for i, j in np.ndindex(values.shape):
            hidden = magnified and j > i
            expected = math.nan if hidden else shown[i + 1, j + 1][key]
            assert values[i, j] == expected or (hidden and math.isnan(values[i, j]))


def test_titles_axes_and_scale_are_named(table, tmp_path):
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


def test_the_caption_says_what_chance_and_the_start_give(table, tmp_path, drawn):
    heatmaps.draw("figure4", table, tmp_path / "figure")
    text = " ".join(words((tmp_path / "figure.svg").read_bytes()).split())
    assert "MiniLM, same-article." in text and "run r12 seed0; j: in run r12 seed1" in text
    assert f"max(i, j)/d on average, here {1 / WIDTH:.3f} to {HIGH / WIDTH:.2f};" in text
    assert "before training: at most 0.05." in text
    largest = max(row["random_drawn"] for row in made_rows() if row["figure"] == "figure4")
    assert f"drawn at most {largest:.2f}" in text
    (line,) = [line for axis in drawn["figure"].axes if not axis.images for line in axis.lines]
    assert set(line.get_ydata()) == {largest}


def test_numbers_of_the_magnified_triangle_are_those_of_the_table(table, tmp_path, drawn):
    heatmaps.draw("figure3", table, tmp_path / "figure")
    written = [text.get_text() for axis in drawn["figure"].axes for text in axis.texts]
    expected = [
        f"{1 / (1 + i + 0.3 * j + 0.2 + (letter == 'v')):.2f}"[1:]
        for letter in "qv"
        for i in range(LOW)
        for j in range(i + 1)
    ]
    assert written == expected


def test_a_start_that_is_not_known_is_said(tmp_path):
    files.write_csv(tmp_path / "phi.csv", PHI_COLUMNS, made_rows(start=math.nan))
    heatmaps.draw("figure3", tmp_path / "phi.csv", tmp_path / "figure")
    text = " ".join(words((tmp_path / "figure.svg").read_bytes()).split())
    assert "before training: not known, they started from other adapters." in text


def test_an_unknown_figure_and_a_table_without_it_are_refused(table, tmp_path):
    with pytest.raises(ValueError, match="no figure 'figure5'; there are: figure3, figure4"):
        heatmaps.draw("figure5", table, tmp_path / "figure")
    files.write_csv(
        tmp_path / "phi.csv",
        PHI_COLUMNS,
        [row for row in made_rows() if row["figure"] != "figure3"],
    )
    with pytest.raises(ValueError, match="no rows of figure3; make it again"):
        heatmaps.draw("figure3", tmp_path / "phi.csv", tmp_path / "figure")
    assert not list(tmp_path.glob("figure*"))
