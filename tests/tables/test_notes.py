"""Footnotes of tables: their text."""

from helpers.own_tasks import own_task
from helpers.synthetic import load

from lora.tables import notes


def test_footnotes_name_precision_start_sets_and_protocols(paper_table2):
    notes = "\n".join(paper_table2.page.footnotes)
    for words in (
        "Frozen model in bf16; adapter, head, loss and optimizer in float32.",
        "No model is frozen in full fine-tuning and BitFit: ",
        "model, head, loss and optimizer in fp32.",
        "Start: MRPC, RTE and STS-B of LoRA under paper from the best MNLI run of this grid",
        "MNLI-mm is the mismatched set; MNLI-all is both sets together",
        "87.5 for LoRA on RoBERTa-base is the matched value",
        "(README of microsoft/LoRA: 87.5 matched, 86.9 mismatched)",
        "Avg is the mean of the eight values of the row, with matched MNLI.",
        "For every run the config sets epochs = 3.",
        "bottleneck 48 (AdapterHub's reduction factor 16) in the upper 4 layers has 298,176 "
        "parameters, our reading of 0.3M",
        "bottleneck 48 (AdapterHub's reduction factor 16) in all 12 layers has 894,528 "
        "parameters, our reading of 0.9M",
    ):
        assert words in notes, words
    assert "differ in precision" not in notes
    protocols = " ".join(
        note for note in paper_table2.page.footnotes if note.startswith("Protocol")
    )
    for method in (
        "paper: LoRA [",
        "full fine-tuning [",
        "BitFit [",
        "AdapterDrop (Adpt^D) [",
        "Houlsby adapter (Adpt^H) [",
    ):
        assert method in protocols


def test_tasks_of_the_config_are_named_with_their_classes():
    own = own_task("mine.csv", labels=["bad", "so-so", "good"], title="Mine")
    scores = own_task("mine.csv", labels="regression")
    assert [note.text for note in notes._own([own, scores])] == [
        "Tasks of the config, without published values: Mine (bad, so-so and good); mine (scores)."
    ]
    assert notes._own([load().tasks["sst2"]]) == []
