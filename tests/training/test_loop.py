"""The loop: a pack gives the rows of its runs alone, and a resumed run those of a whole one."""

import dataclasses
import json
import shutil

import numpy as np
import peft
import pytest
import torch
from helpers.training import adapter_of, make_spec, make_tokens, rows_of, train
from safetensors.torch import load_file

from lora import files
from lora.columns import METRICS_COLUMNS
from lora.data import tokens
from lora.errors import ConfigError
from lora.model import layers, methods, packed_model, pretrained
from lora.training import device, evaluation, loop


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("threads", [1, 2])
def test_pack_equals_its_runs_alone(model_dir, tokens_dir, tmp_path, precision, threads):
    """The same bits in every row and adapter, in two orders of the pack.

    With dropout, other ranks, weights, learning rates and epochs, and other data.
    """
    other = make_tokens(tmp_path / "other", 37, seed=5)

    def wanted(folder):
        return [
            make_spec(folder, 0),
            make_spec(folder, 1, "qkvo", 2, learning_rate=1e-3, epochs=2),
            dataclasses.replace(make_spec(folder, 2, "k", 1), tokens_dir=other),
        ]

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for one in wanted(tmp_path / "solo"):
            train(
                [one],
                model_dir,
                tokens_dir,
                tmp_path / "solo-state" / str(one.seed),
                precision=precision,
            )
        train(
            wanted(tmp_path / "pack"),
            model_dir,
            tokens_dir,
            tmp_path / "pack-state",
            precision=precision,
        )
        turned = wanted(tmp_path / "turned")[::-1]
        train(turned, model_dir, tokens_dir, tmp_path / "turned-state", precision=precision)
    finally:
        torch.set_num_threads(before)
    for solo, pack, turned in zip(
        *map(wanted, (tmp_path / "solo", tmp_path / "pack", tmp_path / "turned")), strict=True
    ):
        assert rows_of(solo) == rows_of(pack) == rows_of(turned)
        assert adapter_of(solo) == adapter_of(pack) == adapter_of(turned)
    assert rows_of(pack) != rows_of(wanted(tmp_path / "pack")[0])


def test_other_data_of_one_run_change_no_other_run(bert_dir, tokens_dir, tmp_path):
    """In a pack over two data sets the other run keeps its bits."""
    for name, seed in (("one", 5), ("two", 6)):
        other = make_tokens(tmp_path / name / "tokens", 40, seed=seed)
        runs_of = [
            make_spec(tmp_path / name, 0),
            dataclasses.replace(make_spec(tmp_path / name, 1), tokens_dir=other),
        ]
        train(runs_of, bert_dir, tokens_dir, tmp_path / name / "state")
    (kept, changed), (kept_too, changed_too) = (
        [rows_of(make_spec(tmp_path / name, seed)) for seed in (0, 1)] for name in ("one", "two")
    )
    assert kept == kept_too and changed != changed_too


def test_trained_tensors_are_float32_over_a_bf16_base(bert_dir, tokens_dir, tmp_path):
    """The losses are close to those in float32, and the precision is recorded."""
    losses = []
    for precision in ("fp32", "bf16"):
        one = make_spec(tmp_path / precision, 0, epochs=2)
        train([one], bert_dir, tokens_dir, tmp_path / "state", precision=precision)
        losses.append(
            files.read_csv(one.output_dir / "metrics.csv", METRICS_COLUMNS)[-1]["train_loss"]
        )
        assert json.loads((one.output_dir / "run.json").read_text())["precision"] == precision
    assert {
        value.dtype
        for value in load_file(one.output_dir / "adapter/adapter_model.safetensors").values()
    } == {torch.float32}
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.05)


def test_auto_precision_accepts_finished_runs_of_either(
    bert_dir, tokens_dir, tmp_path, monkeypatch
):
    """A machine that would pick the other one does not train again; an explicit choice does."""
    one = make_spec(tmp_path, 0, epochs=1)
    monkeypatch.setattr(device, "_bf16_speedup", lambda: 1.0)
    train([one], bert_dir, tokens_dir, tmp_path / "state", precision="auto")
    assert json.loads((one.output_dir / "run.json").read_text())["precision"] == "fp32"
    before = rows_of(one)
    monkeypatch.setattr(device, "_bf16_speedup", lambda: 4.0)
    train([one], bert_dir, tokens_dir, tmp_path / "state", precision="auto")
    assert rows_of(one) == before
    train([one], bert_dir, tokens_dir, tmp_path / "state", precision="bf16")
    assert rows_of(one) != before


def test_training_learns(bert_dir, tmp_path):
    one = make_spec(tmp_path, 0, learning_rate=2e-2, epochs=6, lora_dropout=0)
    train([one], bert_dir, make_tokens(tmp_path / "many", 200), tmp_path / "state")
    rows = files.read_csv(one.output_dir / "metrics.csv", METRICS_COLUMNS)
    assert (
        rows[-1]["train_loss"] < 0.5 * rows[0]["train_loss"]
        and max(row["accuracy"] for row in rows) > 0.9
    )


class Killed(Exception):
    pass


def test_resume_equals_uninterrupted(model_dir, tokens_dir, tmp_path, monkeypatch):
    """Stopped after an epoch and resumed in another pack: the same rows and adapters to the bit."""
    whole = [make_spec(tmp_path / "whole", seed) for seed in (0, 1)]
    train(whole, model_dir, tokens_dir, tmp_path / "whole-state")
    parts = [make_spec(tmp_path / "parts", seed) for seed in (0, 1)]
    seen = []

    def stop(*arguments):
        if seen.count(1) == 2:
            raise Killed
        seen.append(1)
        return end_epoch(*arguments)

    end_epoch = evaluation.end_epoch
    monkeypatch.setattr(evaluation, "end_epoch", stop)
    with pytest.raises(Killed):
        train(parts, model_dir, tokens_dir, tmp_path / "state")
    monkeypatch.setattr(evaluation, "end_epoch", end_epoch)
    assert not parts[0].output_dir.exists()
    train(parts[:1], model_dir, tokens_dir, tmp_path / "state")
    train(parts[1:], model_dir, tokens_dir, tmp_path / "state")
    for one, other in zip(whole, parts, strict=True):
        assert rows_of(one) == rows_of(other) and adapter_of(one) == adapter_of(other)


def test_a_finished_run_is_never_trained_again(bert_dir, tokens_dir, tmp_path, monkeypatch):
    """Deleted outputs come back from checkpoints; a new seed trains alone."""
    first = [make_spec(tmp_path, seed) for seed in (0, 1)]
    train(first, bert_dir, tokens_dir, tmp_path / "state")
    before = [rows_of(one) + adapter_of(one) for one in first]
    for one in first:
        shutil.rmtree(one.output_dir)
    trained, train_epochs = [], loop._train_epochs

    def watched(model, pack, *rest):
        trained.extend(run.spec.seed for run in pack)
        train_epochs(model, pack, *rest)

    monkeypatch.setattr(loop, "_train_epochs", watched)
    train([*first, make_spec(tmp_path, 2)], bert_dir, tokens_dir, tmp_path / "state")
    assert trained == [2]
    assert before == [rows_of(one) + adapter_of(one) for one in first]


def test_micro_batches_change_nothing_beyond_rounding(bert_dir, tokens_dir, tmp_path):
    whole, small = make_spec(tmp_path / "a", 0, epochs=1), make_spec(tmp_path / "b", 0, epochs=1)
    train([whole], bert_dir, tokens_dir, tmp_path / "sa")
    train([small], bert_dir, tokens_dir, tmp_path / "sb", micro_batch=3)
    one, other = (
        files.read_csv(each.output_dir / "metrics.csv", METRICS_COLUMNS)[0]
        for each in (whole, small)
    )
    assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-5)
    assert one["eval_loss"] == pytest.approx(other["eval_loss"], rel=1e-4)


def test_diverged_run_is_a_row_with_a_status(bert_dir, tokens_dir, tmp_path):
    """The other run of its pack has the same bits as alone."""
    good, bad = make_spec(tmp_path, 0), make_spec(tmp_path, 1, learning_rate=1e30, max_grad_norm=0)
    train([good, bad], bert_dir, tokens_dir, tmp_path / "state")
    rows = files.read_csv(bad.output_dir / "metrics.csv", METRICS_COLUMNS)
    assert rows[-1]["status"] == "non_finite" and np.isnan(rows[-1]["accuracy"])
    assert json.loads((bad.output_dir / "run.json").read_text())["status"] == "non_finite"
    alone = make_spec(tmp_path / "alone", 0)
    train([alone], bert_dir, tokens_dir, tmp_path / "alone-state")
    assert rows_of(good) == rows_of(alone)


def test_frozen_head_stays(bert_dir, tokens_dir, tmp_path):
    base = pretrained.load_base(bert_dir)
    one = make_spec(tmp_path, 0, head="frozen")
    start = packed_model.PackedModel(
        base, [methods.AdapterSpec(0, "qv", 4, 2, one.hparams)]
    ).parameters_of(0)
    start = {name: value.detach().clone() for name, value in start.items()}
    train([one], bert_dir, tokens_dir, tmp_path / "state")
    saved = load_file(one.output_dir / "adapter/adapter_model.safetensors")
    assert torch.equal(saved["base_model.model.classifier.weight"], start["head.out.weight"])
    assert json.loads((one.output_dir / "run.json").read_text())["parameters"]["head"] == 0


def test_settings_that_do_not_fit_are_refused_before_training(bert_dir, tokens_dir, tmp_path):
    with pytest.raises(ConfigError) as caught:
        train(
            [make_spec(tmp_path, 0, rank=33, max_tokens=64)],
            bert_dir,
            tokens_dir,
            tmp_path / "state",
        )
    assert "rank is 33; at most the model's width, 32" in str(caught.value)
    assert "the prepared tokens have 20" in str(caught.value) and "takes at most 40" in str(
        caught.value
    )


def test_loss_of_the_last_short_step_is_its_own_mean():
    """Of 42 examples in steps of 8 the last step has 2: its gradient is that of their mean."""
    assert tokens.steps_per_epoch(42, 8) == 6
    logits = torch.randn(2, 2, requires_grad=True)
    (layers.loss_sum(logits, torch.tensor([0.0, 1.0])) / 2).backward()
    ours = logits.grad.clone()
    logits.grad = None
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
    assert torch.allclose(ours, logits.grad)


def test_peft_can_go_on_training_our_adapter(bert_dir, tokens_dir, tmp_path):
    one = make_spec(tmp_path, 0)
    train([one], bert_dir, tokens_dir, tmp_path / "state")
    config = peft.PeftConfig.from_pretrained(one.output_dir / "adapter")
    assert (config.r, config.lora_alpha, config.task_type) == (4, 6, "SEQ_CLS")
