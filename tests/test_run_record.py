"""run.json: written and read through one model, with files of older versions."""

import json
import math

import pytest
from helpers.models import ROOT

from lora import files, run_record
from lora.errors import ConfigError
from lora.run_record import RunRecord, Settings, Speed

ROWS = [
    dict.fromkeys(("learning_rate", "train_loss", "eval_loss"), 0.5)
    | dict(epoch=1, step=10, status="ok", accuracy=0.9)
]
REFERENCE = sorted((ROOT / "results/reference").rglob("run.json"))


def full_rows():
    from lora.columns import METRICS_COLUMNS

    return [dict.fromkeys(METRICS_COLUMNS, math.nan) | row for row in ROWS]


def test_a_record_is_read_as_it_was_written(tmp_path):
    record = RunRecord(settings=Settings(seed=3, hparams=dict(alpha=8.0)), speed=Speed(pack=2))
    run_record.write_run(tmp_path, record, full_rows())
    found = run_record.read(tmp_path / "run.json", "train it again", ("settings.seed",))
    assert found.as_json() == record.as_json() and not found.altered
    assert found.files == {"metrics.csv": files.file_sha256(tmp_path / "metrics.csv")}
    assert set(json.loads((tmp_path / "run.json").read_text())) == set(RunRecord.model_fields)


def test_a_changed_value_does_not_fit_the_checksum(tmp_path):
    run_record.write_run(tmp_path, RunRecord(status="ok"), full_rows())
    content = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(content | dict(status="non_finite")))
    assert run_record.read(tmp_path / "run.json", "train it again").altered


@pytest.mark.parametrize("path", REFERENCE, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_reference_results_are_read_without_loss(path):
    content = json.loads(path.read_text())
    found = run_record.read(path, "train it again", run_record.IDENTITY)
    kept = found.as_json()
    unknown = dict(label_counts={}, read_counts={}, made_splits={}, label_names=[])
    for key, value in unknown.items():
        if key not in content["data"]:  # runs of earlier versions did not record these
            assert kept["data"].pop(key) == value
    assert {key: kept[key] for key in content if key not in ("files", "checksum")} == {
        key: value for key, value in content.items() if key not in ("files", "checksum")
    }
    assert found.files == content["files"] and not found.altered


def test_there_are_reference_results():
    assert len(REFERENCE) > 10


def test_every_wrong_key_is_named_at_once():
    content = dict(
        settings=dict(rank=True, seed=1.0, hparams="x", model=["a"]),
        parameters=3,
        speed=dict(wall_s="1 s"),
    )
    with pytest.raises(ConfigError) as caught:
        run_record.parse(content, "run.json is not valid:", ("device", "settings.weights"))
    assert sorted(caught.value.problems) == [
        "device is missing",
        "parameters is 3; expected an object",
        "settings.hparams is 'x'; expected an object",
        "settings.model is ['a']; expected text",
        "settings.rank is True; expected a whole number",
        "settings.seed is 1.0; expected a whole number",
        "settings.weights is missing",
        "speed.wall_s is '1 s'; expected a number",
    ]


def test_missing_keys_have_defaults_and_needed_ones_are_named(tmp_path):
    (tmp_path / "run.json").write_text('{"base": {"family": ""}, "best": {}, "new_key": 1}')
    found = run_record.read(tmp_path / "run.json", "train it again", ("best",))
    assert found.get("base.family") == "" and found.get("base.family.x") is None
    assert found.get("base.source") is None and found.base.source == ""
    assert found.start is None and found.speed.wall_s is None
    assert found.base_precision == "fp32" and found.as_json()["new_key"] == 1
    message = "(?s)run.json is not a valid run.json; train it again.*settings.seed is missing"
    with pytest.raises(ConfigError, match=message):
        run_record.read(tmp_path / "run.json", "train it again", run_record.IDENTITY)


def test_an_unknown_number_may_be_an_empty_text():
    """Earlier versions wrote imported runs so."""
    found = run_record.parse(dict(speed=dict(wall_s="", pack=1), data=dict(eval_examples="")), "x")
    assert found.speed.wall_s is None and found.data.eval_examples is None
    assert found.has("speed.wall_s") and not found.has("speed.examples_per_s")


def test_every_key_is_described():
    def undescribed(schema):
        return [
            name for name, key in schema.get("properties", {}).items() if not key.get("description")
        ]

    schema = RunRecord.model_json_schema()
    assert undescribed(schema) == []
    assert [undescribed(part) for part in schema["$defs"].values()] == [[]] * len(schema["$defs"])


@pytest.mark.parametrize(
    "values, best",
    [
        ([0.5, 0.9, 0.9], 2),
        ([math.nan, 0.1, math.nan], 2),
        ([math.nan], None),
        ([], None),
        ([-0.3, -0.1], 2),
    ],
)
def test_the_best_epoch_is_the_earliest_of_the_highest(values, best):
    assert run_record.best_epoch(values) == best
