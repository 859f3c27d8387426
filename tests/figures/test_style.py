"""Labels and series that all figures share."""

from lora.figures import style


def test_rows_of_one_method_have_labels_of_their_own(methods):
    rows = {
        tuple(row[key] for key in style.CELL if key != "task"): row
        for row in style.read(methods, "table2")
    }
    labels = [(row["model"], style.row_label(row), row["protocol"]) for row in rows.values()]
    assert len(labels) == len(set(labels)) == 5 + 7
    assert ("roberta-base", "Adpt$^D$ 48, layers 9+", "paper") in labels


def test_series_differ_and_rows_of_one_method_share_a_colour(methods):
    rows = style.read(methods, "table2")
    series = style.series_of(rows)
    assert len(set(series.values())) == len(series) == 10
    colours = {}
    for (method, *_), (colour, *_) in series.items():
        colours.setdefault(method, set()).add(colour)
    assert (
        all(len(found) == 1 for found in colours.values())
        and len(set().union(*colours.values())) == 6
    )
