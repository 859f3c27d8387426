"""The loop: packed equals solo, resumed equals uninterrupted, and the parts of a step against torch and transformers."""

import dataclasses
import json
import logging
import shutil

import numpy as np
import peft
import pytest
import torch
from helpers.training import TASK, adapter_of, asked, go, make_tokens, rows_of

from lora import files
from lora.columns import METRICS_COLUMNS, RUN_JSON_KEYS
from lora.data import tokens
from lora.errors import ConfigError
from lora.experiment.hparams import HPARAM_NAMES
from lora.model import layers, packed_model
from lora.training import device, evaluation, run_state
from lora.training import loop as train


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("threads", [1, 2])
def test_pack_equals_its_runs_alone(model_dir, tokens_dir, tmp_path, precision, threads):
    """Dropout on; other ranks, weights, learning rates and numbers of epochs, another task's data; two orders: the same
    bits in every row and adapter."""
    other = make_tokens(tmp_path / "other", 37, seed=5)

    def wanted(folder):
        return [
            asked(folder, 0),
            asked(folder, 1, "qkvo", 2, learning_rate=1e-3, epochs=2),
            dataclasses.replace(asked(folder, 2, "k", 1), tokens_dir=other),
        ]

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for one in wanted(tmp_path / "solo"):
            go(
                [one],
                model_dir,
                tokens_dir,
                tmp_path / "solo-state" / str(one.settings["seed"]),
                precision=precision,
            )
        go(
            wanted(tmp_path / "pack"),
            model_dir,
            tokens_dir,
            tmp_path / "pack-state",
            precision=precision,
        )
        turned = wanted(tmp_path / "turned")[::-1]
        go(turned, model_dir, tokens_dir, tmp_path / "turned-state", precision=precision)
    finally:
        torch.set_num_threads(before)
    for solo, pack, turned in zip(
        *map(wanted, (tmp_path / "solo", tmp_path / "pack", tmp_path / "turned")), strict=True
    ):
        assert rows_of(solo) == rows_of(pack) == rows_of(turned)
        assert adapter_of(solo) == adapter_of(pack) == adapter_of(turned)
    assert rows_of(pack) != rows_of(wanted(tmp_path / "pack")[0])


def test_changing_one_runs_data_moves_no_other_run(bert_dir, tokens_dir, tmp_path):
    """In a pack over two data sets, other data for one run leave the other's bits alone."""
    for name, seed in (("one", 5), ("two", 6)):
        other = make_tokens(tmp_path / name / "tokens", 40, seed=seed)
        runs_of = [
            asked(tmp_path / name, 0),
            dataclasses.replace(asked(tmp_path / name, 1), tokens_dir=other),
        ]
        go(runs_of, bert_dir, tokens_dir, tmp_path / name / "state")
    (kept, changed), (kept_too, changed_too) = (
        [rows_of(asked(tmp_path / name, seed)) for seed in (0, 1)] for name in ("one", "two")
    )
    assert kept == kept_too and changed != changed_too


def test_bf16_base_keeps_what_trains_in_float32(bert_dir, tokens_dir, tmp_path):
    """Near float32's losses, and recorded; state and adapter are float32."""
    losses = []
    for precision in ("fp32", "bf16"):
        one = asked(tmp_path / precision, 0, epochs=2)
        go([one], bert_dir, tokens_dir, tmp_path / "state", precision=precision)
        losses.append(
            files.read_csv(one.output_dir / "metrics.csv", METRICS_COLUMNS)[-1]["train_loss"]
        )
        assert json.loads((one.output_dir / "run.json").read_text())["precision"] == precision
    from safetensors.torch import load_file

    assert {
        value.dtype
        for value in load_file(one.output_dir / "adapter/adapter_model.safetensors").values()
    } == {torch.float32}
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.05)


def test_auto_precision_takes_finished_runs_of_either(bert_dir, tokens_dir, tmp_path, monkeypatch):
    """A machine that would choose otherwise does not train again what is finished; an explicit choice does."""
    one = asked(tmp_path, 0, epochs=1)
    monkeypatch.setattr(device, "_bf16_gain", lambda: 1.0)
    go([one], bert_dir, tokens_dir, tmp_path / "state", precision="auto")
    assert json.loads((one.output_dir / "run.json").read_text())["precision"] == "fp32"
    before = rows_of(one)
    monkeypatch.setattr(device, "_bf16_gain", lambda: 4.0)
    go([one], bert_dir, tokens_dir, tmp_path / "state", precision="auto")
    assert rows_of(one) == before
    go([one], bert_dir, tokens_dir, tmp_path / "state", precision="bf16")
    assert rows_of(one) != before


def test_training_learns(bert_dir, tmp_path):
    one = asked(tmp_path, 0, learning_rate=2e-2, epochs=6, lora_dropout=0)
    go([one], bert_dir, make_tokens(tmp_path / "many", 200), tmp_path / "state")
    rows = files.read_csv(one.output_dir / "metrics.csv", METRICS_COLUMNS)
    assert (
        rows[-1]["train_loss"] < 0.5 * rows[0]["train_loss"]
        and max(row["accuracy"] for row in rows) > 0.9
    )


class Killed(Exception):
    pass


def test_resume_equals_uninterrupted(model_dir, tokens_dir, tmp_path, monkeypatch):
    """Stopped after an epoch, gone on in another pack: the same rows and adapters, to the bit."""
    whole = [asked(tmp_path / "whole", seed) for seed in (0, 1)]
    go(whole, model_dir, tokens_dir, tmp_path / "whole-state")
    parts = [asked(tmp_path / "parts", seed) for seed in (0, 1)]
    seen = []

    def stop(*arguments):
        if seen.count(1) == 2:
            raise Killed
        seen.append(1)
        return end_epoch(*arguments)

    end_epoch = evaluation.end_epoch
    monkeypatch.setattr(evaluation, "end_epoch", stop)
    with pytest.raises(Killed):
        go(parts, model_dir, tokens_dir, tmp_path / "state")
    monkeypatch.setattr(evaluation, "end_epoch", end_epoch)
    assert not parts[0].output_dir.exists()
    go(parts[:1], model_dir, tokens_dir, tmp_path / "state")
    go(parts[1:], model_dir, tokens_dir, tmp_path / "state")
    for one, other in zip(whole, parts, strict=True):
        assert rows_of(one) == rows_of(other) and adapter_of(one) == adapter_of(other)


def test_a_finished_run_is_never_trained_again(bert_dir, tokens_dir, tmp_path, monkeypatch):
    """Deleted outputs come back from state; a new seed trains alone."""
    first = [asked(tmp_path, seed) for seed in (0, 1)]
    go(first, bert_dir, tokens_dir, tmp_path / "state")
    before = [rows_of(one) + adapter_of(one) for one in first]
    for one in first:
        shutil.rmtree(one.output_dir)
    trained, loop = [], train._loop

    def watched(model, pack, *rest):
        trained.extend(run.seed for run in pack)
        loop(model, pack, *rest)

    monkeypatch.setattr(train, "_loop", watched)
    go([*first, asked(tmp_path, 2)], bert_dir, tokens_dir, tmp_path / "state")
    assert trained == [2]
    assert before == [rows_of(one) + adapter_of(one) for one in first]


def test_another_setting_is_another_run(bert_dir, tokens_dir, tmp_path):
    """The digest moves with everything that decides numbers, and not with names or the protocol's name."""
    settings = asked(tmp_path, 0).settings
    base = run_state.digest_of(settings, TASK, "t", "b", "fp32", "")
    for key, value in dict(seed=1, rank=5, weights="q", method="ft").items():
        assert run_state.digest_of(settings | {key: value}, TASK, "t", "b", "fp32", "") != base
    for name in set(HPARAM_NAMES) - {"start"}:  # what was started from counts, not where it was
        assert (
            run_state.digest_of(
                settings | {"hparams": settings["hparams"] | {name: -1}}, TASK, "t", "b", "fp32", ""
            )
            != base
        )
    assert (
        run_state.digest_of(settings, TASK, "T", "b", "fp32", "") != base
        and run_state.digest_of(settings, TASK, "t", "B", "fp32", "") != base
    )
    assert run_state.digest_of(settings, TASK, "t", "b", "bf16", "") != base
    assert run_state.digest_of(settings, TASK, "t", "b", "fp32", "s") != base
    assert (
        run_state.digest_of(settings, dataclasses.replace(TASK, metric="f1"), "t", "b", "fp32", "")
        != base
    )
    assert (
        run_state.digest_of(
            settings | dict(protocol="other", model="renamed", task="renamed"),
            TASK,
            "t",
            "b",
            "fp32",
            "",
        )
        == base
    )


def test_micro_batches_change_nothing_beyond_rounding(bert_dir, tokens_dir, tmp_path):
    whole, small = asked(tmp_path / "a", 0, epochs=1), asked(tmp_path / "b", 0, epochs=1)
    go([whole], bert_dir, tokens_dir, tmp_path / "sa")
    go([small], bert_dir, tokens_dir, tmp_path / "sb", micro_batch=3)
    one, other = (
        files.read_csv(each.output_dir / "metrics.csv", METRICS_COLUMNS)[0]
        for each in (whole, small)
    )
    assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-5)
    assert one["eval_loss"] == pytest.approx(other["eval_loss"], rel=1e-4)


def test_a_run_that_diverges_is_a_row_with_a_status(bert_dir, tokens_dir, tmp_path):
    """Its neighbour trains on, to the same bits as alone."""
    good, bad = asked(tmp_path, 0), asked(tmp_path, 1, learning_rate=1e30, max_grad_norm=0)
    go([good, bad], bert_dir, tokens_dir, tmp_path / "state")
    rows = files.read_csv(bad.output_dir / "metrics.csv", METRICS_COLUMNS)
    assert rows[-1]["status"] == "non_finite" and np.isnan(rows[-1]["accuracy"])
    assert json.loads((bad.output_dir / "run.json").read_text())["status"] == "non_finite"
    alone = asked(tmp_path / "alone", 0)
    go([alone], bert_dir, tokens_dir, tmp_path / "alone-state")
    assert rows_of(good) == rows_of(alone)


def test_run_json_has_its_keys_and_no_paths(bert_dir, tokens_dir, tmp_path):
    one = asked(tmp_path, 0)
    go([one], bert_dir, tokens_dir, tmp_path / "state")
    text = (one.output_dir / "run.json").read_text()
    assert tuple(sorted(json.loads(text))) == tuple(sorted(RUN_JSON_KEYS))
    assert str(tmp_path) not in text


def test_frozen_head_stays(bert_dir, tokens_dir, tmp_path):
    base = packed_model.load_base(bert_dir)
    one = asked(tmp_path, 0, head="frozen")
    start = packed_model.PackedModel(
        base, [packed_model.AdapterSpec(0, "qv", 4, 2, one.hparams)]
    ).parameters_of(0)
    start = {name: value.detach().clone() for name, value in start.items()}
    go([one], bert_dir, tokens_dir, tmp_path / "state")
    from safetensors.torch import load_file

    saved = load_file(one.output_dir / "adapter/adapter_model.safetensors")
    assert torch.equal(saved["base_model.model.classifier.weight"], start["head.out.weight"])
    assert json.loads((one.output_dir / "run.json").read_text())["parameters"]["head"] == 0


def test_what_does_not_fit_is_said_before_training(bert_dir, tokens_dir, tmp_path):
    with pytest.raises(ConfigError) as caught:
        go([asked(tmp_path, 0, rank=33, max_tokens=64)], bert_dir, tokens_dir, tmp_path / "state")
    assert "rank is 33; at most the model's width, 32" in str(caught.value)
    assert "the prepared tokens have 20" in str(caught.value) and "takes at most 40" in str(
        caught.value
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_cuda_without_a_gpu_is_refused_and_auto_says_cpu(caplog):
    with pytest.raises(ValueError, match="sees no GPU"):
        device.pick_device("cuda")
    with caplog.at_level(logging.INFO):
        assert device.pick_device("auto").type == "cpu"
    assert "no GPU found" in caplog.text


def test_loss_of_the_last_short_step_is_its_own_mean():
    """42 examples in steps of 8: the last step has 2, and its gradient is their mean's."""
    assert tokens.steps_per_epoch(42, 8) == 6
    logits = torch.randn(2, 2, requires_grad=True)
    (layers.loss_sum(logits, torch.tensor([0.0, 1.0])) / 2).backward()
    ours = logits.grad.clone()
    logits.grad = None
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
    assert torch.allclose(ours, logits.grad)


def test_peft_can_go_on_training_our_adapter(bert_dir, tokens_dir, tmp_path):
    one = asked(tmp_path, 0)
    go([one], bert_dir, tokens_dir, tmp_path / "state")
    config = peft.PeftConfig.from_pretrained(one.output_dir / "adapter")
    assert (config.r, config.lora_alpha, config.task_type) == (4, 6, "SEQ_CLS")
