"""Notes on protocols, overrides and warm starts."""

from helpers.synthetic import load, make_table, table

from lora.tables import protocol_notes


def test_a_start_that_differs_from_the_papers_has_a_footnote(tmp_path):
    grid = load(
        seeds=[0], tables=dict(table2=table(["roberta-base"], ["mrpc", "sst2"]), table6=None)
    )
    notes = make_table(grid, tmp_path).page.footnotes
    assert (
        "Start: MRPC of LoRA under course from the pre-trained model, unlike the paper's." in notes
    )


def test_overrides_and_changed_protocols_are_named(tmp_path):
    grid = load(
        seeds=[0],
        protocol="slow",
        protocols={"slow": {"base": "course", "epochs": 9}},
        overrides={"warmup_frac": 0.5},
        tables=dict(table2=table(["roberta-base"], ["mrpc"]), table6=None),
    )
    first, second = protocol_notes.protocols(grid, grid.tables["table2"])
    assert "slow (course with epochs = 9): LoRA [" in first.text
    assert second.text == "For every run the config sets warmup_frac = 0.5."
