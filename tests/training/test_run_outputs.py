"""Outputs of a finished run: run.json, the adapter, and outputs restored from a checkpoint."""

import dataclasses
import json
import shutil

import pytest
from helpers.training import adapter_of, make_spec, rows_of, train
from safetensors.torch import load_file

from lora import files, run_record
from lora.adapters import label_names
from lora.columns import METRICS_COLUMNS
from lora.errors import ConfigError
from lora.training import run_outputs


def test_run_json_has_all_fields_and_no_paths(bert_dir, tokens_dir, tmp_path):
    spec = make_spec(tmp_path, 0)
    train([spec], bert_dir, tokens_dir, tmp_path / "state")
    path = spec.output_dir / "run.json"
    record, text = run_record.read(path, "train again"), path.read_text()
    assert set(json.loads(text)) == set(run_record.RunRecord.model_fields)
    assert str(tmp_path) not in text and not record.altered
    assert record.settings.model_dump() == spec.settings
    assert record.speed.pack == 1 and record.start is None and record.status == "ok"
    for name, sha256 in record.files.items():
        assert files.file_sha256(spec.output_dir / name) == sha256
    rows = files.read_csv(spec.output_dir / "metrics.csv", METRICS_COLUMNS)
    best = max(rows, key=lambda row: row["accuracy"])
    assert (record.best.epoch, record.best.value) == (best["epoch"], best["accuracy"])


def test_counts_of_reading_the_data_are_in_run_json(bert_dir, tokens_dir, tmp_path):
    """Those of tokens.json, which earlier versions did not count: then there are none."""
    folder = shutil.copytree(tokens_dir, tmp_path / "tokens")
    facts = json.loads((folder / "tokens.json").read_text())
    counts = dict(skipped_lines=2, long_lines=0, empty_texts=1, repeated=0, in_train=3)
    facts["splits"]["train"] |= dict(read_counts=counts, truncated=4)
    files.write_json(folder / "tokens.json", facts)
    spec = make_spec(tmp_path, 0, epochs=1)
    train([spec], bert_dir, folder, tmp_path / "state")
    record = run_record.read(spec.output_dir / "run.json", "train again")
    assert record.data.read_counts == dict(train=counts | dict(truncated=4))


def test_parameter_counts_equal_the_saved_tensors(bert_dir, tokens_dir, tmp_path):
    spec = make_spec(tmp_path, 0, "both", 4, "adapter_houlsby", epochs=1)
    train([spec], bert_dir, tokens_dir, tmp_path / "state")
    counts = json.loads((spec.output_dir / "run.json").read_text())["parameters"]
    tensors = load_file(spec.output_dir / "adapter/adapter_model.safetensors")
    assert sum(value.numel() for value in tensors.values()) == counts["trainable"] + counts["head"]
    config = json.loads((spec.output_dir / "adapter/adapter_config.json").read_text())
    assert config == dict(
        method="adapter_houlsby", weights="both", rank=4, model="tiny", family="bert"
    )


def test_outputs_of_a_renamed_run_are_restored(bert_dir, tokens_dir, tmp_path):
    """Protocol and names of classes are not in the digest: the run is only written again."""
    spec = make_spec(tmp_path, 0, epochs=1)
    train([spec], bert_dir, tokens_dir, tmp_path / "state")
    before, path = rows_of(spec) + adapter_of(spec), spec.output_dir / "run.json"
    record = json.loads(path.read_text())
    shutil.rmtree(spec.output_dir)
    renamed = dataclasses.replace(
        spec,
        cell=dataclasses.replace(spec.cell, protocol="mine"),
        task=dataclasses.replace(spec.task, label_names=("no", "yes")),
    )
    train([renamed], bert_dir, tokens_dir, tmp_path / "state")
    assert rows_of(spec) + adapter_of(spec) == before
    restored = json.loads(path.read_text())
    assert restored["settings"] == record["settings"] | dict(protocol="mine")
    assert restored["finished"] == record["finished"]
    assert restored["digest"] == record["digest"]
    assert (record["data"]["label_names"], restored["data"]["label_names"]) == ([], ["no", "yes"])
    assert label_names.read(spec.output_dir / "adapter") == ("no", "yes")


def test_names_of_classes_are_replaced_in_whole_outputs(bert_dir, tokens_dir, tmp_path):
    """Without its checkpoint too; every other value of run.json stays."""
    one = make_spec(tmp_path, 0, epochs=1)
    before, after = (
        dataclasses.replace(one, task=dataclasses.replace(one.task, label_names=names))
        for names in (("no", "yes"), ("bad", "good"))
    )
    train([before], bert_dir, tokens_dir, tmp_path / "state")
    shutil.rmtree(tmp_path / "state")
    outputs, path = rows_of(one) + adapter_of(one), one.output_dir / "run.json"
    record = json.loads(path.read_text())
    train([after], bert_dir, tokens_dir, tmp_path / "state")
    assert outputs == rows_of(one) + adapter_of(one)
    changed = json.loads(path.read_text())
    assert not run_record.read(path, "").altered
    assert changed["data"].pop("label_names") == ["bad", "good"]
    assert record["data"].pop("label_names") == ["no", "yes"]
    assert record | dict(checksum=changed["checksum"]) == changed
    assert label_names.read(one.output_dir / "adapter") == ("bad", "good")
    assert "`bad`" in (one.output_dir / "adapter/README.md").read_text()


def test_a_run_that_another_job_wrote_meanwhile_is_kept(
    monkeypatch, bert_dir, tokens_dir, tmp_path
):
    """Two terminals, two seeds, one output folder: both checked it while it was empty."""
    first, second = (
        dataclasses.replace(make_spec(tmp_path, seed, epochs=1), output_dir=tmp_path / "out")
        for seed in (0, 1)
    )
    build, state = run_outputs.build_record, tmp_path / "state"

    def build_late(run, *given):
        monkeypatch.setattr(run_outputs, "build_record", build)
        train([first], bert_dir, tokens_dir, state, overwrite=False)
        return build(run, *given)

    monkeypatch.setattr(run_outputs, "build_record", build_late)
    with pytest.raises(ConfigError, match="another --output-dir, and --state-dir") as caught:
        train([second], bert_dir, tokens_dir, state, overwrite=False)
    assert caught.value.problems == [str(tmp_path / "out")]
    path = first.output_dir / "run.json"
    assert json.loads(path.read_text())["settings"]["seed"] == 0
    moved = dataclasses.replace(second, output_dir=tmp_path / "second")
    monkeypatch.setattr("lora.training.loop._train_pack", lambda *given: pytest.fail("trained"))
    train([moved], bert_dir, tokens_dir, state, overwrite=False)
    assert json.loads((tmp_path / "second/run.json").read_text())["settings"]["seed"] == 1


def test_descriptions_of_a_run_of_an_earlier_version_are_added(bert_dir, tokens_dir, tmp_path):
    """The workflow declares them, so a finished run that has none gets them; others keep theirs."""
    spec = make_spec(tmp_path, 0, epochs=1)
    train([spec], bert_dir, tokens_dir, tmp_path / "state")
    shutil.rmtree(tmp_path / "state")
    card, labels = (spec.output_dir / "adapter" / name for name in ("README.md", "labels.json"))
    expected = card.read_text()
    card.unlink()
    labels.unlink()
    train([spec], bert_dir, tokens_dir, tmp_path / "state")
    assert card.read_text() == expected and labels.is_file()
    card.write_text("mine")
    train([spec], bert_dir, tokens_dir, tmp_path / "state")
    assert card.read_text() == "mine"
