"""A finished run that is loaded again: its metrics, its logits, and folders that are refused."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from helpers.encoders import saved_adapter
from helpers.models import make_model
from helpers.training import TASK, make_spec, train

from lora import files
from lora.columns import METRICS_COLUMNS
from lora.data import tokens
from lora.errors import ConfigError
from lora.training import trained_run

METHODS = [
    ("lora", "qv", 4),
    ("lora", "qkvo", 3),
    ("ft", "all", 0),
    ("bitfit", "bias", 0),
    ("adapter_houlsby", "both", 4),
    ("adapter_pfeiffer", "ffn", 4),
    ("adapter_drop", "ffn1", 4),
]
METRICS = ("eval_loss", "accuracy", "f1", "precision", "recall", "matthews")


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return make_model("bert", tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, model_dir, tokens_dir):
    """Return the spec of a finished LoRA run; tests must not change its folder."""
    folder = tmp_path_factory.mktemp("finished")
    spec = make_spec(folder, 0)
    train([spec], model_dir, tokens_dir, folder / "state")
    return spec


def best_row(spec):
    rows = files.read_csv(spec.output_dir / "metrics.csv", METRICS_COLUMNS)
    return max(rows, key=lambda row: row["accuracy"])


def validation(tokens_dir):
    return tokens.load(tokens_dir)["validation"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("method", "weights", "rank"), METHODS)
def test_metrics_are_those_of_the_best_epoch(
    method, weights, rank, precision, model_dir, tokens_dir, tmp_path
):
    """Exactly: the tensors, the precision and the cuts of the evaluation are those of training."""
    specs = [make_spec(tmp_path, seed, weights, rank, method) for seed in (0, 1)]
    train(specs, model_dir, tokens_dir, tmp_path / "state", precision=precision)
    for spec in specs:
        run = trained_run.load(spec.output_dir, model_dir)
        got, row = run.evaluate(TASK, validation(tokens_dir)), best_row(spec)
        assert {name: got[name] for name in METRICS} == {name: row[name] for name in METRICS}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("bias", ["lora_only", "all"])
def test_metrics_of_a_run_with_biases(bias, precision, model_dir, tokens_dir, tmp_path):
    """The biases that it started with are in its adapter."""
    saved_adapter(tmp_path / "peft", model_dir, num_labels=2, bias=bias, r=4, lora_alpha=6)
    spec = make_spec(tmp_path, 0, start=str(tmp_path / "peft"))
    train([spec], model_dir, tokens_dir, tmp_path / "state", precision=precision)
    got = trained_run.load(spec.output_dir, model_dir).evaluate(TASK, validation(tokens_dir))
    row = best_row(spec)
    assert {name: got[name] for name in METRICS} == {name: row[name] for name in METRICS}


def test_logits_are_those_of_peft(finished, model_dir, tokens_dir):
    from peft import PeftModel
    from transformers import BertForSequenceClassification

    plain = BertForSequenceClassification.from_pretrained(model_dir, num_labels=2)
    model = PeftModel.from_pretrained(plain, finished.output_dir / "adapter").eval()
    examples = validation(tokens_dir)
    got = trained_run.load(finished.output_dir, model_dir).predict(examples)
    for index in range(len(examples)):
        ids, types, _, _ = examples.gather([index])
        with torch.no_grad():
            expected = model(
                input_ids=torch.from_numpy(ids.astype(np.int64))[None],
                token_type_ids=torch.from_numpy(types.astype(np.int64))[None],
            ).logits[0]
        np.testing.assert_allclose(got[index], expected.numpy(), atol=1e-5)


def test_classes_are_matched_by_name(finished, model_dir, tokens_dir, tmp_path, caplog):
    folder = shutil.copytree(finished.output_dir, tmp_path / "run")
    files.write_json(folder / "adapter/labels.json", {"label_names": ["no", "yes"]})
    run = trained_run.load(folder, model_dir)
    examples = validation(tokens_dir)
    named = dataclasses.replace(TASK, label_names=("no", "yes"))
    swapped = dataclasses.replace(TASK, label_names=("yes", "no"))
    other = dataclasses.replace(examples, labels=1 - examples.labels)
    assert run.evaluate(swapped, other)["accuracy"] == run.evaluate(named, examples)["accuracy"]
    assert "class 0 of" not in caplog.text
    run.evaluate(dataclasses.replace(TASK, name="other"), examples)
    assert "class 0 of" in caplog.text and "(no, yes; 2 classes without names)" in caplog.text


@pytest.mark.parametrize(
    ("changes", "has"),
    [
        (dict(label_names=("left", "right")), "left, right"),
        (dict(num_labels=3), "3 classes without names"),
        (dict(num_labels=3, label_names=("a", "b", "c")), "a, b, c"),
        (dict(num_labels=1, metric="pearson"), "scores"),
    ],
)
def test_a_task_with_other_classes_is_refused(
    changes, has, finished, model_dir, tokens_dir, tmp_path
):
    folder = shutil.copytree(finished.output_dir, tmp_path / "run")
    files.write_json(folder / "adapter/labels.json", {"label_names": ["no", "yes"]})
    task = dataclasses.replace(TASK, **changes)
    with pytest.raises(ValueError, match=f"predicts no, yes, and task toy has {has}"):
        trained_run.load(folder, model_dir).evaluate(task, validation(tokens_dir))


def test_the_base_model_is_found_in_the_results_folder_or_by_the_adapter(
    finished, model_dir, tmp_path
):
    """An adapter names the absolute path of a base that is not from the hub."""
    assert trained_run.load(finished.output_dir).model_dir == model_dir
    results = tmp_path / "results"
    folder = shutil.copytree(finished.output_dir, results / "runs/course/tiny/toy/seed0")
    own = shutil.copytree(model_dir, results / "sources/tiny")
    assert trained_run.load(folder).model_dir == own
    shutil.rmtree(own)
    config = folder / "adapter/adapter_config.json"
    for name in ("owner/model", str(tmp_path / "moved"), None):
        changed = json.loads(config.read_text()) | dict(base_model_name_or_path=name)
        config.write_text(json.dumps(changed))
        with pytest.raises(ValueError, match="the base model tiny .* --model-dir"):
            trained_run.load(folder)


def test_another_base_model_is_refused(finished, tmp_path):
    other = make_model("bert", tmp_path / "other", layer_norm_eps=1e-5)
    with pytest.raises(ConfigError, match="trained on local folder, checksum .*--model-dir"):
        trained_run.load(finished.output_dir, other)


def damage_nothing_but_remove(name):
    return lambda folder: (folder / name).unlink()


def change_adapter(folder):
    path = folder / "adapter/adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")


def change_record(folder):
    path = folder / "run.json"
    record = json.loads(path.read_text())
    record["settings"]["rank"] = 2
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_nothing_but_remove("run.json"), "no run.json; give the folder of a run"),
        (damage_nothing_but_remove("adapter/adapter_model.safetensors"), "no adapter/.*again"),
        (damage_nothing_but_remove("adapter/adapter_config.json"), "adapter_config.json"),
        (change_adapter, "was changed or damaged"),
        (change_record, "was changed or damaged"),
    ],
)
def test_a_folder_that_is_no_whole_run_is_refused(damage, message, finished, model_dir, tmp_path):
    folder = shutil.copytree(finished.output_dir, tmp_path / "run")
    damage(folder)
    with pytest.raises((ValueError, OSError), match=message):
        trained_run.load(folder, model_dir)


def test_a_folder_near_a_run_gets_the_folder_to_give(finished, model_dir):
    for folder in (finished.output_dir.parent, finished.output_dir / "adapter"):
        with pytest.raises(ValueError, match=str(finished.output_dir)):
            trained_run.load(folder, model_dir)
    with pytest.raises(ValueError, match="no run.json"):
        trained_run.load(finished.output_dir / "nothing", model_dir)
