"""Letters of notes: in reading order, at every cell that a note is about, none on general notes."""

import pytest
from helpers.synthetic import make_runs, make_table, paper_grid

from lora.tables import anchors
from lora.tables.anchors import Anchors, of_cell
from lora.tables.labels import Line, Note, Page, Section

GENERAL = Note("About everything.")
ABSENT = Note("About a task that the page does not have.", (("column", "rte"),))
COLUMN = Note("About a column.", (("column", "mnli"),))
TWO = Note("About two cells.", (("cell", "1"), ("cell", "2")))
TITLE = Note("About a title.", (("protocol", "paper"),))


def made(*notes: Note) -> Page:
    lines = (
        Line("ours", ("x", "1"), ((), (("cell", "1"),))),
        Line("ours", ("y", "2"), ((), (("cell", "2"), ("column", "mnli")))),
    )
    return Page(
        name="table",
        title="Title",
        caption="",
        partial="",
        columns=("Method", "MNLI"),
        sections=(Section("Section", lines, (("protocol", "paper"),)),),
        notes=notes,
        columns_about=((), (("column", "mnli"),)),
    )


def test_letters_follow_the_reading_order_and_not_that_of_the_notes():
    found = Anchors(made(GENERAL, TWO, ABSENT, TITLE, COLUMN))
    assert found.lettered == (("a", COLUMN), ("b", TITLE), ("c", TWO))
    assert found.general == (GENERAL, ABSENT)
    assert found.at((("cell", "1"),)) == ("c",)
    assert found.at((("cell", "2"), ("column", "mnli"))) == ("a", "c")
    assert found.at(()) == found.at((("cell", "3"),)) == ()


def test_cells_beyond_the_subjects_have_none():
    assert of_cell(((), (("cell", "1"),)), 1) == (("cell", "1"),) and of_cell((), 5) == ()


def test_letters_do_not_repeat_and_leave_out_q():
    names = [anchors.letter(index) for index in range(700)]
    assert len(set(names)) == 700 and not any("q" in name for name in names)
    assert names[:3] + names[24:27] == ["a", "b", "c", "z", "aa", "ab"]


def places(page: Page) -> dict[str, set[str]]:
    """Return the texts of the cells and headings of each letter."""
    found: dict[str, set[str]] = {}
    letters = Anchors(page)
    texts = [(name, of_cell(page.columns_about, i)) for i, name in enumerate(page.columns)]
    for section in page.sections:
        texts.append((section.title, section.about))
        for line in section.lines:
            texts += [
                (f"{line.cells[0]} | {page.columns[i]}", of_cell(line.about, i))
                for i in range(len(line.cells))
            ]
    for text, about in texts:
        for letter in letters.at(about):
            found.setdefault(letter, set()).add(text)
    return found


@pytest.mark.parametrize(
    "start, expected",
    [
        ("Matthews correlation", {"CoLA"}),
        ("Pearson correlation", {"STS-B"}),
        ("Trainable parameters do not", {"# trainable"}),
        ("Avg is the mean", {"Avg"}),
        ("MNLI is the matched set", {"MNLI", "MNLI-mm", "MNLI-all"}),
        ("Course: github.com", {"course: LoRA | Method"}),
        ("No model is frozen", {"full fine-tuning | Method", "BitFit | Method"}),
        ("RoBERTa-base (LoRA), course, QQP:", {"course: LoRA | QQP"}),
        (
            "Start: MRPC, RTE and STS-B of LoRA",
            {f"LoRA r=8 on W_q,W_v | {task}" for task in ("MRPC", "RTE", "STS-B")},
        ),
        (
            "RoBERTa-base (BitFit*), MRPC and QQP:",
            {f"paper: BitFit* | {task}" for task in ("MRPC", "QQP")},
        ),
    ],
)
def test_notes_of_table2_are_at_their_cells(paper_table2, start, expected):
    page = paper_table2.page
    ((letter, _),) = [one for one in Anchors(page).lettered if one[1].text.startswith(start)]
    assert places(page)[letter] == expected


def test_every_protocol_is_at_its_rows(paper_table2):
    found = [one for one in Anchors(paper_table2.page).lettered if one[1].text.startswith("Proto")]
    assert len(found) == 2
    for letter, note in found:
        rows = places(paper_table2.page)[letter]
        is_houlsby = "paper-houlsby: " in note.text
        assert rows and all(("paper-houlsby" in row) == is_houlsby for row in rows)


def test_differences_beyond_their_margin_and_incomplete_cells_are_marked(tmp_path):
    grid = paper_grid(seeds=(0, 1, 2))
    missing = [("rte", "qv", 8, 0), ("cola", "qv", 8, 1)]
    make_runs(grid, tmp_path / "runs", missing=missing[:1], failed=missing[1:])
    data = make_table(grid, tmp_path)
    letters = {note.text: letter for letter, note in Anchors(data.page).lettered}
    marked = places(data.page)
    beyond = next(letter for text, letter in letters.items() if "larger than its 95 %" in text)
    expected = {
        (value["ours_model"], value["column"])
        for value in data.published
        if abs(value["difference"]) > value["difference_margin"]
    }
    assert expected and {place.partition(" ")[0] for place in marked[beyond]} == {"difference"}
    assert {place.partition("| ")[2] for place in marked[letters["n=2 of 3."]]} >= {"RTE"}
    assert {place.partition("| ")[2] for place in marked[letters["n=2 of 3, 1 failed."]]} >= {
        "CoLA"
    }
