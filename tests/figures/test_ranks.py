"""Rank curves: our panels and the published ones."""

from helpers.figures import draw_text

from lora.figures import results


def test_rank_curves_name_the_published_shape_and_the_numbers_of_runs(folder, tmp_path):
    text = draw_text("rank_curves", folder, tmp_path)
    assert "Not shown, of 16 runs: 4 missing, 2 failed." in text
    assert "shape only" in text and "n = 0 to 2" in text


def test_a_published_model_without_runs_has_its_own_range(folder, tmp_path):
    """GPT-3's values on MNLI differ by one point: they would be flat on the axis of our runs."""
    axes = [ax for ax in results.FIGURES["rank_curves"](folder).figure.axes if ax.get_title()]
    ranges = {}
    for ax in axes:
        kind = "GPT-3" if "GPT-3" in ax.get_title() else "same"
        ranges.setdefault(kind, set()).add(ax.get_ylim())
    assert len(axes) == 4 and {kind: len(found) for kind, found in ranges.items()} == {
        "same": 1,
        "GPT-3": 1,
    }
    ((low, high),) = ranges["GPT-3"]
    values = [90.7, 90.7, 91.3, 91.6]  # of W_q and of W_q, W_v at r = 1 and 8, as printed
    assert low < min(values) and max(values) < high and high - low < 2
    assert "own range" in " ".join(draw_text("rank_curves", folder, tmp_path).split())
