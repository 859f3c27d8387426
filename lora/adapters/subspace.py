"""What LoRA's matrices have in common, from saved adapters alone: the similarity of Sec. 7.2 and the table of Sec. 7.3.

phi(i, j) of Eq. 4 compares the directions that two A's act on, by their right-singular vectors; Table 7 asks how much of
the frozen W lies in the directions of dW = (alpha/r) B A. Nothing trains, so any finished run can be looked at later.
The choices that the paper leaves open: dW is measured with and without alpha/r, in a column each. Two random subspaces of
a narrow model do not have phi near 0 but max(i, j)/d, so that stands beside every phi, with a draw, and with the phi that
the same two A's had before training. Runs that are compared have other seeds or the overlap would be that of their start.
The cost of looking at A alone (footnote 7) is that what B learned is not in phi. Factorisations are in float64; values
are rounded to DIGITS decimals, as their last bits differ between machines.

Shape suffixes: R rank, I input width, O output width.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import safetensors

from lora import files, run_record
from lora.adapters import peft_folder
from lora.columns import AMPLIFICATION_COLUMNS, PHI_COLUMNS
from lora.data import fetch
from lora.errors import ConfigError
from lora.experiment.cell import MODEL_FAMILIES
from lora.experiment.hparams import PRETRAINED, Hparams
from lora.model import packed_model

DIGITS = 9
SAME = (
    "model",
    "task",
    "method",
    "protocol",
    "weights",
)  # settings that runs of one comparison share


@dataclass(frozen=True)
class Pair:
    """One LoRA pair: dW = scale * b_OR @ a_RI."""

    a_RI: np.ndarray
    b_OR: np.ndarray
    scale: float


@dataclass(frozen=True)
class Run:
    """A run's folder as training leaves it: run.json and adapter/, of its best epoch."""

    folder: Path

    @cached_property
    def record(self) -> dict:
        return run_record.read(
            self.folder / "run.json", "train that run again", ("base.family", *run_record.IDENTITY)
        )

    @property
    def settings(self) -> dict:
        return self.record["settings"]

    @property
    def label(self) -> str:
        return f"r{self.settings['rank']} seed{self.settings['seed']}"

    @cached_property
    def pairs(self) -> dict[str, Pair]:
        return read_pairs(self.folder / "adapter", self.record["base"]["family"])

    @property
    def depth(self) -> int:
        return 1 + max(int(name.split(".")[0]) for name in self.pairs)

    def start_of(self, name: str) -> np.ndarray | None:
        """A of the pair `name` before training; None where the run started from an adapter, whose A is not kept."""
        hparams = Hparams(**self.settings["hparams"])
        if hparams.start != PRETRAINED:
            return None
        shape = self.pairs[name].a_RI.shape
        return packed_model.start_of_a(self.settings["seed"], name, shape, hparams).double().numpy()


def read_pairs(adapter: Path, family: str) -> dict[str, Pair]:
    """The pairs of a PEFT LoRA folder by "<layer>.<letter>", layers from 0, in float64.

    Raises ValueError, as `export.read_adapter` does, for anything that is not a whole adapter of this family.
    """
    tensors, facts = peft_folder.read_adapter(adapter, family)
    names = [name.removesuffix(".a") for name in tensors if name.endswith(".a")]
    sides = {name: [tensors[f"{name}.{side}"].double().numpy() for side in "ab"] for name in names}
    return {name: Pair(*sides[name], scale=facts["alpha"] / facts["rank"]) for name in names}


def phi(first_RI: np.ndarray, second_RI: np.ndarray) -> np.ndarray:
    """phi(i, j) = ||U1_i' U2_j||_F^2 / min(i, j), U_k the right-singular vectors of A_k (Eq. 4).

    Returns [R1, R2], where i and j count from 1: element [i-1, j-1]. 1 where one subspace lies in the other, 0 where they
    are orthogonal. Raises ValueError for two widths, and for an A whose directions are not all defined.
    """
    first, second = _directions(first_RI), _directions(second_RI)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"two A of widths {first.shape[1]} and {second.shape[1]}; allowed: the same, of one model"
        )
    shared = ((first @ second.T) ** 2).cumsum(axis=0).cumsum(axis=1)
    return shared / np.minimum(*_counts(*shared.shape))


def _directions(a_RI: np.ndarray) -> np.ndarray:
    """The right-singular vectors of A as rows, largest singular value first."""
    a_RI = np.asarray(a_RI, dtype=np.float64)
    if a_RI.ndim != 2 or not np.isfinite(a_RI).all():
        raise ValueError(f"an A of shape {a_RI.shape}; allowed: (rank, width), all of it finite")
    _, size, vectors = np.linalg.svd(a_RI, full_matrices=False)
    _check_rank(size, len(a_RI), "A")
    return vectors


def _check_rank(size: np.ndarray, wanted: int, what: str) -> None:
    """Raises ValueError for fewer than `wanted` singular values above 0: the vectors of the others are arbitrary."""
    rank = int((size > size[0] * 1e-12).sum())
    if rank < wanted:
        raise ValueError(f"{what} of r={wanted} has rank {rank}, so its last directions mean nothing; train longer, or take "
                         "a lower r")  # fmt: skip


def _counts(first_rank: int, second_rank: int) -> tuple[np.ndarray, np.ndarray]:
    """i as a column and j as a row."""
    return np.arange(1, first_rank + 1)[:, None], np.arange(1, second_rank + 1)[None, :]


def expected_phi(first_rank: int, second_rank: int, width: int) -> np.ndarray:
    """E phi(i, j) = max(i, j)/width of random subspaces, [R1, R2]: each of the i j squared cosines is 1/width on average."""
    return np.maximum(*_counts(first_rank, second_rank)) / width


def random_phi(first_rank: int, second_rank: int, width: int, *seed: int) -> np.ndarray:
    """phi of two Gaussian matrices, [R1, R2], the same for the same seed."""
    random = np.random.default_rng((first_rank, second_rank, width, *seed))
    return phi(
        random.standard_normal((first_rank, width)), random.standard_normal((second_rank, width))
    )


def amplification(weight_OI: np.ndarray, pair: Pair, *seed: int) -> dict[str, float]:
    """One row of Table 7, from `scale` to `amplification_unscaled` of records.AMPLIFICATION_COLUMNS.

    dW has r singular vectors on each side, and a norm of U'WV' is the same in any orthonormal basis of what they span: the
    columns of B and the rows of A. The singular vectors of a Gaussian matrix are random frames, independent left and
    right, and drawn as such. Raises ValueError for a W of another shape than dW, and for a dW of lower rank than r.
    """
    rank, shape = len(pair.a_RI), (len(pair.b_OR), pair.a_RI.shape[1])
    if weight_OI.shape != shape:
        raise ValueError(
            f"W has shape {weight_OI.shape}; expected {shape}, that of dW: give the adapter's base model"
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
    return dict(
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


def base_weight(model_dir: Path, layer: int, letter: str) -> np.ndarray:
    """The frozen W [O, I] of a layer, from 0, and a weight type, in float64; raises ValueError where there is none."""
    key = f"encoder.layer.{layer}.{peft_folder.TARGETS[letter]}.weight"
    keys = {key, *(f"{family}.{key}" for family in MODEL_FAMILIES)}
    for path in sorted(Path(model_dir).glob("*.safetensors")):
        with safetensors.safe_open(path, framework="pt") as tensors:
            for name in keys.intersection(tensors.keys()):
                return tensors.get_tensor(name).double().numpy()
    raise ValueError(
        f"{model_dir}: no safetensors file holds {key}; give the folder of the adapter's base model"
    )


def paper_layers(depth: int) -> tuple[int, ...]:
    """First, one third, two thirds and last of `depth` layers, from 1: the paper's 1, 32, 64 and 96 of 96 (App. H.1)."""
    return tuple(dict.fromkeys(max(1, round(depth * third / 3)) for third in range(4)))


def middle_layer(depth: int) -> int:
    """The layer of Figures 3 and 4, from 1: the paper's 48 of 96."""
    return max(1, depth // 2)


def write(run_dirs: Sequence[Path], model_dir: Path, output_dir: Path, letters: str | None = None,
          layers: Sequence[int] | None = None) -> None:  # fmt: skip
    """phi.csv and amplification.csv of three runs' folders: one of the lower rank, then two seeds of the higher.

    Figures 3 and 6 compare the first with the last, Figures 4 and 7 the two of the higher rank. `letters` are the runs'
    weights where not given, `layers` (from 1, of Figures 6 and 7) those of `paper_layers`. Raises ValueError for runs that
    cannot be compared, all problems at once.
    """
    if len(run_dirs) != 3:
        raise ValueError(
            f"got {len(run_dirs)} runs; allowed: three, one of the lower rank and two seeds of the higher"
        )
    runs = [Run(Path(folder)) for folder in run_dirs]
    _check_runs(runs, Path(model_dir))
    weights, depth = runs[0].settings["weights"], runs[0].depth
    letters, layers = tuple(letters or weights), tuple(layers or paper_layers(depth))
    problems = [f"letter {letter!r}; allowed: {', '.join(weights)}, what the runs adapt" for letter in letters
                if letter not in weights]  # fmt: skip
    problems += [
        f"layer {layer}; allowed: 1 to {depth}" for layer in layers if not 1 <= layer <= depth
    ]
    if problems:
        raise ConfigError("the subspaces asked for are not there:", problems)
    middle = middle_layer(depth)
    shown = {("figure3", "figure6"): (runs[0], runs[2]), ("figure4", "figure7"): (runs[1], runs[2])}
    rows = [
        row
        for figures, pair in shown.items()
        for figure, places in zip(figures, ((middle,), layers), strict=True)
        for layer in places
        for letter in letters
        for row in _phi_rows(figure, *pair, layer, letter)
    ]
    files.write_csv(Path(output_dir) / "phi.csv", PHI_COLUMNS, rows)
    rows = [
        _amplification_row(run, Path(model_dir), layer, letter)
        for layer in sorted({middle, *layers})
        for letter in letters
        for run in runs
    ]
    files.write_csv(Path(output_dir) / "amplification.csv", AMPLIFICATION_COLUMNS, rows)


def _check_runs(runs: list[Run], model_dir: Path) -> None:
    """Raises Problems unless the runs are one comparison: alike but for rank and seed, and of unlike starts."""
    lower, other, higher = runs
    problems = []
    for run in runs:
        if run.settings["method"] != "lora":
            problems.append(f"{run.folder}: method {run.settings['method']!r}; allowed: lora")
        if run.record["status"] != "ok":
            problems.append(
                f"{run.folder}: status {run.record['status']!r}; allowed: ok, a run that finished"
            )
    for key in SAME:
        if len(values := {str(run.settings[key]) for run in runs}) > 1:
            problems.append(f"{key} {' and '.join(sorted(values))}; allowed: one for all runs")
    if (
        other.settings["rank"] != higher.settings["rank"]
        or lower.settings["rank"] >= higher.settings["rank"]
    ):
        got = ", ".join(str(run.settings["rank"]) for run in runs)
        problems.append(f"ranks {got}; allowed: a lower one, then twice the same higher one")
    for run in (lower, other):
        seed, start = run.settings["seed"], run.record["start"]
        if seed == higher.settings["seed"]:
            problems.append(f"{run.label} and {higher.label} have the same seed, which can give both A the same start and "
                            "so an overlap that no training made; give runs of two seeds")  # fmt: skip
        if start and higher.record["start"] and start["sha256"] == higher.record["start"]["sha256"]:
            problems.append(f"{run.label} and {higher.label} start from the same adapter ({start['source']}), so that they "
                            f"overlap without training; compare runs with start: {PRETRAINED}")  # fmt: skip
    if {run.record["base"]["base_sha256"] for run in runs} != {fetch.base_sha256(model_dir)}:
        problems.append(
            f"{model_dir} is not the base model that all of them were trained on; give that one"
        )
    if problems:
        raise ConfigError("these runs cannot be compared:", problems)


def _phi_rows(figure: str, first: Run, second: Run, layer: int, letter: str) -> list[dict]:
    name = f"{layer - 1}.{letter}"
    pair = [run.pairs[name].a_RI for run in (first, second)]
    starts = [run.start_of(name) for run in (first, second)]
    ranks, width = [len(a_RI) for a_RI in pair], pair[0].shape[1]
    figures = dict(
        phi=phi(*pair),
        phi_at_start=np.full(ranks, math.nan)
        if any(start is None for start in starts)
        else phi(*starts),
        random_drawn=random_phi(*ranks, width, layer),
        random_expected=expected_phi(*ranks, width),
    )
    about = dict(
        figure=figure,
        layer=layer,
        depth=first.depth,
        letter=letter,
        first=first.label,
        second=second.label,
    )
    about |= {key: first.settings[key] for key in ("model", "task")}
    return [
        about
        | dict(i=i + 1, j=j + 1)
        | {key: round(float(value[i, j]), DIGITS) for key, value in figures.items()}
        for i, j in np.ndindex(*ranks)
    ]


def _amplification_row(run: Run, model_dir: Path, layer: int, letter: str) -> dict:
    name = f"{layer - 1}.{letter}"
    pair, start_RI = run.pairs[name], run.start_of(name)
    figures = amplification(base_weight(model_dir, layer - 1, letter), pair, layer)
    change = (
        math.nan
        if start_RI is None
        else np.linalg.norm(pair.a_RI - start_RI) / np.linalg.norm(start_RI)
    )
    about = {key: run.settings[key] for key in ("model", "task", "rank", "seed")}
    about |= dict(layer=layer, depth=run.depth, letter=letter)
    return about | {
        key: round(float(value), DIGITS) for key, value in (figures | dict(a_change=change)).items()
    }
