"""Notes on published values: every one is on a page of the table."""

from lora.tables.published_notes import DAGGER, EXPLAINED, FROM_PRIOR_WORK, MATCHED, PRINTED_AVERAGE


def test_a_note_of_most_rows_has_its_own_footnote(paper_table2):
    """Every part of a note in published.csv is on the page, as it is or explained."""
    page = "\n".join(paper_table2.page.footnotes)
    explained = {
        FROM_PRIOR_WORK: "* copied by the paper from prior work",
        DAGGER: "† set up as Houlsby et al. (2019): length 128",
        PRINTED_AVERAGE: "A published Avg is as printed",
        **dict.fromkeys(MATCHED, "caption says overall for MNLI"),
    }
    assert set(explained) == set(EXPLAINED)
    parts = {part for fact in paper_table2.published for part in fact["note"].split("; ") if part}
    assert len(parts) > 10
    for part in parts:
        start = next((start for start in explained if part.startswith(start)), None)
        assert (explained[start] if start else part) in page, part
