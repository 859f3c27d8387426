"""Sizes of models and tasks: rows of config/*.csv, fetched models and prepared tokens."""

import json

import pytest
import transformers
from helpers.models import make_model
from helpers.own_tasks import own_task
from helpers.synthetic import load, table

from lora.experiment import registry
from lora.planning import forecast, workload


def test_tokens_and_steps_of_table_9():
    """LoRA on RoBERTa-base, eight tasks, five seeds: 4.88 G tokens, 8.44 M steps of Table 9's
    batch sizes.
    """
    tasks = ["mnli", "sst2", "mrpc", "cola", "qnli", "qqp", "rte", "stsb"]
    grid = load(
        protocol="paper",
        tables=dict(table2=table(["roberta-base"], tasks), table5=None, table6=None),
    )
    forecaster = forecast.Forecaster(grid)
    jobs = [
        forecaster.job(cells, len(seeds), registry.devices()["H100"])
        for cells, seeds in grid.packing.jobs()
    ]
    assert sum(job.tokens for job in jobs) == pytest.approx(4.88e9, rel=0.01)
    steps = sum(forecaster._run(cell).steps for cell in grid.cells) * 5
    assert steps == pytest.approx(8.44e6, rel=0.01)
    training = sum(forecaster._run(cell).flops for cell in grid.cells) * 5
    assert training == pytest.approx(
        1.67e18 * (1 - 0.066), rel=0.02
    )  # the published count has the whole last layer
    evaluation = sum(forecaster._run(cell).eval_flops for cell in grid.cells) * 5
    assert evaluation / training == pytest.approx(0.035, abs=0.01)


@pytest.mark.parametrize("family", ["bert", "distilbert", "electra", "xlm-roberta"])
def test_a_models_own_folder_is_read_before_it_is_fetched(tmp_path, family):
    """A config's source of kind `file`; a folder without a usable config.json is assumed."""
    folder = make_model(family, tmp_path / "mine")
    changes = dict(
        sources=dict(mine=dict(role="model", kind="file", locator=str(folder))),
        results=str(tmp_path / "results"),
        tables=dict(table2=table(["mine"], ["sst2"]), table6=None),
    )
    forecaster = forecast.Forecaster(load(**changes))
    options = dict(add_pooling_layer=False) if family in ("bert", "xlm-roberta") else {}
    model = transformers.AutoModel.from_pretrained(folder, **options)
    wanted = sum(value.numel() for value in model.parameters())
    assert forecaster.shape("mine").parameters == wanted and not forecaster.assumptions
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    assert forecast.Forecaster(load(**changes)).shape("mine").width == 768


def test_fetched_models_and_prepared_tokens_replace_assumptions(tmp_path):
    """An unknown model is assumed to be like RoBERTa-base until its config.json is fetched. The
    counts of a tokens.json replace those of lengths.csv; a damaged one is ignored.
    """
    source = dict(role="model", kind="file", locator="/somewhere")
    changes = dict(
        sources=dict(mine=source),
        results=str(tmp_path),
        tables=dict(table2=table(["mine"], ["sst2"]), table6=None),
    )
    forecaster = forecast.Forecaster(load(**changes))
    assert forecaster.shape("mine") == workload.shape_of("/nowhere", "roberta-base")[0]
    assert list(forecaster.assumptions) == [
        "model mine is not fetched: assumed to be like roberta-base"
    ]
    folder = make_model("bert", tmp_path / "sources/mine")
    assert (
        forecast.Forecaster(load(**changes)).shape("mine").width == 768
    )  # incomplete without fetched.json
    (folder / "fetched.json").write_text("{}")
    forecaster = forecast.Forecaster(load(**changes))
    model = transformers.AutoModel.from_pretrained(folder, add_pooling_layer=False)
    assert (
        forecaster.shape("mine").parameters == sum(value.numel() for value in model.parameters())
        and not forecaster.assumptions
    )
    cell = forecaster.grid.cells[0]
    before = forecaster._run(cell)
    tokens = tmp_path / "tokens/mine/sst2/t128/tokens.json"
    tokens.parent.mkdir(parents=True)
    tokens.write_text(json.dumps(dict(splits=dict(train=dict(examples=100, tokens=1500)))))
    after = forecast.Forecaster(load(**changes))._run(cell)
    assert (
        after.tokens == 1500 * 3
        and after.steps == 7 * 3
        and after.eval_tokens == before.eval_tokens
    )
    tokens.write_text('{"splits": ')
    assert forecast.Forecaster(load(**changes))._run(cell) == before


def test_a_task_of_a_config_has_the_size_of_its_file(tmp_path):
    """100 lines of 50 bytes: 80 examples of about 12 tokens for train, 20 for the evaluation."""
    path = tmp_path / "mine.csv"
    path.write_text(("x" * 49 + "\n") * 100)
    splits, notes = workload.splits_of(tmp_path, "minilm", own_task(path), 128, path)
    assert (splits["train"].examples, splits["validation"].examples) == (80, 20)
    assert splits["train"].mean == 12 and "80 examples of 12 tokens, an estimate" in notes[0]
    gone = workload.splits_of(tmp_path, "minilm", own_task("gone.csv"), 128, tmp_path / "gone.csv")
    assert "assumed to be like mnli" in gone[1][0]
