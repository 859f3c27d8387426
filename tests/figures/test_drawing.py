"""Files of a figure: text is text, with fallback fonts, and settings of the user do not matter."""

import matplotlib
from helpers.figures import words

from lora.figures import drawing, results


def test_files_do_not_depend_on_the_settings_of_the_user(tmp_path):
    drawing.save(lambda: drawing.empty_drawing("empty"), tmp_path / "new folder" / "default")
    with matplotlib.rc_context({"font.size": 20, "svg.hashsalt": "other"}):
        drawing.save(lambda: drawing.empty_drawing("empty"), tmp_path / "new folder" / "changed")
    for suffix in (".svg", ".png", ".txt"):
        first, second = (
            tmp_path / "new folder" / f"{name}{suffix}" for name in ("default", "changed")
        )
        assert first.read_bytes() == second.read_bytes()


def test_text_of_an_svg_is_text_with_fallback_fonts(folder, tmp_path):
    results.draw("rank_curves", folder, tmp_path / "figure")
    svg = (tmp_path / "figure.svg").read_text(encoding="utf-8")
    assert "rank r (log scale)" in svg and "rank r (log scale)" in words(svg.encode())
    fonts = [part.split(";")[0].split('"')[0] for part in svg.split("font-family: ")[1:]]
    assert fonts and all(font.endswith("sans-serif") and "'Arial'" in font for font in fonts)
    assert 'id="DejaVuSans' not in svg  # no glyphs as paths


def test_an_empty_figure_says_why_in_all_its_files(tmp_path):
    drawing.save(lambda: drawing.empty_drawing("Pie: no <finished> run"), tmp_path / "pie")
    assert (tmp_path / "pie.txt").read_text(encoding="utf-8") == "Pie: no <finished> run.\n"
    svg = (tmp_path / "pie.svg").read_text(encoding="utf-8")
    assert "<title>Pie</title>" in svg and "<desc>Pie: no &lt;finished&gt; run.</desc>" in svg
