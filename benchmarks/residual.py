"""Compare fp32, bf16, and bf16 with a float32 residual stream, seed by seed.

    lora prepare --task mrpc --data-dir MRPC --model-dir MODEL --max-tokens 128 --output-dir mrpc
    python benchmarks/residual.py --model-dir MODEL --tokens-dir mrpc --seeds 20

`precision: bf16` of the package rounds the residual stream (the output of each LayerNorm) to bf16.
transformers under autocast keeps it in float32. This script trains the same seeds in three ways: in
fp32, in bf16 as the package does it, and in bf16 with a residual stream in float32. A seed has the
same initial values, example order and dropout masks in all three, so the differences are paired.

The float32 residual stream is not part of the package. It is made here by replacing four functions
(`float32_residual`). On a CPU without bf16 instructions, products of bf16 matrices are computed in
float32 and rounded to bf16 (`RoundedProducts`). These are the values of a CPU or GPU with such
instructions, up to the order of additions, but the seconds then say nothing.

Shape suffixes: T tokens, D width, I input width, O output width.
"""

import argparse
import contextlib
import csv
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from lora.data import tokens
from lora.experiment import hparam_rows, registry
from lora.experiment.cell import Cell
from lora.experiment.run_spec import JobOptions, RunSpec
from lora.model import dropout, frozen, layers, modules
from lora.model.families import registry as families
from lora.model.lora_layer import LoRA
from lora.model.pretrained import BaseModel
from lora.training import device, loop

WAYS = ("fp32", "bf16", "bf16, residual float32")
PAIRS = (("fp32", "bf16"), ("fp32", WAYS[2]), ("bf16", WAYS[2]))
Rows = dict[str, list[list[dict[str, str]]]]  # way: for each seed the rows of metrics.csv


@contextlib.contextmanager
def float32_residual() -> Iterator[None]:
    """Keep the residual stream of a bf16 base model in float32, as autocast does.

    Embeddings, sums and LayerNorms are in float32. Matrix products, attention and activations have
    bf16 inputs and outputs, as without this function.
    """
    product, lora_forward = frozen.product, LoRA.forward

    def norm(module: nn.LayerNorm, x_TD: Tensor) -> Tensor:
        weight_D, bias_D = module.weight.float(), module.bias.float()
        return functional.layer_norm(x_TD, module.normalized_shape, weight_D, bias_D, module.eps)

    def embed(base: BaseModel, ids_T: Tensor, types_T: Tensor, positions_T: Tensor) -> Tensor:
        family = families.FAMILIES[base.config.model_type]
        indices = {"word": ids_T, "token_type": types_T, "position": positions_T}
        tables = [
            base.get_submodule(f"embeddings.{name}_embeddings")(index).float()
            for name, index in indices.items()
            if name in family.embeddings
        ]
        return norm(modules.embedding_norm_of(base), torch.stack(tables).sum(0))

    def drop_add_norm(
        x_TD: Tensor,
        residual_TD: Tensor,
        rate: float,
        row_keys: Tensor | None,
        module: nn.LayerNorm,
    ) -> Tensor:
        return norm(module, residual_TD + dropout.drop(x_TD, rate, row_keys))

    def narrow_product(weight_OI: Tensor, bias_O: Tensor, x_TI: Tensor) -> Tensor:
        return product(weight_OI, bias_O, x_TI.to(weight_OI.dtype))

    def narrow_lora(
        self: LoRA, linear: nn.Linear, x_TI: Tensor, dropped_TI: Tensor, segments: layers.Segments
    ) -> Tensor:
        narrow_TI = x_TI.to(linear.weight.dtype)
        dropped_TI = narrow_TI if dropped_TI is x_TI else dropped_TI.to(linear.weight.dtype)
        return lora_forward(self, linear, narrow_TI, dropped_TI, segments)

    with (
        mock.patch.object(modules, "embed", embed),
        mock.patch.object(dropout, "drop_add_norm", drop_add_norm),
        mock.patch.object(frozen, "product", narrow_product),
        mock.patch.object(LoRA, "forward", narrow_lora),
    ):
        yield


class RoundedProducts(TorchDispatchMode):
    """Compute products of bf16 matrices in float32, and round the result to bf16."""

    aten = torch.ops.aten
    products = {
        aten.mm.default,
        aten.bmm.default,
        aten.addmm.default,
        aten.baddbmm.default,
        aten._scaled_dot_product_flash_attention_for_cpu.default,
    }
    written = {
        aten.addmm_.default: aten.addmm.default,
        aten.bmm.out: aten.bmm.default,
        aten.baddbmm.out: aten.baddbmm.default,
    }

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        """Run one operation of torch."""
        kwargs = dict(kwargs or {})
        if not any(_is_bf16(value) for value in args):
            return func(*args, **kwargs)
        if func in self.products:
            return tree_map(_narrow, func(*map(_widen, args), **tree_map(_widen, kwargs)))
        if func in self.written:
            out = kwargs.pop("out", args[0])
            return out.copy_(self.written[func](*map(_widen, args), **kwargs))
        return func(*args, **kwargs)


def _is_bf16(value: object) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.bfloat16


def _widen(value: object) -> object:
    return value.float() if isinstance(value, Tensor) and _is_bf16(value) else value


def _narrow(value: object) -> object:
    return value.bfloat16() if isinstance(value, Tensor) else value


def train(
    way: str, model_dir: Path, tokens_dir: Path, epochs: int, seeds: Sequence[int], output: Path
) -> tuple[list[list[dict[str, str]]], float]:
    """Train seeds together in one way.

    Args:
        way: One of WAYS.
        model_dir: Folder of the base model.
        tokens_dir: Folder of prepared tokens.
        epochs: Epochs of a run.
        seeds: Seeds of the runs.
        output: Folder for the outputs.

    Returns:
        The rows of each run's metrics.csv, and the seconds.
    """
    facts = tokens.read_facts(tokens_dir)
    task = registry.task(facts.task)
    cell = Cell("model", facts.task, "lora", "qv", 8, "demo")
    fixed = dict(epochs=epochs, max_tokens=facts.max_tokens)
    hparams = hparam_rows.resolve(hparam_rows.read_hparam_rows(), cell, fixed)
    specs = [
        RunSpec(cell, seed, hparams, task, tokens_dir, output / way / str(seed)) for seed in seeds
    ]
    precision = way.partition(",")[0]
    options = JobOptions(model_dir, output / way / "state", device="cpu", precision=precision)
    emulated = precision == "bf16" and device.pick_precision("auto", torch.device("cpu")) == "fp32"
    started = time.perf_counter()
    with contextlib.ExitStack() as stack:
        if way == WAYS[2]:
            stack.enter_context(float32_residual())
        if emulated:
            stack.enter_context(RoundedProducts())
        loop.train(specs, options)
    seconds = time.perf_counter() - started
    rows = []
    for spec in specs:
        with open(spec.output_dir / "metrics.csv", encoding="utf-8", newline="") as handle:
            rows.append(list(csv.DictReader(handle)))
    return rows, seconds


def compare(rows: Rows, metric: str) -> list[str]:
    """Return the lines of a Markdown table: paired differences with their 95 % intervals.

    Args:
        rows: Rows of every way, in the same order of seeds.
        metric: Column of the task's metric, a fraction.
    """
    from scipy import stats

    values = {
        "training loss, first epoch": ("train_loss", 0, 1.0),
        "training loss, last epoch": ("train_loss", -1, 1.0),
        "evaluation loss, last epoch": ("eval_loss", -1, 1.0),
        f"{metric}, last epoch, per cent": (metric, -1, 100.0),
    }
    lines = [
        "| value | mean in fp32 | difference of | mean | 95 % interval | p |",
        "|:--|--:|:--|--:|--:|--:|",
    ]
    for title, (column, epoch, scale) in values.items():
        of_way = {
            way: [scale * float(run[epoch][column]) for run in runs] for way, runs in rows.items()
        }
        level = sum(of_way["fp32"]) / len(of_way["fp32"])
        for first, second in PAIRS:
            pairs = zip(of_way[first], of_way[second], strict=True)
            differences = [two - one for one, two in pairs]
            mean = sum(differences) / len(differences)
            test = stats.ttest_1samp(differences, 0.0)
            low, high = test.confidence_interval()
            digits = 2 if scale > 1 else 5
            numbers = f"{mean:+.{digits}f} | {low:+.{digits}f} to {high:+.{digits}f}"
            p_value = "-" if math.isnan(test.pvalue) else f"{test.pvalue:.3f}"
            p_value = "< 0.001" if test.pvalue < 0.001 else p_value
            lines.append(
                f"| {title} | {level:.{digits - 1}f} | {second} - {first} | {numbers} | {p_value} |"
            )
    return lines


def main() -> None:
    """Train every way on every task, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model-dir", type=Path, required=True)
    parser.add_argument("--tokens-dir", type=Path, nargs="+", required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--pack", type=int, default=10, help="seeds that train together")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for tokens_dir in arguments.tokens_dir:
        facts = tokens.read_facts(tokens_dir)
        rows: Rows = {way: [] for way in WAYS}
        seconds = dict.fromkeys(WAYS, 0.0)
        with tempfile.TemporaryDirectory() as folder:
            for first in range(0, arguments.seeds, arguments.pack):
                seeds = range(first, min(first + arguments.pack, arguments.seeds))
                for way in WAYS:
                    found, took = train(
                        way, arguments.model_dir, tokens_dir, arguments.epochs, seeds, Path(folder)
                    )
                    rows[way] += found
                    seconds[way] += took
                    print(f"{facts.task} {way}, seeds {seeds}: {took:.0f} s", flush=True)
        task = registry.task(facts.task)
        examples = facts.splits["train"].examples
        print(f"\n{facts.task}: {examples} examples, {arguments.epochs} epochs")
        print(*compare(rows, task.metric), sep="\n")
        print("seconds:", ", ".join(f"{way} {took:.0f}" for way, took in seconds.items()), "\n")


if __name__ == "__main__":
    main()
