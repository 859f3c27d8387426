"""Steps on a GPU give the values of the CPU. `make gpu` runs these tests, with LORA_TEST_DEVICE."""

import os

import numpy as np
import pytest
import torch
from helpers.methods import WEIGHTS
from helpers.models import make_model, sentences
from helpers.training import begun, make_spec

from lora.data.tokens import Tokens
from lora.experiment.cell import BASE_METHODS
from lora.model import compiled, dropout, layers, lora_layer, pretrained
from lora.model.families.registry import FAMILIES
from lora.model.packed_model import PackedModel
from lora.training import batching, device, device_trial, loop, pack_step

DEVICE = os.environ.get("LORA_TEST_DEVICE", "")
if not DEVICE and torch.accelerator.is_available():
    DEVICE = torch.accelerator.current_accelerator().type
pytestmark = pytest.mark.skipif(not DEVICE, reason="this machine has no GPU")
# Of the norm of a tensor. Products in bf16 are rounded to 8 bits.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.05}


def error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Return the norm of the difference, relative to that of `theirs`."""
    ours, theirs = ours.double().cpu(), theirs.double().cpu()
    return float((ours - theirs).norm() / theirs.norm().clamp(min=1e-4))


def gradients_of_a_step(model_dir, folder, method, dtype, kind):
    """Return the loss and the gradients of each run of a pack, on the CPU."""
    ranks = (0,) if method in BASE_METHODS else (4, 8)
    specs = [
        make_spec(folder, seed, WEIGHTS[method], rank, method) for seed, rank in enumerate(ranks)
    ]
    base = pretrained.load_base(model_dir, dtype)
    model = PackedModel(base, [loop.adapter_spec(spec, None) for spec in specs], torch.device(kind))
    ids, types, lengths = sentences(8, 0, types=False)
    labels = (np.arange(8) % 2).astype(np.float32)
    tokens = Tokens(ids, np.append(0, np.cumsum(lengths)), types, labels)
    pack = [begun(spec, model, tokens, index) for index, spec in enumerate(specs)]
    steps = [(run, np.arange(8)) for run in pack]
    for batches in batching.split_step(steps, batching.TokenBudget(4096)):
        pack_step.forward_backward(model, batches)
    found = {}
    for run in pack:
        found[run.index, "loss"] = run.loss
        gradients = model.gradients_of(run.index)
        found |= {(run.index, name): value for name, value in gradients.items()}
    return {key: value.cpu() for key, value in found.items()}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", WEIGHTS)
def test_gradients_are_those_of_the_cpu(tmp_path, method, family, dtype):
    """Dropout masks are the same, so losses and gradients differ by rounding only."""
    model_dir = make_model(family, tmp_path / "model")
    ours, theirs = (
        gradients_of_a_step(model_dir, tmp_path / kind, method, dtype, kind)
        for kind in (DEVICE, "cpu")
    )
    total = torch.cat([value.flatten() for value in theirs.values()]).norm()
    for key, value in theirs.items():
        difference = (ours[key].double() - value.double()).norm()
        assert difference <= TOLERANCE[dtype] * max(value.norm(), 0.1 * total), key


def test_trial_of_the_device_finds_no_problem():
    assert device_trial.find_problem(torch.device(DEVICE)) == ""


def test_compiled_functions_are_used_where_triton_is_installed(tmp_path):
    """On a CPU nothing is compiled."""
    gpu, compiled_before = torch.device(DEVICE), dict(compiled._compiled)
    sample = dropout.sample_outputs(768, torch.bfloat16, gpu)
    compiled.enable_on_gpu(gpu, tmp_path, lambda: dropout.sample_outputs(768, torch.bfloat16, gpu))
    try:
        has_triton = compiled.importlib.util.find_spec("triton") is not None
        assert bool(compiled._compiled) == (DEVICE != "cpu" and has_triton)
        again = dropout.sample_outputs(768, torch.bfloat16, gpu)
        assert all(error(*pair) < 0.01 for pair in zip(again, sample, strict=True))
    finally:
        compiled.disable()
        compiled._compiled.update(compiled_before)


def test_grouped_products_are_those_of_a_loop_over_runs():
    gpu = torch.device(DEVICE)
    x = torch.randn(96, 64, device=gpu).bfloat16()
    if not lora_layer._Grouped.supports(x):
        pytest.skip("this device has no kernel for grouped products")
    a, b = (torch.randn(3, 8, width, device=gpu).bfloat16() for width in (64, 128))
    parts = [(0, slice(0, 40)), (1, slice(40, 56)), (2, slice(56, 96))]
    segments = layers.Segments(
        parts,
        torch.tensor([40, 56, 96], dtype=torch.int32, device=gpu),
        torch.tensor([0, 1, 2], device=gpu),
    )
    results = []
    for products in (lora_layer._Looped, lora_layer._Grouped):
        out = torch.zeros(96, 128, device=gpu, dtype=torch.bfloat16)
        products.add_delta(out, x, a, b, segments, [8, 8, 8])
        results.append(out)
    assert error(*results) < 0.02


def test_memory_of_the_device_is_known():
    gpu = torch.device(DEVICE)
    assert device.free_bytes(gpu) > 2**28
    assert device.device_name(gpu) and device.pick_precision("auto", gpu) in device.DTYPES
