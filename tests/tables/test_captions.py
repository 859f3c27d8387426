"""Captions are true for any config: models, tasks, methods and seeds are those of the grid."""

import pytest
from helpers.configs import changed
from helpers.synthetic import load, paper_grid, table

from lora.experiment import grid
from lora.tables import captions


def test_a_grid_of_demo_tasks_says_that_levels_cannot_be_compared():
    grid = load(config="demo.yaml")
    text = captions.caption(grid, "table2")
    assert text.startswith(
        "Methods by task: LoRA of MiniLM on Movie polarity, Same article, Tweet intensity and "
        "Product sentiment. Seeds 0, 1, 2."
    )
    assert "compare the shape, not the level" in text and "MNLI" not in text


def test_the_papers_grid_says_where_published_values_are():
    text = captions.caption(paper_grid(seeds=[0]), "table2")
    assert "RoBERTa-base and RoBERTa-large" in text and "full fine-tuning" in text
    assert "Seed 0." in text and "are beside ours" in text


def test_a_replaced_model_that_the_config_does_not_claim_to_be_registered():
    own = table(["roberta-base"], ["sst2"])
    source = {"roberta-base": dict(kind="file", locator="/models/mine")}
    text = captions.caption(load(tables=dict(table2=own, table6=None), sources=source), "table2")
    assert "RoBERTa-base on SST-2" in text


@pytest.mark.parametrize("name", captions.SUMMARIES)
def test_summaries(name):
    text = captions.caption(load(config="demo.yaml"), name)
    assert text.endswith(" Seeds 0, 1, 2.") and len(text) > 60


def test_a_table_of_own_tasks_alone_has_no_published_values():
    own = {"mine": dict(path="mine.csv", text="text")}
    config = changed(tasks=own, tables__table2__tasks=["mine"])
    assert captions.caption(grid.load(config), "table2").endswith("There are no published values.")
    config = changed(tasks=own, tables__table2__tasks=["mine", "sst2"])
    assert captions.caption(grid.load(config), "table2").endswith("are beside ours.")
