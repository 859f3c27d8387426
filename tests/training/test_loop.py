"""Training loop: runs give the same bits alone, in a pack, and resumed from a checkpoint."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from helpers.training import adapter_of, make_spec, make_tokens, rows_of, train
from safetensors.torch import load_file

from lora import files
from lora.columns import METRICS_COLUMNS
from lora.experiment.run_spec import RunSpec
from lora.model import methods, packed_model, pretrained
from lora.training import device, evaluation, loop


def metrics_of(spec: RunSpec) -> list[dict]:
    """Return the rows of a run's metrics.csv, one per epoch."""
    return files.read_csv(spec.output_dir / "metrics.csv", METRICS_COLUMNS)


def record_of(spec: RunSpec) -> dict:
    """Return the content of a run's run.json."""
    return json.loads((spec.output_dir / "run.json").read_text())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("threads", [1, 2])
def test_pack_equals_its_runs_alone(model_dir, tokens_dir, tmp_path, precision, threads):
    """The same bits in every row and adapter, in two orders of the pack.

    The runs use dropout and differ in rank, weights, learning rate, epochs and data.
    """
    other_tokens = make_tokens(tmp_path / "other", 37, seed=5)

    def make_specs(folder: Path) -> list[RunSpec]:
        return [
            make_spec(folder, 0),
            make_spec(folder, 1, "qkvo", 2, learning_rate=1e-3, epochs=2),
            dataclasses.replace(make_spec(folder, 2, "k", 1), tokens_dir=other_tokens),
        ]

    def train_specs(specs: list[RunSpec], state_dir: Path) -> None:
        train(specs, model_dir, tokens_dir, state_dir, precision=precision)

    alone, packed, reverse = (
        make_specs(tmp_path / name) for name in ("alone", "packed", "reverse")
    )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for spec in alone:
            train_specs([spec], tmp_path / "alone-state" / str(spec.seed))
        train_specs(packed, tmp_path / "packed-state")
        train_specs(reverse[::-1], tmp_path / "reverse-state")
    finally:
        torch.set_num_threads(before)
    for specs in zip(alone, packed, reverse, strict=True):
        assert len({rows_of(spec) for spec in specs}) == 1
        assert len({adapter_of(spec) for spec in specs}) == 1
    assert rows_of(packed[-1]) != rows_of(packed[0])


def test_data_of_one_run_do_not_affect_another_run(bert_dir, tokens_dir, tmp_path):
    """In a pack over two data sets, with two versions of the second one."""
    rows = {}
    for version, seed in (("first", 5), ("second", 6)):
        folder = tmp_path / version
        other_tokens = make_tokens(folder / "tokens", 40, seed=seed)
        specs = [
            make_spec(folder, 0),
            dataclasses.replace(make_spec(folder, 1), tokens_dir=other_tokens),
        ]
        train(specs, bert_dir, tokens_dir, folder / "state")
        rows[version] = [rows_of(spec) for spec in specs]
    assert rows["first"][0] == rows["second"][0]
    assert rows["first"][1] != rows["second"][1]


def test_trained_tensors_are_float32_with_a_bf16_base(bert_dir, tokens_dir, tmp_path):
    """The losses are close to those in float32, and the precision is recorded."""
    losses = []
    for precision in ("fp32", "bf16"):
        spec = make_spec(tmp_path / precision, 0, epochs=2)
        train([spec], bert_dir, tokens_dir, tmp_path / "state", precision=precision)
        losses.append(metrics_of(spec)[-1]["train_loss"])
        assert record_of(spec)["precision"] == precision
    tensors = load_file(spec.output_dir / "adapter/adapter_model.safetensors")
    assert {value.dtype for value in tensors.values()} == {torch.float32}
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.05)


def test_auto_precision_accepts_finished_runs_of_either_precision(
    bert_dir, tokens_dir, tmp_path, monkeypatch
):
    """Also on a machine where the other one is faster; an explicit precision trains again."""
    spec = make_spec(tmp_path, 0, epochs=1)
    monkeypatch.setattr(device, "_bf16_speedup", lambda: 1.0)
    train([spec], bert_dir, tokens_dir, tmp_path / "state", precision="auto")
    assert record_of(spec)["precision"] == "fp32"
    before = rows_of(spec)
    monkeypatch.setattr(device, "_bf16_speedup", lambda: 4.0)
    train([spec], bert_dir, tokens_dir, tmp_path / "state", precision="auto")
    assert rows_of(spec) == before
    train([spec], bert_dir, tokens_dir, tmp_path / "state", precision="bf16")
    assert rows_of(spec) != before


def test_training_learns(bert_dir, tmp_path):
    """The loss falls by half, and the accuracy exceeds 90 %."""
    spec = make_spec(tmp_path, 0, learning_rate=2e-2, epochs=6, lora_dropout=0)
    train([spec], bert_dir, make_tokens(tmp_path / "tokens", 200), tmp_path / "state")
    rows = metrics_of(spec)
    assert rows[-1]["train_loss"] < 0.5 * rows[0]["train_loss"]
    assert max(row["accuracy"] for row in rows) > 0.9


class Stopped(Exception):
    """Raised by a test to stop a training."""


def test_resumed_run_equals_uninterrupted_run(model_dir, tokens_dir, tmp_path, monkeypatch):
    """Stopped after an epoch and resumed in another pack: the same rows and adapters to the bit."""
    uninterrupted = [make_spec(tmp_path / "uninterrupted", seed) for seed in (0, 1)]
    train(uninterrupted, model_dir, tokens_dir, tmp_path / "uninterrupted-state")
    resumed = [make_spec(tmp_path / "resumed", seed) for seed in (0, 1)]
    end_epoch, calls = evaluation.end_epoch, []

    def stop_at_third_call(*arguments):
        if len(calls) == 2:
            raise Stopped
        calls.append(arguments)
        return end_epoch(*arguments)

    monkeypatch.setattr(evaluation, "end_epoch", stop_at_third_call)
    with pytest.raises(Stopped):
        train(resumed, model_dir, tokens_dir, tmp_path / "state")
    monkeypatch.setattr(evaluation, "end_epoch", end_epoch)
    assert not resumed[0].output_dir.exists()
    train(resumed[:1], model_dir, tokens_dir, tmp_path / "state")
    train(resumed[1:], model_dir, tokens_dir, tmp_path / "state")
    for one, other in zip(uninterrupted, resumed, strict=True):
        assert rows_of(one) == rows_of(other) and adapter_of(one) == adapter_of(other)


def test_finished_run_is_not_trained_again(bert_dir, tokens_dir, tmp_path, monkeypatch):
    """Deleted outputs are restored from checkpoints; a new seed is trained alone."""
    finished = [make_spec(tmp_path, seed) for seed in (0, 1)]
    train(finished, bert_dir, tokens_dir, tmp_path / "state")
    before = [rows_of(spec) + adapter_of(spec) for spec in finished]
    for spec in finished:
        shutil.rmtree(spec.output_dir)
    seeds, train_epochs = [], loop._train_epochs

    def record_seeds(model, pack, *rest):
        seeds.extend(run.spec.seed for run in pack)
        train_epochs(model, pack, *rest)

    monkeypatch.setattr(loop, "_train_epochs", record_seeds)
    train([*finished, make_spec(tmp_path, 2)], bert_dir, tokens_dir, tmp_path / "state")
    assert seeds == [2]
    assert before == [rows_of(spec) + adapter_of(spec) for spec in finished]


def test_micro_batches_change_losses_by_rounding_only(bert_dir, tokens_dir, tmp_path):
    full, split = (
        make_spec(tmp_path / "full", 0, epochs=1),
        make_spec(tmp_path / "split", 0, epochs=1),
    )
    train([full], bert_dir, tokens_dir, tmp_path / "full-state")
    train([split], bert_dir, tokens_dir, tmp_path / "split-state", micro_batch=3)
    (full_row,), (split_row,) = metrics_of(full), metrics_of(split)
    assert full_row["train_loss"] == pytest.approx(split_row["train_loss"], rel=1e-5)
    assert full_row["eval_loss"] == pytest.approx(split_row["eval_loss"], rel=1e-4)


def test_diverged_run_has_a_row_with_its_status(bert_dir, tokens_dir, tmp_path):
    """The other run of its pack has the same bits as alone."""
    good = make_spec(tmp_path, 0)
    diverged = make_spec(tmp_path, 1, learning_rate=1e30, max_grad_norm=0)
    train([good, diverged], bert_dir, tokens_dir, tmp_path / "state")
    last = metrics_of(diverged)[-1]
    assert last["status"] == "non_finite" and np.isnan(last["accuracy"])
    assert record_of(diverged)["status"] == "non_finite"
    alone = make_spec(tmp_path / "alone", 0)
    train([alone], bert_dir, tokens_dir, tmp_path / "alone-state")
    assert rows_of(good) == rows_of(alone)


def test_frozen_head_is_not_trained(bert_dir, tokens_dir, tmp_path):
    base = pretrained.load_base(bert_dir)
    spec = make_spec(tmp_path, 0, head="frozen")
    model = packed_model.PackedModel(base, [methods.AdapterSpec(0, "qv", 4, 2, spec.hparams)])
    initial = model.parameters_of(0)["head.out.weight"].detach().clone()
    train([spec], bert_dir, tokens_dir, tmp_path / "state")
    saved = load_file(spec.output_dir / "adapter/adapter_model.safetensors")
    assert torch.equal(saved["base_model.model.classifier.weight"], initial)
    assert record_of(spec)["parameters"]["head"] == 0


def test_peft_reads_the_config_of_a_trained_adapter(bert_dir, tokens_dir, tmp_path):
    spec = make_spec(tmp_path, 0)
    train([spec], bert_dir, tokens_dir, tmp_path / "state")
    config = peft.PeftConfig.from_pretrained(spec.output_dir / "adapter")
    assert (config.r, config.lora_alpha, config.task_type) == (4, 6, "SEQ_CLS")
