"""Trial of a GPU: an operation that is missing, or gives other values, is found."""

import pytest
import torch

from lora.training import device_trial, optim

CPU = torch.device("cpu")


def test_the_cpu_gives_the_values_of_the_cpu():
    assert device_trial.find_problem(CPU) == ""


def test_values_are_those_of_a_step():
    """Two runs: logits of 3 and 2 sentences, gradients that are not all zero, logits again."""
    values = device_trial.train_tiny_model(CPU)
    assert [tuple(value.shape) for value in values[:2] + values[-2:]] == [(3, 2), (2, 2)] * 2
    assert sum(bool(value.any()) for value in values[2:-2]) > 16
    assert not torch.allclose(values[0], values[-2])  # dropout, and a step


def test_missing_operation_is_named(monkeypatch):
    def missing(updates):
        raise NotImplementedError("aten::_fused_adamw_ is not implemented for MPS\nand more")

    monkeypatch.setattr(optim, "step", missing)
    problem = device_trial.find_problem(CPU)
    assert problem == "NotImplementedError: aten::_fused_adamw_ is not implemented for MPS"


@pytest.mark.parametrize("factor", [1.5, float("nan")])
def test_other_values_are_found(monkeypatch, factor):
    train, calls = device_trial.train_tiny_model, []

    def scaled(device):
        calls.append(device)
        return [value * factor if len(calls) == 1 else value for value in train(device)]

    monkeypatch.setattr(device_trial, "train_tiny_model", scaled)
    assert device_trial.find_problem(CPU) == "its values are not those of the CPU"


def test_a_device_without_values_cannot_train():
    """On meta the copy of the logits fails; torch's global generator is left as it was."""
    before = torch.get_rng_state()
    assert device_trial.find_problem(torch.device("meta")).startswith("NotImplementedError")
    assert torch.equal(before, torch.get_rng_state())
