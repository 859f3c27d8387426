"""What a GPU is given to do, without one: a step on tensors that have a shape and a type but no
values.

torch's meta tensors refuse what a GPU would refuse (operands that were left on the CPU, shapes and
types that a product does not take) and whatever waits for the GPU to look at a value. So a step
that goes through is one that a GPU would be asked for as it stands; whether what comes out is right
only a GPU can tell. The grouped products and the compiled functions are held to the plain ones in
value, on a CPU.
"""

import logging
import shutil

import numpy as np
import pytest
import torch
from helpers.training import begun, make_spec
from torch.utils._python_dispatch import TorchDispatchMode

from lora.data.tokens import Tokens
from lora.model import collate, dropout, layers, lora_layer, methods, packed_model
from lora.model.compiled import _compiled, disable, enable, enable_on_gpu
from lora.training import batching, loop

FREE = (
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
    """The names of what asks a GPU for something: every operation but views and allocations."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        name = str(operation).removeprefix("aten.")
        if not name.startswith(FREE):
            self.names.append(name)
        return operation(*arguments, **(named or {}))


@pytest.fixture
def meta(monkeypatch):
    """The device of values that are not there, taken for a GPU."""
    monkeypatch.setattr(
        collate,
        "on_device",
        lambda array, device: torch.from_numpy(np.ascontiguousarray(array)).to(device),
    )
    monkeypatch.setattr(
        lora_layer._Grouped, "supports", lambda x: x.is_meta and x.dtype == torch.bfloat16
    )
    return torch.device("meta")


def step(folder, device, ranks, method="lora", dtype=torch.bfloat16, depth=2):
    """What one optimiser step of runs of these ranks launches, at RoBERTa-base's width, and the
    runs.
    """
    import transformers

    config = transformers.RobertaConfig(
        num_hidden_layers=depth, vocab_size=1000, type_vocab_size=1, max_position_embeddings=514
    )
    base = (
        transformers.RobertaModel(config, add_pooling_layer=False)
        .to(device, dtype)
        .requires_grad_(False)
    )
    weights = dict(ft="all", bitfit="bias", adapter_houlsby="both").get(method, "qv")
    wanted = [
        make_spec(folder, seed, weights, rank, method, lora_dropout=0)
        for seed, rank in enumerate(ranks)
    ]
    members = [
        methods.AdapterSpec(seed, weights, rank, 2, wanted[seed].hparams, method)
        for seed, rank in enumerate(ranks)
    ]
    model = packed_model.PackedModel(base, members, device)
    lengths = np.random.default_rng(0).integers(4, 60, 64)
    tokens = Tokens(
        np.full(lengths.sum(), 7),
        np.append(0, np.cumsum(lengths)),
        np.zeros(lengths.sum(), np.uint8),
        np.zeros(len(lengths), np.float32),
    )
    pack = [begun(spec, model, tokens, index) for index, spec in enumerate(wanted)]
    with Launches() as launched:
        loop._optimizer_step(model, pack, batching.TokenBudget(65536))
    return launched.names, pack


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
def test_a_step_can_be_asked_of_a_gpu(tmp_path, meta, method, ranks, dtype):
    """No operand stays on the CPU, and nothing waits for a value: here there is none to wait
    for.
    """
    names, pack = step(tmp_path, meta, ranks, method, dtype)
    assert [run.step for run in pack] == [1] * len(ranks)
    assert not [
        name for name in names if "_local_scalar" in name or "nonzero" in name or "item" in name
    ]
    assert any("_grouped_mm" in name for name in names) == (
        method == "lora" and dtype == torch.bfloat16
    )
    assert all(value.is_meta for run in pack for value in run.parameters.values())


def test_what_a_step_launches_hardly_grows_with_the_pack(tmp_path, meta):
    """Another run costs its head, its loss and its clipping, a few dozen kernels, and no share of
    every layer.
    """
    few, many, deep = (
        len(step(tmp_path / str(at), meta, [8] * count, depth=depth)[0])
        for at, (count, depth) in enumerate([(5, 2), (25, 2), (25, 4)])
    )
    assert (many - few) / 20 < 60
    assert (deep - many) / 2 < 400


@pytest.mark.parametrize("runs_of", [[0, 1, 2], [2, 0]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_grouped_products_are_the_loops(dtype, runs_of):
    """All runs in order, and some in another order; a rank beyond 8 and a run that is not
    adapted.
    """
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
    found = []
    for way in (lora_layer._Looped, lora_layer._Grouped):
        a, b, out, delta = (
            pair.a.detach().to(dtype),
            pair.b.detach().to(dtype),
            h.clone(),
            x.clone(),
        )
        inner = way.add_delta(out, x, a, b, segments, ranks)
        found.append((out, *way.gradients(g, x, a, b, inner, delta, segments, ranks), delta))
    for looped, grouped in zip(*found, strict=True):
        assert (looped - grouped).norm() <= (
            1e-6 if dtype == torch.float32 else 1e-2
        ) * looped.norm()


@pytest.mark.parametrize(
    "capability, grouped",
    [((7, 5), False), ((8, 0), False), ((9, 0), True), ((10, 0), True), ((12, 0), False)],
)
def test_products_are_grouped_where_a_gpu_has_the_kernel(monkeypatch, capability, grouped):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert lora_layer._has_grouped_kernel.__wrapped__(torch.device("cuda")) == grouped


@pytest.fixture
def compiled(tmp_path_factory, monkeypatch):
    """The marked functions compiled, as on a GPU, but by the CPU's compiler."""
    if not shutil.which("g++"):
        pytest.skip("no g++, which torch.compile needs")
    folder = tmp_path_factory.mktemp("kernels")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    yield (
        folder,
        enable(folder, lambda: dropout.sample_outputs(32, torch.float32, torch.device("cpu"))),
    )
    disable()


@pytest.mark.filterwarnings("ignore")  # of torch's compiler about itself
def test_compiled_functions_give_what_plain_ones_give(compiled):
    """The same masks to the bit, values to rounding; the kernels stay in their folder for the next
    job.
    """
    folder, worked = compiled
    assert worked and any(folder.rglob("*.so"))
    keys = torch.randint(-(2**31), 2**31, (50,), dtype=torch.int32)
    columns = dropout.column_keys(32, keys.device)
    x, ones, zeros = torch.randn(50, 32), torch.ones(32), torch.zeros(32)
    arguments = x, torch.zeros(50, 32), keys, columns, ones, zeros, 0.3, 1e-5
    together = dropout._norm_forward(*arguments)
    disable()
    plain = dropout._norm_forward(*arguments)
    assert torch.equal(together[-1], plain[-1])
    assert torch.allclose(together[0], plain[0], atol=1e-5)


def test_where_nothing_compiles_training_goes_on_and_says_so(tmp_path, monkeypatch, caplog):
    def broken(function):
        def call(*arguments):
            raise RuntimeError("no compiler here\nand much more")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    attempt = lambda: dropout.sample_outputs(32, torch.float32, torch.device("cpu"))  # noqa: E731
    assert not enable(tmp_path, attempt)
    assert "no compiler here" in caplog.text and "and much more" not in caplog.text
    assert len(attempt()) == 3 * 7 + 5 * 4
    monkeypatch.setattr(
        torch,
        "compile",
        lambda function: lambda *arguments: [2 * out for out in function(*arguments)],
    )
    assert not enable(tmp_path, attempt) and "other values" in caplog.text
    with caplog.at_level(logging.INFO):
        enable_on_gpu(torch.device("cpu"), tmp_path, attempt)
    assert not _compiled
