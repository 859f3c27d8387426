"""Copy an adapter into a run's parameters, with the run's rank and scale.

A run has one rank r and one scale alpha/r. The pairs of a PEFT folder may have lower ranks, other
scales, or be left out of layers. The delta s B A of every pair stays exactly the adapter's: B is
multiplied by the ratio of the scales, the other rows of A keep the run's initial values, and the
other columns of B are zero. Biases of the base model that the adapter has are copied and do not
train; the others stay the base model's.

Shape suffixes: R rank, I input width, O output width.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from lora import files
from lora.adapters import peft_header
from lora.adapters.peft_checks import Adapter
from lora.errors import ConfigError
from lora.experiment.run_spec import RunSpec
from lora.model.families.registry import FAMILIES


def sha256(folder: Path, spec: RunSpec) -> str:
    """Return the hash of what a run starts from in a PEFT folder.

    It is that of adapter_model.safetensors. If adapter_config.json gives pairs another scale than
    the run's alpha/r, which changes the initial B, it is a hash of both.
    """
    tensors = files.file_sha256(Path(folder) / peft_header.TENSORS)
    if spec.cell.method != "lora":
        return tensors
    run_scale = spec.hparams.alpha / spec.cell.rank
    pairs = peft_header.describe_folder(folder).pairs
    scales = {name: pair.scale for name, pair in pairs.items() if pair.scale != run_scale}
    if not scales:
        return tensors
    return hashlib.sha256(json.dumps([tensors, scales], sort_keys=True).encode()).hexdigest()


@torch.no_grad()
def fitted_to_run(
    tensors: Mapping[str, Tensor],
    adapter: Adapter,
    parameters: Mapping[str, Tensor],
    alpha: float,
) -> tuple[dict[str, Tensor], list[str]]:
    """Return an adapter's tensors in the run's shapes and scale, and what was changed.

    Args:
        tensors: The adapter's tensors by name.
        adapter: Its description.
        parameters: The run's tensors by name, with their initial values.
        alpha: alpha of the run.

    Returns:
        The tensors by name, and one line for the log for each kind of change.
    """
    fitted = {name: value for name, value in parameters.items() if name.startswith("base.")}
    fitted |= {name: value for name, value in tensors.items() if not name.endswith((".a", ".b"))}
    scaled, lower, left_out = [], [], []
    names = [name.removesuffix(".a") for name in parameters if name.endswith(".a")]
    for name in names:
        a_RI, b_OR = parameters[f"{name}.a"].clone(), torch.zeros_like(parameters[f"{name}.b"])
        run_rank = len(a_RI)
        if name in adapter.pairs:
            rank, scale = adapter.pairs[name]
            a_RI[:rank] = tensors[f"{name}.a"]
            b_OR[:, :rank] = scaled_b(tensors[f"{name}.b"], scale, alpha / run_rank)
            if not math.isclose(scale, alpha / run_rank, rel_tol=1e-9):
                scaled.append(f"{name} by {scale / (alpha / run_rank):.6g}")
            if rank < run_rank:
                lower.append(f"{name} r={rank}")
        else:
            left_out.append(name)
        fitted |= {f"{name}.a": a_RI, f"{name}.b": b_OR}
    notes = {
        "B is multiplied, because the scale is not the run's alpha/r: ": scaled,
        "lower ranks, filled up with the run's initial A and zero B: ": lower,
        "pairs that the adapter leaves out start from the run's initial A and zero B: ": left_out,
    }
    lines = [what + _some(which) for what, which in notes.items() if which]
    if adapter.bias != "none":
        lines.append(f"with its biases ({adapter.bias}), which do not train")
    return fitted, lines


def scaled_b(b_OR: Tensor, scale: float, run_scale: float) -> Tensor:
    """Return B times scale / run_scale: exact for a power of two, else rounded once by the copy."""
    if scale == run_scale:
        return b_OR
    return b_OR.double() * scale / run_scale


def _some(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


@torch.no_grad()
def copy(
    found: Mapping[str, Tensor], parameters: Mapping[str, Tensor], family: str, title: str
) -> list[str]:
    """Copy tensors into a run's parameters; return the names that keep their values.

    Args:
        found: The adapter's tensors by name.
        parameters: The run's tensors by name.
        family: Family of the base model, a key of FAMILIES.
        title: First line of the error.

    Raises:
        ConfigError: If a tensor is missing, surplus or has another shape. It names every such one.
    """
    problems = [f"{name}: the run has no such tensor" for name in sorted({*found} - {*parameters})]
    left_out = []
    for name, value in parameters.items():
        if name in found and found[name].shape == value.shape:
            value.copy_(found[name])
            if not torch.isfinite(value).all():
                problems.append(f"{name}: got numbers too large for {value.dtype}; allowed: finite")
        elif name.startswith("head.out.") or (
            name not in found and FAMILIES[family].has_pooler and name.startswith("head.dense.")
        ):
            left_out.append(name)
        else:
            got = list(found[name].shape) if name in found else "nothing"
            problems.append(f"{name}: got {got}, expected {list(value.shape)}")
    if problems:
        raise ConfigError(title, problems)
    return left_out
