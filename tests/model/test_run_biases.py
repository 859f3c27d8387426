"""Runs with biases in place of the base model's, against peft, and beside runs without them."""

import dataclasses

import pytest
import torch
from helpers.encoders import member, packed, padded, peft_twin
from helpers.models import sentences

from lora.model import collate, methods
from lora.model.encoder import Encoder
from lora.model.run_biases import RunBiases

pytestmark = pytest.mark.filterwarnings("ignore:.*newly initialized.*", "ignore::UserWarning")


def with_biases(model_dir, *members):
    """Return a packed model in float64 in which all biases that runs have themselves are random."""
    model = packed(model_dir, *members)
    for run in range(len(members)):
        for value in model.biases.parameters_of(run).values():
            value.normal_(0, 0.3)
    return model


def biased(bias, *arguments, **options):
    return dataclasses.replace(member(*arguments, **options), bias=bias)


@pytest.mark.parametrize("bias, count", [("lora_only", 8), ("all", 17)])
def test_logits_and_gradients_are_peft_s(model_dir, family, tmp_path, bias, count):
    """A run with biases, in a pack with one of the other kind and one without."""
    other = "all" if bias == "lora_only" else "lora_only"
    members = [member(0, "qv"), biased(bias, 1, "qkvo", 2, 2), biased(other, 2, "q")]
    model = with_biases(model_dir, *members)
    assert len(model.biases.parameters_of(1)) == count
    batches = [sentences(5, seed, types=family == "bert") for seed in range(3)]
    logits = model(model.batch([collate.RunSequences(i, *one) for i, one in enumerate(batches)]))
    sum(one.square().sum() for one in logits).backward()
    theirs = peft_twin(model_dir, model, 1, tmp_path).eval()
    wanted = theirs(**padded(*batches[1], model.base.config.pad_token_id)).logits
    wanted.square().sum().backward()
    assert (logits[1] - wanted).abs().max() < 1e-12
    query = theirs.base_model.model.get_submodule(f"{family}.encoder.layer.0.attention.self.query")
    ours = model.gradients_of(1)["0.q.a"]
    assert torch.allclose(ours, query.lora_A.default.weight.grad, rtol=1e-9, atol=1e-12)
    for name, value in model.biases.parameters_of(1).items():
        value.copy_(model.base.get_parameter(name))
    plain = model(model.batch([collate.RunSequences(1, *batches[1])]))[0]
    assert (plain - wanted).abs().max() > 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_run_without_biases_keeps_every_bit(bert_dir, dtype):
    """Its logits and gradients are those of a pack in which no run has biases."""
    batches = [sentences(count, count) for count in (7, 5)]
    found = []
    for other in (member(1), biased("all", 1)):
        model = with_biases(bert_dir, member(0), other)
        model.base.to(dtype)
        model.to(torch.float32)
        parts = [collate.RunSequences(i, *one, seed=i, step=3) for i, one in enumerate(batches)]
        logits = model(model.batch(parts))
        sum(one.square().sum() for one in logits).backward()
        found.append((logits, model.gradients_of(0)))
    (plain, gradients), (beside, beside_gradients) = found
    assert torch.equal(plain[0], beside[0]) and not torch.equal(plain[1], beside[1])
    for name, value in gradients.items():
        assert torch.equal(value, beside_gradients[name]), name


def test_biases_do_not_train_and_are_not_counted(bert_dir):
    plain, own = packed(bert_dir, member(0)), packed(bert_dir, biased("all", 0))
    assert plain.counts(0) == own.counts(0)
    assert plain.gradients_of(0).keys() == own.gradients_of(0).keys()
    names = own.parameters_of(0).keys() - plain.parameters_of(0).keys()
    base = dict(own.base.named_parameters())
    assert names == {f"base.{name}" for name in base if methods.trains("bitfit", name)}
    for name in names:
        assert torch.equal(own.parameters_of(0)[name], base[name.removeprefix("base.")])


@pytest.mark.parametrize("bias", ["lora_only", "all"])
def test_a_merged_base_has_the_run_s_biases(model_dir, bias):
    model = with_biases(model_dir, biased(bias, 0, "qo"), member(1))
    step = model.batch([collate.RunSequences(0, *sentences(5, 1, types=False))])
    wanted = model.encoder.encode(step)
    before = {name: value.clone() for name, value in model.base.state_dict().items()}
    with model.merged(0) as base:
        alone = Encoder(base, {}, {}, [0.0, 0.0], RunBiases(base, [[], []]))
        found = alone.encode(step)
        assert (found - wanted).abs().max() < 1e-12
    assert all(torch.equal(value, before[name]) for name, value in model.base.state_dict().items())
