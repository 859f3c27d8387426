"""Tables of the subspace analysis, from the saved adapters of three finished runs.

Random subspaces of a narrow model do not have a phi near 0, but max(i, j)/d. So each phi comes with
this expectation, a random draw, and the phi of the same two A before training. The compared runs
need different seeds; otherwise they overlap from the start. Values are rounded to DIGITS decimals,
because the last bits differ between machines.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lora import files, run_record
from lora.adapters import subspace
from lora.columns import AMPLIFICATION_COLUMNS, PHI_COLUMNS
from lora.data import fetch
from lora.errors import ConfigError
from lora.experiment.hparams import PRETRAINED, Hparams
from lora.model import initial_values
from lora.run_record import RunRecord
from lora.tables import table7

DIGITS = 9
# Settings that all runs of a comparison share.
SAME = ("model", "task", "method", "protocol", "weights")


@dataclass(frozen=True)
class Run:
    """The folder of a finished run: run.json, and adapter/ of its best epoch."""

    folder: Path

    @cached_property
    def record(self) -> RunRecord:
        return run_record.read(
            self.folder / "run.json", "train that run again", ("base.family", *run_record.IDENTITY)
        )

    @property
    def settings(self) -> dict[str, Any]:
        return self.record.settings.model_dump()

    @property
    def label(self) -> str:
        return f"r{self.settings['rank']} seed{self.settings['seed']}"

    @cached_property
    def pairs(self) -> dict[str, subspace.Pair]:
        return subspace.read_pairs(self.folder / "adapter", self.record.base.family)

    @property
    def depth(self) -> int:
        return 1 + max(int(name.split(".")[0]) for name in self.pairs)

    def start_of(self, name: str) -> np.ndarray | None:
        """Return A of a pair before training; None if the run started from another adapter."""
        hparams = Hparams(**self.settings["hparams"])
        if hparams.start != PRETRAINED:
            return None
        shape = self.pairs[name].a_RI.shape
        return (
            initial_values.initial_a(self.settings["seed"], name, shape, hparams).double().numpy()
        )


def paper_layers(depth: int) -> tuple[int, ...]:
    """Return the first, one third, two thirds and last layer, from 1 (paper App. H.1)."""
    return tuple(dict.fromkeys(max(1, round(depth * third / 3)) for third in range(4)))


def middle_layer(depth: int) -> int:
    """Return the layer of Figures 3 and 4, from 1: layer 48 of 96 in the paper."""
    return max(1, depth // 2)


def write(
    run_dirs: Sequence[Path],
    model_dir: Path,
    output_dir: Path,
    letters: str | None = None,
    layers: Sequence[int] | None = None,
) -> None:
    """Write phi.csv and amplification.csv of three runs.

    Figures 3 and 6 compare the first run with the last, Figures 4 and 7 the two of the higher rank.

    Args:
        run_dirs: Folders of three runs: one of the lower rank, then two seeds of the higher.
        model_dir: Folder of the runs' base model.
        output_dir: Folder of the two files.
        letters: Weight types; by default those of the runs.
        layers: Layers of Figures 6 and 7, from 1; by default `paper_layers`.

    Raises:
        ValueError: If the number of runs is not three.
        ConfigError: If the runs cannot be compared. It names every problem.
    """
    if len(run_dirs) != 3:
        raise ValueError(
            f"got {len(run_dirs)} runs; allowed: three, one of the lower rank and two seeds of "
            "the higher"
        )
    runs = [Run(Path(folder)) for folder in run_dirs]
    _check_runs(runs, Path(model_dir))
    weights, depth = runs[0].settings["weights"], runs[0].depth
    chosen, layers = tuple(letters or weights), tuple(layers or paper_layers(depth))
    problems = [
        f"letter {letter!r}; allowed: {', '.join(weights)}, what the runs adapt"
        for letter in chosen
        if letter not in weights
    ]
    problems += [
        f"layer {layer}; allowed: 1 to {depth}" for layer in layers if not 1 <= layer <= depth
    ]
    if problems:
        raise ConfigError("the requested subspaces do not exist:", problems)
    middle = middle_layer(depth)
    compared = {
        ("figure3", "figure6"): (runs[0], runs[2]),
        ("figure4", "figure7"): (runs[1], runs[2]),
    }
    rows = [
        row
        for figures, pair in compared.items()
        for figure, figure_layers in zip(figures, ((middle,), layers), strict=True)
        for layer in figure_layers
        for letter in chosen
        for row in _phi_rows(figure, *pair, layer, letter)
    ]
    files.write_csv(Path(output_dir) / "phi.csv", PHI_COLUMNS, rows)
    rows = [
        _amplification_row(run, Path(model_dir), layer, letter)
        for layer in sorted({middle, *layers})
        for letter in chosen
        for run in runs
    ]
    files.write_csv(Path(output_dir) / "amplification.csv", AMPLIFICATION_COLUMNS, rows)
    table7.write(rows, Path(output_dir))


def _check_runs(runs: list[Run], model_dir: Path) -> None:
    """Raise ConfigError unless the runs differ in rank, seed and initial values only."""
    lower, other, higher = runs
    problems = []
    for run in runs:
        if run.settings["method"] != "lora":
            problems.append(f"{run.folder}: method {run.settings['method']!r}; allowed: lora")
        if run.record.status != "ok":
            problems.append(
                f"{run.folder}: status {run.record.status!r}; allowed: ok, a run that finished"
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
        seed, start = run.settings["seed"], run.record.start
        if seed == higher.settings["seed"]:
            problems.append(
                f"{run.label} and {higher.label} have the same seed, which can give both A the "
                "same initial values and so an overlap without training; give runs of two seeds"
            )
        if start and higher.record.start and start.sha256 == higher.record.start.sha256:
            problems.append(
                f"{run.label} and {higher.label} start from the same adapter ({start.source}), so "
                f"they overlap without training; compare runs with start: {PRETRAINED}"
            )
    if {run.record.base.base_sha256 for run in runs} != {fetch.base_sha256(model_dir)}:
        problems.append(
            f"{model_dir} is not the base model that all of them were trained on; give that one"
        )
    if problems:
        raise ConfigError("these runs cannot be compared:", problems)


def _phi_rows(
    figure: str, first: Run, second: Run, layer: int, letter: str
) -> list[dict[str, Any]]:
    """Return the rows of phi.csv of two runs, one per (i, j)."""
    name = f"{layer - 1}.{letter}"
    one_RI, other_RI = first.pairs[name].a_RI, second.pairs[name].a_RI
    one_start, other_start = first.start_of(name), second.start_of(name)
    ranks, width = (len(one_RI), len(other_RI)), one_RI.shape[1]
    if one_start is None or other_start is None:
        phi_at_start = np.full(ranks, math.nan)
    else:
        phi_at_start = subspace.phi(one_start, other_start)
    values = dict(
        phi=subspace.phi(one_RI, other_RI),
        phi_at_start=phi_at_start,
        random_drawn=subspace.random_phi(*ranks, width, layer),
        random_expected=subspace.expected_phi(*ranks, width),
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
        | {key: round(float(value[i, j]), DIGITS) for key, value in values.items()}
        for i, j in np.ndindex(*ranks)
    ]


def _amplification_row(run: Run, model_dir: Path, layer: int, letter: str) -> dict[str, Any]:
    """Return one row of amplification.csv."""
    name = f"{layer - 1}.{letter}"
    pair, start_RI = run.pairs[name], run.start_of(name)
    weight_OI = subspace.base_weight(model_dir, layer - 1, letter)
    values = subspace.amplification(weight_OI, pair, layer)
    change = (
        math.nan
        if start_RI is None
        else float(np.linalg.norm(pair.a_RI - start_RI) / np.linalg.norm(start_RI))
    )
    about = {key: run.settings[key] for key in ("model", "task", "rank", "seed")}
    about |= dict(layer=layer, depth=run.depth, letter=letter)
    return about | {
        key: round(float(value), DIGITS) for key, value in (values | dict(a_change=change)).items()
    }
