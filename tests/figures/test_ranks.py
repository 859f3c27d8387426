"""Rank curves: our panels and the published ones."""

from helpers.figures import draw_text


def test_rank_curves_name_the_published_shape_and_the_numbers_of_runs(folder, tmp_path):
    text = draw_text("rank_curves", folder, tmp_path)
    assert "Not shown, of 16 runs: 4 missing, 2 failed." in text
    assert "shape only" in text and "n = 0 to 2" in text
