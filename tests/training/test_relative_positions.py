"""Training of models with relative positions and a convolution: bits in packs and after a resume.

A run's table of positions goes through its own LoRA pairs and dropout masks, so a pack has one for
each run.
"""

import dataclasses
from pathlib import Path

import pytest
import torch
from helpers.models import make_model
from helpers.training import adapter_of, make_spec, make_tokens, rows_of, train

from lora.experiment.run_spec import RunSpec
from lora.training import evaluation


@pytest.fixture(scope="module")
def deberta(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "deberta"
    return make_model("deberta-v2", folder, conv_kernel_size=3, conv_act="gelu")


@pytest.mark.parametrize("precision, threads", [("fp32", 1), ("fp32", 2), ("bf16", 2)])
def test_pack_equals_its_runs_alone(deberta, tokens_dir, tmp_path, precision, threads):
    """Runs that differ in rank, weights, LoRA dropout, epochs and data; in two orders."""
    other_tokens = make_tokens(tmp_path / "other", 37, seed=5)

    def specs(folder: Path) -> list[RunSpec]:
        return [
            make_spec(folder, 0),
            make_spec(folder, 1, "qkvo", 2, learning_rate=1e-3, epochs=2, lora_dropout=0.2),
            dataclasses.replace(make_spec(folder, 2, "v", 1, epochs=1), tokens_dir=other_tokens),
        ]

    alone, packed, reverse = (specs(tmp_path / name) for name in ("alone", "packed", "reverse"))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for spec in alone:
            state = tmp_path / "alone-state" / str(spec.seed)
            train([spec], deberta, tokens_dir, state, precision=precision)
        train(packed, deberta, tokens_dir, tmp_path / "packed-state", precision=precision)
        train(reverse[::-1], deberta, tokens_dir, tmp_path / "reverse-state", precision=precision)
    finally:
        torch.set_num_threads(before)
    for same in zip(alone, packed, reverse, strict=True):
        assert len({rows_of(spec) for spec in same}) == 1
        assert len({adapter_of(spec) for spec in same}) == 1


def test_resumed_run_equals_uninterrupted_run(deberta, tokens_dir, tmp_path, monkeypatch):
    """Stopped after an epoch and resumed alone: the same rows and adapters to the bit."""
    uninterrupted, resumed = (
        [make_spec(tmp_path / name, seed) for seed in (0, 1)] for name in ("whole", "resumed")
    )
    train(uninterrupted, deberta, tokens_dir, tmp_path / "whole-state")
    end_epoch, calls = evaluation.end_epoch, []

    def stop_at_third_call(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return end_epoch(*arguments)

    monkeypatch.setattr(evaluation, "end_epoch", stop_at_third_call)
    with pytest.raises(KeyboardInterrupt):
        train(resumed, deberta, tokens_dir, tmp_path / "state")
    monkeypatch.setattr(evaluation, "end_epoch", end_epoch)
    for spec in resumed:
        train([spec], deberta, tokens_dir, tmp_path / "state")
    for one, other in zip(uninterrupted, resumed, strict=True):
        assert rows_of(one) == rows_of(other) and adapter_of(one) == adapter_of(other)
