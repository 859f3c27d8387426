"""Optimizer steps on meta tensors, which stand in for a GPU.

Meta tensors have a shape and a type but no values. As a GPU, they reject operands on the CPU and
products of wrong shapes or types. They also reject operations that wait for a value. So these tests
show which operations a step gives a GPU, not that their results are right. The values of grouped
products and compiled functions are compared with those of the plain code on a CPU.
"""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.training import begun, make_spec
from torch.utils._python_dispatch import TorchDispatchMode

from lora.data.tokens import Tokens
from lora.model import collate, dropout, layers, lora_layer, methods, packed_model
from lora.model.compiled import _compiled, disable, enable, enable_on_gpu
from lora.training import batching, loop
from lora.training.run_state import RunState

NO_KERNEL = (  # beginnings of the names of operations that launch nothing: views and allocations
    "view",
    "_unsafe_view",
    "as_strided",
    "slice",
    "select",
    "expand",
    "permute",
    "transpose",
    "t.",
    "unsqueeze",
    "squeeze",
    "split",
    "detach",
    "alias",
    "narrow",
    "empty",
    "lift_fresh",
    "unbind",
    "chunk",
)


class Launches(TorchDispatchMode):
    """Record the names of the operations that launch a kernel on a GPU."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        name = str(operation).removeprefix("aten.")
        if not name.startswith(NO_KERNEL):
            self.names.append(name)
        return operation(*arguments, **(named or {}))


@pytest.fixture
def meta(monkeypatch):
    """The meta device, which the code under test takes for a GPU with grouped products."""
    monkeypatch.setattr(
        collate,
        "on_device",
        lambda array, device: torch.from_numpy(np.ascontiguousarray(array)).to(device),
    )
    monkeypatch.setattr(
        lora_layer._Grouped, "supports", lambda x: x.is_meta and x.dtype == torch.bfloat16
    )
    return torch.device("meta")


def run_step(
    folder: Path,
    device: torch.device,
    ranks: list[int],
    method: str = "lora",
    dtype: torch.dtype = torch.bfloat16,
    layers: int = 2,
) -> tuple[list[str], list[RunState]]:
    """Run one optimizer step of a pack of runs with these ranks, at the width of RoBERTa-base.

    Returns:
        The names of the operations that launch a kernel, and the runs.
    """
    import transformers

    config = transformers.RobertaConfig(
        num_hidden_layers=layers, vocab_size=1000, type_vocab_size=1, max_position_embeddings=514
    )
    base = (
        transformers.RobertaModel(config, add_pooling_layer=False)
        .to(device, dtype)
        .requires_grad_(False)
    )
    weights = dict(ft="all", bitfit="bias", adapter_houlsby="both").get(method, "qv")
    specs = [
        make_spec(folder, seed, weights, rank, method, lora_dropout=0)
        for seed, rank in enumerate(ranks)
    ]
    adapters = [
        methods.AdapterSpec(seed, weights, rank, 2, specs[seed].hparams, method)
        for seed, rank in enumerate(ranks)
    ]
    model = packed_model.PackedModel(base, adapters, device)
    lengths = np.random.default_rng(0).integers(4, 60, 64)
    tokens = Tokens(
        np.full(lengths.sum(), 7),
        np.append(0, np.cumsum(lengths)),
        np.zeros(lengths.sum(), np.uint8),
        np.zeros(len(lengths), np.float32),
    )
    pack = [begun(spec, model, tokens, index) for index, spec in enumerate(specs)]
    with Launches() as launches:
        loop._optimizer_step(model, pack, batching.TokenBudget(65536))
    return launches.names, pack


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(
    "method, ranks",
    [
        ("lora", [8, 8, 8]),
        ("lora", [1, 64, 4]),
        ("ft", [0]),
        ("bitfit", [0]),
        ("adapter_houlsby", [16, 16]),
    ],
)
def test_step_runs_on_the_device_without_synchronizing(tmp_path, meta, method, ranks, dtype):
    """All operands are on the device, and no operation waits for a value."""
    names, pack = run_step(tmp_path, meta, ranks, method, dtype)
    assert [run.step for run in pack] == [1] * len(ranks)
    waiting = ("_local_scalar", "nonzero", "item")
    assert not [name for name in names if any(part in name for part in waiting)]
    grouped = any("_grouped_mm" in name for name in names)
    assert grouped == (method == "lora" and dtype == torch.bfloat16)
    assert all(value.is_meta for run in pack for value in run.parameters.values())


def test_number_of_kernels_hardly_grows_with_the_pack(tmp_path, meta):
    """A run adds the kernels of its head, loss and clipping, fewer than 60, and none per layer."""
    small, large, deep = (
        len(run_step(tmp_path / str(number), meta, [8] * runs, layers=layers)[0])
        for number, (runs, layers) in enumerate([(5, 2), (25, 2), (25, 4)])
    )
    assert (large - small) / 20 < 60
    assert (deep - large) / 2 < 400


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
    "capability, grouped",
    [((7, 5), False), ((8, 0), False), ((9, 0), True), ((10, 0), True), ((12, 0), False)],
)
def test_grouped_products_need_a_gpu_with_the_kernel(monkeypatch, capability, grouped):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert lora_layer._has_grouped_kernel.__wrapped__(torch.device("cuda")) == grouped


def sample_outputs() -> list[torch.Tensor]:
    """Return outputs of the functions that are compiled, on a CPU."""
    return dropout.sample_outputs(32, torch.float32, torch.device("cpu"))


@pytest.fixture
def compiled(tmp_path_factory, monkeypatch):
    """The folder of the kernels, and whether the functions were compiled, here for the CPU."""
    if not shutil.which("g++"):
        pytest.skip("no g++, which torch.compile needs")
    folder = tmp_path_factory.mktemp("kernels")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    yield folder, enable(folder, sample_outputs)
    disable()


@pytest.mark.filterwarnings("ignore")  # torch's compiler warns about itself
def test_compiled_functions_return_what_plain_ones_return(compiled):
    """The same masks to the bit, values to rounding; the kernels are kept for the next job."""
    folder, enabled = compiled
    assert enabled and any(folder.rglob("*.so"))
    keys = torch.randint(-(2**31), 2**31, (50,), dtype=torch.int32)
    columns = dropout.column_keys(32, keys.device)
    x, ones, zeros = torch.randn(50, 32), torch.ones(32), torch.zeros(32)
    arguments = x, torch.zeros(50, 32), keys, columns, ones, zeros, 0.3, 1e-5
    fused = dropout._norm_forward(*arguments)
    disable()
    plain = dropout._norm_forward(*arguments)
    assert torch.equal(fused[-1], plain[-1])
    assert torch.allclose(fused[0], plain[0], atol=1e-5)


def test_plain_functions_are_used_if_compilation_fails(tmp_path, monkeypatch, caplog):
    """Also if compiled functions return other values, and on a CPU. The log gives the reason."""

    def compile_to_error(function):
        def call(*arguments):
            raise RuntimeError("no compiler here\nand much more")

        return call

    def compile_to_doubled(function):
        return lambda *arguments: [2 * out for out in function(*arguments)]

    monkeypatch.setattr(torch, "compile", compile_to_error)
    assert not enable(tmp_path, sample_outputs)
    assert "no compiler here" in caplog.text and "and much more" not in caplog.text
    assert len(sample_outputs()) == 3 * 7 + 5 * 4
    monkeypatch.setattr(torch, "compile", compile_to_doubled)
    assert not enable(tmp_path, sample_outputs) and "other values" in caplog.text
    with caplog.at_level(logging.INFO):
        enable_on_gpu(torch.device("cpu"), tmp_path, sample_outputs)
    assert not _compiled
