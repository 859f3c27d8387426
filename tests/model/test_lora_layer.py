"""LoRA against peft, gradients against numerical ones, grouped products against loops."""

import numpy as np
import peft
import pytest
import torch

from lora.model import frozen, layers, lora_layer


def test_lora_matches_peft_forward_and_grad():
    """One run's delta and its gradients are those of peft's own LoRA layer, alpha != r."""
    torch.manual_seed(0)
    base = torch.nn.Sequential(torch.nn.Linear(12, 9)).double()
    config = peft.LoraConfig(
        r=3, lora_alpha=7, target_modules=["0"], init_lora_weights=False, lora_dropout=0.0
    )
    theirs = peft.get_peft_model(base, config)
    pair = theirs.base_model.model[0]
    ours = lora_layer.LoRA(12, 9, ranks=[3], scales=[7 / 3], dtype=torch.float64)
    with torch.no_grad():
        a_RI, b_OR = ours.pair(0)
        a_RI.copy_(pair.lora_A["default"].weight)
        b_OR.copy_(pair.lora_B["default"].weight)
    x = torch.randn(5, 12, dtype=torch.float64)
    wanted = theirs(x)
    got = ours(pair.base_layer, x, x, [(0, slice(0, 5))])
    assert (got - wanted).abs().max() < 1e-12
    wanted.pow(2).sum().backward()
    got.pow(2).sum().backward()
    for side, gradient in zip(("lora_A", "lora_B"), ours.pair_gradients(0), strict=True):
        assert (gradient - getattr(pair, side)["default"].weight.grad).abs().max() < 1e-11
    assert (ours.weight_delta(0) - pair.get_delta_weight("default")).abs().max() < 1e-12


def make_pair(*ranks, **kind):
    torch.manual_seed(0)
    linear = torch.nn.Linear(4, 6, **kind).requires_grad_(False)
    pair = lora_layer.LoRA(
        4, 6, ranks=list(ranks), scales=[0.5 + run for run in range(len(ranks))], **kind
    )
    for run in range(len(ranks)):
        for value in pair.pair(run):
            torch.nn.init.normal_(value)
    return linear, pair


def test_delta_is_zero_at_start_and_rank_zero_adds_nothing():
    linear, pair = make_pair(2, 0)
    torch.nn.init.zeros_(pair.b)
    x = torch.randn(7, 4)
    assert torch.equal(
        pair(linear, x, x, [(0, slice(0, 3)), (1, slice(3, 7))]), frozen.linear(linear, x)
    )


def test_segments_use_their_own_pair():
    """Rows of run 1 get the delta of run 1, also if run 0 has no rows."""
    linear, pair = make_pair(2, 3)
    x = torch.randn(5, 4)
    a_RI, b_OR = pair.pair(1)
    wanted = linear(x) + 1.5 * x @ a_RI.T @ b_OR.T
    assert torch.allclose(pair(linear, x, x, [(1, slice(0, 5))]), wanted, atol=1e-6)


@pytest.mark.parametrize("own_input", [False, True])
def test_handwritten_gradient_equals_the_numerical_one(own_input):
    """Two runs of different ranks, a third not adapted; with and without LoRA dropout's input."""
    linear, pair = make_pair(2, 3, 0, dtype=torch.float64)
    segments = [(1, slice(0, 4)), (0, slice(4, 6)), (2, slice(6, 9))]
    x, other = (torch.randn(9, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    inputs = [x, other, pair.a, pair.b]

    def forward(x, other, *_):
        return pair(linear, x, other if own_input else x, segments)

    assert torch.autograd.gradcheck(forward, inputs if own_input else [x, x, *inputs[2:]])
    assert torch.autograd.gradcheck(lambda x: frozen.linear(linear, x), x)


@pytest.mark.parametrize("runs_of", [[0, 1, 2], [2, 0]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_grouped_products_equal_those_of_a_loop_over_runs(dtype, runs_of):
    """All runs in order, and two in another order; with a rank above 8 and an unadapted run."""
    torch.manual_seed(0)
    ranks, counts = [3, 9, 0], [5, 16, 11]
    pair = lora_layer.LoRA(32, 48, ranks, [0.5, 1.5, 1.0])
    for run in range(3):
        for value in pair.pair(run):
            torch.nn.init.normal_(value)
    ends = np.cumsum([counts[run] for run in runs_of])
    parts = [
        (run, slice(int(end) - counts[run], int(end)))
        for run, end in zip(runs_of, ends, strict=True)
    ]
    segments = layers.Segments(parts, torch.tensor(ends, dtype=torch.int32), torch.tensor(runs_of))
    x, h, g = (torch.randn(int(ends[-1]), width).to(dtype) for width in (32, 48, 48))
    results = []
    for products in (lora_layer._Looped, lora_layer._Grouped):
        a, b, out, delta = (
            pair.a.detach().to(dtype),
            pair.b.detach().to(dtype),
            h.clone(),
            x.clone(),
        )
        inner = products.add_delta(out, x, a, b, segments, ranks)
        gradients = products.gradients(g, x, a, b, inner, delta, segments, ranks)
        results.append((out, *gradients, delta))
    tolerance = 1e-6 if dtype == torch.float32 else 1e-2
    for looped, grouped in zip(*results, strict=True):
        assert (looped - grouped).norm() <= tolerance * looped.norm()


@pytest.mark.parametrize(
    "capability, hip, grouped",
    [
        ((7, 5), None, False),
        ((8, 0), None, False),
        ((9, 0), None, True),
        ((10, 0), None, True),
        ((12, 0), None, False),
        ((9, 4), "7.0", False),  # an AMD MI300
    ],
)
def test_grouped_products_need_a_gpu_with_the_kernel(monkeypatch, capability, hip, grouped):
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert lora_layer._has_grouped_kernel.__wrapped__(torch.device("cuda")) == grouped
