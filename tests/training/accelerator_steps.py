"""Training steps and evaluations on a simulated accelerator (`helpers.accelerator`).

Run by test_accelerator.py.

Every tensor of a step must be on the device, and nothing may wait for a value. What must wait is
outside the steps: `evaluation.predict` copies each run's logits to the CPU, `evaluation._row` reads
the sum of an epoch's losses, and `start_values.copy` checks that an adapter's values are finite.
"""

import ast
import dataclasses
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import accelerator
from helpers.methods import WEIGHTS
from helpers.models import ROOT, make_model, sentences
from helpers.training import begun, make_spec

from lora.adapters import start_values
from lora.data.tokens import Tokens
from lora.experiment.cell import BASE_METHODS
from lora.model import lora_layer, pretrained
from lora.model.families.registry import FAMILIES
from lora.model.packed_model import PackedModel
from lora.training import batching, device, evaluation, loop, pack_step

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@pytest.fixture(scope="module")
def model_dirs(tmp_path_factory):
    """A function that returns the tiny model of a family, written once."""
    folder, made = tmp_path_factory.mktemp("families"), {}

    def model_dir(family):
        if family not in made:
            made[family] = make_model(family, folder / family)
        return made[family]

    return model_dir


def random_tokens(examples: int) -> Tokens:
    ids, types, lengths = sentences(examples, 0, types=False)
    offsets = np.append(0, np.cumsum(lengths))
    return Tokens(ids, offsets, types, np.zeros(examples, np.float32))


def make_pack(
    base, folder, method, weights="", ranks=(4, 2, 9), device="cpu", bias="none", **changes: object
):
    """Return a packed model of runs with these ranks, and their specs.

    `bias` are the frozen biases of an adapter that runs of LoRA start from.
    """
    ranks = (0,) if method in BASE_METHODS else ranks
    specs = [
        make_spec(folder, seed, weights or WEIGHTS[method], rank, method, **changes)
        for seed, rank in enumerate(ranks)
    ]
    adapters = [dataclasses.replace(loop.adapter_spec(spec, None), bias=bias) for spec in specs]
    return PackedModel(base, adapters, device), specs


# (head, precision, start): each value with each method and family, and each triple with LoRA.
CASES = list(itertools.product(["trained", "frozen"], DTYPES, ["pretrained", "adapter"]))


@pytest.mark.parametrize(
    "method, family, head, precision, start",
    [(method, family, *case) for method in WEIGHTS for family in FAMILIES for case in CASES[::7]]
    + [("lora", "bert", *case) for case in CASES[1:-1]],
)
def test_step_and_evaluation_stay_on_the_device(
    model_dirs, tmp_path, monkeypatch, method, family, head, precision, start
):
    """Micro-batches and clipping included; with an adapter to start from, it is on the CPU."""
    base = pretrained.load_base(model_dirs(family), DTYPES[precision])
    weights = "qkvo" if method == "lora" else ""
    bias = "all" if method == "lora" and start == "adapter" else "none"
    model, specs = make_pack(base, tmp_path, method, weights, bias=bias, head=head)
    adapters = [model.parameters_of(index) for index in range(len(specs))]
    copies = []

    def copy_to_cpu(tensor):
        """Stand in for the copy of the logits, the one that must stay in an evaluation."""
        copies.append(tensor.device)
        return SimpleNamespace(numpy=lambda: np.zeros(tensor.shape))

    with accelerator.simulated() as npu:
        accelerator.move(model, npu)
        pack = [begun(spec, model, random_tokens(16), run) for run, spec in enumerate(specs)]
        if start == "adapter":
            with monkeypatch.context() as patch:
                patch.setattr(torch, "isfinite", lambda value: np.ones(1))
                for run, adapter in zip(pack, adapters, strict=True):
                    start_values.copy(adapter, run.parameters, family, "start:")
        pack_step.optimizer_step(model, pack, batching.TokenBudget(200))
        monkeypatch.setattr(torch.Tensor, "cpu", copy_to_cpu)
        indices = [run.index for run in pack]
        logits = evaluation.predict(model, indices, random_tokens(6), batching.TokenBudget(600))
        with pytest.raises(accelerator.NEEDS_A_VALUE):
            float(pack[0].loss)
    assert [values.shape for values in logits] == [(6, 2)] * len(pack)
    assert copies == [npu] * len(pack)
    for run in pack:
        moments = [value for own in run.optimizer.moments.values() for value in own.values()]
        values = [*run.parameters.values(), *run.optimizer.gradients, *moments, run.loss]
        assert {value.device for value in values} == {npu}
        assert run.step == 1


def roberta_base_on_meta(layers: int, dtype: torch.dtype):
    import transformers

    config = transformers.RobertaConfig(
        num_hidden_layers=layers, vocab_size=1000, type_vocab_size=1, max_position_embeddings=514
    )
    with torch.device("meta"):
        base = transformers.RobertaModel(config, add_pooling_layer=False)
    return base.to(dtype).requires_grad_(False).eval()


def launches_of_a_step(folder, ranks, layers=2, dtype=torch.bfloat16) -> list[str]:
    """Return the names of the operations of a LoRA step at the width of RoBERTa-base."""
    base = roberta_base_on_meta(layers, dtype)
    model, specs = make_pack(base, folder, "lora", ranks=ranks, device="meta", lora_dropout=0)
    with accelerator.simulated() as npu:
        accelerator.move(model, npu)
        pack = [begun(spec, model, random_tokens(64), run) for run, spec in enumerate(specs)]
        with accelerator.Launches() as launches:
            pack_step.optimizer_step(model, pack, batching.TokenBudget(65536))
    return launches.names


@pytest.fixture
def grouped(monkeypatch):
    """The device is taken for one with a kernel for grouped products."""
    monkeypatch.setattr(
        lora_layer._Grouped, "supports", lambda x: x.device.type == accelerator.NAME
    )


@pytest.mark.parametrize("ranks", [(8, 8, 8), (1, 64, 4)])
def test_lora_step_by_grouped_products(tmp_path, grouped, ranks):
    names = launches_of_a_step(tmp_path, ranks)
    assert any("_grouped_mm" in name for name in names)


def test_number_of_kernels_hardly_grows_with_the_pack(tmp_path, grouped):
    """A run adds the kernels of its head, loss and clipping, fewer than 60, and none per layer."""
    small, large, deep = (
        len(launches_of_a_step(tmp_path / str(number), (8,) * runs, layers))
        for number, (runs, layers) in enumerate([(5, 2), (25, 2), (25, 4)])
    )
    assert (large - small) / 20 < 60
    assert (deep - large) / 2 < 400


@pytest.mark.parametrize(
    "code",
    [
        "x.sum().item()",
        "x.nonzero()",
        "x[x > 0]",
        "float(x.sum())",
        "if x.sum() > 0: pass",
        "int(x.argmax())",
        "x.tolist()",
    ],
)
def test_an_operation_that_needs_a_value_fails(code):
    """The simulation finds what a GPU would wait for."""
    with accelerator.simulated() as npu, pytest.raises(accelerator.NEEDS_A_VALUE):
        exec(code, dict(x=torch.empty(3, device=npu)))


def test_a_tensor_on_the_cpu_fails(model_dirs, tmp_path):
    """Each trained tensor of a run in turn is left on the CPU."""
    for method in ("lora", "adapter_pfeiffer"):
        base = pretrained.load_base(model_dirs("bert"))
        model, specs = make_pack(base, tmp_path, method, ranks=(4,))
        left = {module: dict(module._parameters) for module in model.modules()}
        with accelerator.simulated() as npu:
            accelerator.move(model, npu)
            pack = [begun(spec, model, random_tokens(8), run) for run, spec in enumerate(specs)]
            for module, name in [(one, name) for one, own in left.items() for name in own]:
                moved, module._parameters[name] = module._parameters[name], left[module][name]
                with pytest.raises(Exception, match="(?i)device"):
                    pack_step.optimizer_step(model, pack, batching.TokenBudget(4096))
                module._parameters[name] = moved


def test_the_device_is_seen_by_torch_only_while_it_is_simulated():
    with accelerator.simulated():
        assert device.pick_device("cpu").type == "cpu"
        assert torch.accelerator.current_accelerator(check_available=True).type == accelerator.NAME
    assert torch.accelerator.current_accelerator(check_available=True) is None


CUDA_ONLY = {  # what only a GPU of NVIDIA has: the functions that ask for it
    "lora/model/lora_layer.py": {"_has_grouped_kernel", "supports"},
}


def test_model_and_step_do_not_ask_for_cuda():
    """They ask whether the device is the CPU, or for a capability.

    Kinds of GPUs are named only where devices are found, named and locked.
    """
    files = itertools.chain(
        (ROOT / "lora/model").rglob("*.py"),
        (
            ROOT / f"lora/training/{name}.py"
            for name in ("batching", "evaluation", "loop", "optim", "run_state", "device_trial")
        ),
    )
    found = []
    for path in files:
        name = str(path.relative_to(ROOT))
        tree = ast.parse(path.read_text(encoding="utf-8"))
        allowed = {
            inner
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef) and node.name in CUDA_ONLY.get(name, ())
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            kind = (isinstance(node, ast.Constant) and node.value in ("cuda", "mps", "xpu")) or (
                isinstance(node, ast.Attribute) and node.attr in ("cuda", "is_cuda", "mps", "xpu")
            )
            if kind and node not in allowed:
                found.append(f"{name}:{node.lineno}")
    assert found == []
