"""Similarity of LoRA's matrices: phi of paper Sec. 7.2 and the amplification of Sec. 7.3.

phi compares the directions that two A act on. It leaves out what B learned (footnote 7). Table 7
measures how much of the frozen W is in the directions of dW = (alpha/r) B A; dW is measured with
and without alpha/r. Decompositions are in float64.

Shape suffixes: R rank, I input width, O output width.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors

from lora.adapters import peft_folder
from lora.model import config as model_config
from lora.model.families import registry


@dataclass(frozen=True)
class Pair:
    """One LoRA pair: dW = scale * b_OR @ a_RI."""

    a_RI: np.ndarray
    b_OR: np.ndarray
    scale: float


def read_pairs(adapter: Path, family: str) -> dict[str, Pair]:
    """Read the pairs of a PEFT LoRA folder, in float64.

    Returns:
        The pairs by "<layer>.<letter>", layers from 0.

    Raises:
        ValueError: If the folder does not hold a whole adapter of this family.
    """
    tensors, found = peft_folder.read_adapter(adapter, family)
    pairs = {}
    for name, pair in found.pairs.items():
        a_RI, b_OR = (tensors[f"{name}.{side}"].double().numpy() for side in "ab")
        pairs[name] = Pair(a_RI, b_OR, pair.scale)
    return pairs


def phi(first_RI: np.ndarray, second_RI: np.ndarray) -> np.ndarray:
    """Compute phi(i, j) = ||U1_i' U2_j||_F^2 / min(i, j) of two A (paper Eq. 4).

    U_k are the right-singular vectors of A_k. phi is 1 if one subspace contains the other, and 0 if
    they are orthogonal.

    Args:
        first_RI: A of the first run, [R1, I].
        second_RI: A of the second run, [R2, I].

    Returns:
        phi, [R1, R2]; phi(i, j) with i and j from 1 is element [i-1, j-1].

    Raises:
        ValueError: If the widths differ, or an A has a lower rank than it has rows.
    """
    first, second = _directions(first_RI), _directions(second_RI)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"two A of widths {first.shape[1]} and {second.shape[1]}; allowed: the same, of one "
            "model"
        )
    shared = ((first @ second.T) ** 2).cumsum(axis=0).cumsum(axis=1)
    return shared / np.minimum(*_counts(*shared.shape))


def _directions(a_RI: np.ndarray) -> np.ndarray:
    """Return the right-singular vectors of A as rows, largest singular value first."""
    a_RI = np.asarray(a_RI, dtype=np.float64)
    if a_RI.ndim != 2 or not np.isfinite(a_RI).all():
        raise ValueError(f"an A of shape {a_RI.shape}; allowed: (rank, width), all of it finite")
    _, size, vectors = np.linalg.svd(a_RI, full_matrices=False)
    _check_rank(size, len(a_RI), "A")
    return vectors


def _check_rank(size: np.ndarray, wanted: int, what: str) -> None:
    """Raise ValueError for fewer than `wanted` singular values above 0.

    The vectors of the others are arbitrary.
    """
    rank = int((size > size[0] * 1e-12).sum())
    if rank < wanted:
        raise ValueError(
            f"{what} of r={wanted} has rank {rank}, so its last directions are undefined; train "
            "longer, or use a lower r"
        )


def _counts(first_rank: int, second_rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Return i as a column and j as a row, both from 1."""
    return np.arange(1, first_rank + 1)[:, None], np.arange(1, second_rank + 1)[None, :]


def expected_phi(first_rank: int, second_rank: int, width: int) -> np.ndarray:
    """Return the expected phi of random subspaces, max(i, j)/width, [R1, R2].

    Each of the i*j squared cosines is 1/width on average.
    """
    return np.maximum(*_counts(first_rank, second_rank)) / width


def random_phi(first_rank: int, second_rank: int, width: int, *seed: int) -> np.ndarray:
    """Return phi of two Gaussian matrices, [R1, R2], the same for the same seed."""
    random = np.random.default_rng((first_rank, second_rank, width, *seed))
    return phi(
        random.standard_normal((first_rank, width)), random.standard_normal((second_rank, width))
    )


def amplification(weight_OI: np.ndarray, pair: Pair, *seed: int) -> dict[str, float]:
    """Compute one row of the paper's Table 7.

    The norm of U'WV' is the same in any orthonormal basis of the spaces that dW's singular vectors
    span: the columns of B and the rows of A. The singular vectors of a Gaussian matrix are random
    frames, independent left and right, and drawn as such.

    Args:
        weight_OI: Frozen W.
        pair: The LoRA pair.
        seed: Seed of the random frames.

    Returns:
        The columns from `scale` to `amplification_unscaled` of columns.AMPLIFICATION_COLUMNS.

    Raises:
        ValueError: If W and dW have different shapes, or dW has a lower rank than r.
    """
    rank, shape = len(pair.a_RI), (len(pair.b_OR), pair.a_RI.shape[1])
    if weight_OI.shape != shape:
        raise ValueError(
            f"W has shape {weight_OI.shape}; expected {shape}, that of dW: give the adapter's base "
            "model"
        )
    left_OR, left_RR = np.linalg.qr(pair.b_OR)
    right_IR, right_RR = np.linalg.qr(pair.a_RI.T)
    delta_size = np.linalg.svd(left_RR @ right_RR.T, compute_uv=False)
    _check_rank(delta_size, rank, "dW")
    random = np.random.default_rng((*shape, rank, *seed))
    random_OR, random_IR = (
        np.linalg.qr(random.standard_normal((width, rank)))[0] for width in shape
    )
    unscaled, norm = np.linalg.norm(delta_size), np.linalg.norm(weight_OI)
    projected = np.linalg.norm(left_OR.T @ weight_OI @ right_IR)
    row: dict[str, float | np.floating] = dict(
        scale=pair.scale,
        w_norm=norm,
        delta_norm=pair.scale * unscaled,
        delta_norm_unscaled=unscaled,
        projected_delta=projected,
        projected_w=np.linalg.norm(np.linalg.svd(weight_OI, compute_uv=False)[:rank]),
        projected_random=np.linalg.norm(random_OR.T @ weight_OI @ random_IR),
        projected_random_expected=norm * rank / math.sqrt(math.prod(shape)),
        amplification=pair.scale * unscaled / projected,
        amplification_unscaled=unscaled / projected,
    )
    return {key: float(value) for key, value in row.items()}


def base_weight(model_dir: Path, layer: int, letter: str) -> np.ndarray:
    """Return the frozen W [O, I] of a layer (from 0) and weight type, in float64.

    Raises:
        ValueError: If the model folder has no such weight.
    """
    family = registry.family_of(model_config.read(model_dir))
    key = f"{family.module_of(f'{layer}.{letter}')}.weight"
    keys = {key, f"{family.prefix}.{key}"}
    for path in sorted(Path(model_dir).glob("*.safetensors")):
        with safetensors.safe_open(path, framework="pt") as tensors:
            for name in keys.intersection(tensors.keys()):
                return tensors.get_tensor(name).double().numpy()
    raise ValueError(
        f"{model_dir}: no safetensors file has {key}; give the folder of the adapter's base model"
    )
