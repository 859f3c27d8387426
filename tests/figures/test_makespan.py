"""The makespan figure is drawn from makespan.csv alone."""

from helpers.figures import words

from lora import files
from lora.figures import makespan
from lora.planning.plan import MAKESPAN_COLUMNS


def test_the_figure_has_the_same_bytes_twice(tmp_path):
    rows = [
        dict(device=device, known="estimate, not measured", devices=count, seconds=seconds / count)
        for device, seconds in (("H100", 36000.0), ("CPU", 360000.0))
        for count in (1, 2, 4)
    ]
    files.write_csv(tmp_path / "makespan.csv", MAKESPAN_COLUMNS, rows)
    svgs = []
    for name in ("first", "second"):
        makespan.draw(tmp_path / "makespan.csv", tmp_path / name)
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
        svgs.append((tmp_path / f"{name}.svg").read_bytes())
    assert svgs[0] == svgs[1]
    assert "H100, estimate, not measured" in words(svgs[0])
    text = (tmp_path / "first.txt").read_text(encoding="utf-8")
    assert "H100 (estimate, not measured): 10 h with 1 and 2.5 h with 4" in text.replace(
        ".0 h", " h"
    )
