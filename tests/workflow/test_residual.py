"""benchmarks/residual.py: the float32 residual stream, rounded products, and paired differences."""

import contextlib

import numpy as np
import pytest
import residual
import torch
from helpers.encoders import member, packed, padded
from helpers.models import make_model
from scipy import stats

from lora.model import packed_model, pretrained
from lora.model.collate import RunSequences

ROWS = 40


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return make_model("bert", tmp_path_factory.mktemp("model") / "bert")


def sequences():
    random = np.random.default_rng(0)
    lengths = random.integers(3, 9, ROWS)
    ids = random.integers(5, 60, lengths.sum()).astype(np.int64)
    return ids, np.zeros_like(ids), lengths


def first_tokens(model_dir, dtype):
    """Return the last hidden state of first tokens, without dropout and with B = 0."""
    model = packed_model.PackedModel(pretrained.load_base(model_dir, dtype), [member()])
    with torch.no_grad():
        return model.encoder.encode(model.batch([RunSequences(0, *sequences())]))


def test_a_float32_residual_is_that_of_autocast(model_dir):
    """Against transformers under autocast, with bf16 weights in a float32 model.

    The errors against float64 are as large as those of autocast, and smaller than without it.
    """
    exact = first_tokens(model_dir, torch.float64)
    base = pretrained.load_base(model_dir, torch.bfloat16).float()
    inputs = padded(*sequences(), pad=0)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        theirs = base(**inputs).last_hidden_state[:, 0]
    with residual.float32_residual():
        ours = first_tokens(model_dir, torch.bfloat16)
    rounded = first_tokens(model_dir, torch.bfloat16)
    assert ours.dtype == theirs.dtype == torch.float32 and rounded.dtype == torch.bfloat16
    errors = [(found.double() - exact).square().mean().sqrt() for found in (ours, theirs, rounded)]
    assert errors[0] < 1.2 * errors[1] and errors[0] < 0.9 * errors[2]


def test_a_float32_residual_has_gradients_of_the_runs(model_dir):
    """Every LoRA pair and the head get a gradient near that of float64."""
    runs = [member(), member(seed=1, weights="qkvo", rank=2)]
    exact = packed(model_dir, *runs)
    ours = packed_model.PackedModel(pretrained.load_base(model_dir, torch.bfloat16), runs)
    for run in (0, 1):
        for name, value in ours.parameters_of(run).items():
            value.copy_(exact.parameters_of(run)[name])
    for model, context in ((exact, contextlib.nullcontext()), (ours, residual.float32_residual())):
        batch = model.batch([RunSequences(run, *sequences()) for run in (0, 1)])
        with context:
            sum(logits.square().mean() for logits in model(batch)).backward()
    for run in (0, 1):
        found = ours.gradients_of(run)
        assert len(found) > 8
        for name, value in exact.gradients_of(run).items():
            cosine = torch.cosine_similarity(found[name].double().ravel(), value.ravel(), dim=0)
            assert cosine > 0.99, (run, name)


def test_rounded_products_are_those_of_bf16():
    """In float32, rounded once: within one rounding of the products of the CPU itself."""
    torch.manual_seed(0)
    left, right, bias = (torch.randn(3, 5, 5).bfloat16() for _ in range(3))
    one, two, add = left[0], right[0], bias[0]

    def products():
        out = torch.empty_like(left)
        torch.baddbmm(out, left, right, beta=0, out=out)
        attended = torch.nn.functional.scaled_dot_product_attention(left, right, bias)
        written = add.clone().addmm_(one, two)
        return [one @ two, torch.addmm(add[0], one, two), torch.bmm(left, right), out, attended] + [
            torch.baddbmm(bias, left, right, alpha=0.5),
            written,
        ]

    expected = products()
    with residual.RoundedProducts():
        found = products()
    assert torch.equal(found[0], (one.float() @ two.float()).bfloat16())
    for a, b in zip(expected, found, strict=True):
        assert a.dtype == b.dtype == torch.bfloat16
        assert torch.allclose(a.float(), b.float(), rtol=2**-7, atol=2**-7)
    with residual.RoundedProducts():
        assert torch.equal(one.float() @ two.float(), one.float() @ two.float())


def test_differences_are_paired_by_seed():
    """Against scipy's paired t-test."""
    random = np.random.default_rng(1)
    values = {way: random.normal(0.5, 0.1, 6) for way in residual.WAYS}
    rows = {
        way: [[dict(train_loss=str(x), eval_loss=str(2 * x), accuracy=str(x / 2))] for x in of_way]
        for way, of_way in values.items()
    }
    lines = residual.compare(rows, "accuracy")
    assert len(lines) == 2 + 4 * 3 and len({line.count("|") for line in lines}) == 1
    test = stats.ttest_rel(values["bf16"], values["fp32"])
    low, high = test.confidence_interval()
    mean = (values["bf16"] - values["fp32"]).mean()
    assert lines[2].endswith(
        f"bf16 - fp32 | {mean:+.5f} | {low:+.5f} to {high:+.5f} | {test.pvalue:.3f} |"
    )
    assert f"| {50 * mean:+.2f} |" in lines[11]
