"""Import result folders of the course re-implementation as runs, so that tables can show them.

tn292/cs5782_final_project (at 2d2b0b7) has results/<task>/<run>/training_results.csv, one row per
epoch. The folder's name gives rank, alpha and seed (`mrpc_r8_a16_s42`, query and value adapted) or
rank and modules (`r4_query_value`); the protocol in config/hparams.csv gives the rest. What was not
recorded (hashes, versions, sizes, times, the training loss) stays unknown in run.json.

Any problem stops the import before a file is written, and all problems are listed. Import again
after `results_version` is raised: the runs get the version of the importing code.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from lora import files, run_record
from lora.columns import METRICS_COLUMNS
from lora.errors import ConfigError, shown
from lora.experiment import hparam_rows, registry, versions
from lora.experiment.cell import WEIGHT_TYPES, Cell
from lora.experiment.hparams import Hparams, parse_setting, run_settings
from lora.experiment.task import Task
from lora.files import Row
from lora.run_record import (
    Base,
    Best,
    Data,
    Parameters,
    RunRecord,
    Settings,
    Speed,
    best_epoch,
)

FILE = "training_results.csv"
PROTOCOL = "course-as-run"
MODEL = "roberta-base"
LAYERS, WIDTH = 12, 768
FROZEN = 124_055_040  # parameters of RoBERTa-base without its pooler
COLUMNS = {  # column of its CSV -> ours; F1, precision and recall are computed as here
    "Training Loss": "train_loss",
    "Epoch": "epoch",
    "Step": "step",
    "Validation Loss": "eval_loss",
    "Accuracy": "accuracy",
    "F1": "f1",
    "Precision": "precision",
    "Recall": "recall",
}
FRACTIONS = ("Accuracy", "F1", "Precision", "Recall")
MODULES = {"query": "q", "key": "k", "value": "v", "dense": "o", "output": "o"}
NAME_WITH_SEED = re.compile(
    r"(?P<task>[a-z0-9]+)_r(?P<rank>\d+)_a(?P<alpha>\d+(?:\.\d+)?)_s(?P<seed>\d+)"
)
NAME_WITH_MODULES = re.compile(r"r(?P<rank>\d+)_(?P<modules>[a-z_]+)")


@dataclass(frozen=True)
class ImportedRun:
    """One run of the course.

    Attributes:
        path: Its CSV.
        cell: The cell it is a run of.
        seed: Its seed.
        hparams: Its hyperparameters.
        rows: Its epochs, with the columns METRICS_COLUMNS.
    """

    path: Path
    cell: Cell
    seed: int
    hparams: Hparams
    rows: list[Row]


@dataclass(frozen=True)
class Defaults:
    """What the names of the folders do not say.

    Attributes:
        seed: Seed of runs whose name has none.
        alpha: Alpha of runs whose name has none: a number, or <c>r for c times the rank.
        protocol: Protocol in config/hparams.csv.
    """

    seed: int | None
    alpha: str | None
    protocol: str


def read_results(
    folder: Path,
    output_dir: Path,
    default_seed: int | None = None,
    default_alpha: str | None = None,
    protocol: str = PROTOCOL,
) -> list[Path]:
    """Import every run under a folder to OUTPUT_DIR/runs/<cell>/seed<n>/.

    Args:
        folder: The course's folder `results`.
        output_dir: Folder to write into. A run that is already there is never replaced.
        default_seed: Seed of runs whose name has none.
        default_alpha: Alpha of runs whose name has none: a number, or <c>r.
        protocol: Protocol in config/hparams.csv.

    Returns:
        The folders of the imported runs.

    Raises:
        ValueError: If there is no CSV under `folder`.
        ConfigError: If a run cannot be imported. The message names file and line of every problem,
            and nothing is written.
    """
    folder, output_dir = Path(folder), Path(output_dir)
    without_csv = (run / FILE for run in folder.glob("*/*") if run.is_dir())
    paths = sorted({*folder.rglob("*.csv"), *without_csv})
    if not paths:
        raise ValueError(f"no <task>/<run>/{FILE} under {folder}; give the course's folder results")
    tasks, defaults = registry.read_tasks(), Defaults(default_seed, default_alpha, protocol)
    problems: list[str] = []
    found: dict[Path, ImportedRun] = {}
    for path in paths:
        try:
            _check_path(path, folder, tasks)
        except ConfigError as error:
            problems += error.problems
            continue
        rows, wrong = _rows(path)
        try:
            cell, seed, hparams = _identity(path, tasks[path.parent.parent.name], defaults)
        except ConfigError as error:
            problems += wrong + error.problems
            continue
        if not wrong and len(rows) != hparams.epochs:
            wrong.append(
                f"{path}: {len(rows)} epochs; protocol {protocol} (config/hparams.csv) has "
                f"{hparams.epochs}"
            )
        target = output_dir / "runs" / cell.path / f"seed{seed}"
        if target in found:
            wrong.append(f"{path}: the same run as {found[target].path}; keep one")
        elif target.exists():
            wrong.append(f"{path}: {target} exists; delete it, or choose another output folder")
        found.setdefault(target, ImportedRun(path, cell, seed, hparams, rows))
        problems += wrong
    if problems:
        raise ConfigError(f"{folder} cannot be imported:", problems)
    for target, run in found.items():
        run_record.write_run(target, _record(run, tasks[run.cell.task], folder), run.rows)
    return list(found)


def _wrong(path: Path, *problems: str) -> ConfigError:
    return ConfigError(str(path), [f"{path}: {problem}" for problem in problems])


def _check_path(path: Path, folder: Path, tasks: dict[str, Task]) -> None:
    """Raise ConfigError unless the file has the results of a run of a known task."""
    parts = path.relative_to(folder).parts
    if len(parts) != 3 or path.name != FILE:
        raise _wrong(path, f"not the CSV of a run; allowed: {folder}/<task>/<run>/{FILE}")
    if not path.is_file():
        raise _wrong(path.parent, f"no {FILE}; delete folders of runs without results")
    if parts[0] not in tasks:
        raise _wrong(path, f"task {parts[0]!r} is unknown; allowed: {', '.join(tasks)}")
    metric = tasks[parts[0]].metric
    if metric not in COLUMNS.values():
        raise _wrong(
            path, f"the metric of {parts[0]} is {metric}, which the course's code does not record"
        )


def _identity(path: Path, task: Task, defaults: Defaults) -> tuple[Cell, int, Hparams]:
    """Return cell, seed and hyperparameters of a run; raise ConfigError for a wrong name."""
    name, problems = path.parent.name, []
    with_seed, with_modules = NAME_WITH_SEED.fullmatch(name), NAME_WITH_MODULES.fullmatch(name)
    if with_seed:
        weights, rank, alpha = "qv", int(with_seed["rank"]), with_seed["alpha"]
        seed = int(with_seed["seed"])
        if with_seed["task"] != task.name:
            problems.append(
                f"the folder's name has {with_seed['task']!r}, its parent {task.name!r}"
            )
    elif with_modules:
        modules, rank = with_modules["modules"].split("_"), int(with_modules["rank"])
        weights, seed, alpha = _weights(modules), defaults.seed or 0, defaults.alpha or ""
        if len(weights) != len(modules):
            allowed = "query, key, value, and dense or output, each once"
            got = ", ".join(modules)
            problems.append(f"the folder's name has modules {got}; allowed: {allowed}")
        for key in ("seed", "alpha"):
            if getattr(defaults, key) is None:
                problems.append(f"the folder's name has no {key}; set it with --{key}")
    else:
        raise _wrong(
            path,
            f"the folder's name is {name!r}; allowed: <task>_r<rank>_a<alpha>_s<seed>, or "
            f"r<rank>_<modules> with modules of {', '.join(MODULES)}",
        )
    if problems:
        raise _wrong(path, *problems)
    try:
        cell = Cell(MODEL, task.name, "lora", weights, rank, defaults.protocol)
        hparams = hparam_rows.resolve(hparam_rows.read_hparam_rows(), cell, {})
        parsed = parse_setting("alpha", alpha, cell.rank)
        run_settings(cell, seed, hparams)  # checks the seed before anything is written
    except ConfigError as error:
        raise _wrong(path, *error.problems) from None
    except ValueError as error:
        raise _wrong(path, str(error)) from None
    if parsed != hparams.alpha:
        where = "in the folder's name" if with_seed else "as given"
        raise _wrong(
            path,
            f"alpha is {parsed:g} {where}, but {hparams.alpha:g} in protocol {defaults.protocol} "
            "(config/hparams.csv); both must be equal",
        )
    return cell, seed, hparams


def _weights(modules: list[str]) -> str:
    """Return the weight types of these modules, in the paper's order."""
    adapted = {MODULES.get(module) for module in modules}
    return "".join(letter for letter in WEIGHT_TYPES if letter in adapted)


def _rows(path: Path) -> tuple[list[Row], list[str]]:
    """Return the epochs of a run, with the columns METRICS_COLUMNS, and what is wrong with them."""
    try:
        (_, header), *lines = files.read_rows(path) or [(1, [])]
    except ValueError as error:
        return [], [str(error)]
    if sorted(header) != sorted(COLUMNS):
        got = ", ".join(header)[:200] or "none"
        return [], [f"{path}, line 1: columns {got}; expected {', '.join(COLUMNS)}"]
    rows: list[Row] = []
    problems: list[str] = []
    steps = 0
    for number, (_, line) in enumerate(lines, start=2):
        if len(line) != len(header):
            problems.append(f"{path}, line {number}: {len(line)} cells; expected {len(header)}")
            continue
        row, wrong = _row(dict(zip(header, line, strict=True)))
        rows.append(row)
        if not wrong and row["epoch"] != number - 1:
            wrong.append(f"epoch {row['epoch']}; expected {number - 1}: each epoch once, in order")
        if not wrong and row["step"] <= steps:
            wrong.append(f"step {row['step']} after {steps}; expected a higher one")
        steps = row["step"]
        problems += [f"{path}, line {number}: {problem}" for problem in wrong]
    return rows, problems


def _row(cells: dict[str, str]) -> tuple[Row, list[str]]:
    """Return one epoch, and what is wrong with its numbers."""
    row: Row = dict.fromkeys(METRICS_COLUMNS, math.nan) | {"status": "ok"}
    problems = []
    for name, text in cells.items():
        value, problem = _number(name, text)
        row[COLUMNS[name]] = value
        if problem:
            problems.append(f"{name} is {problem}")
    return row, problems


def _number(name: str, text: str) -> tuple[float, str]:
    """Return the number in a cell, and what is wrong with it; NaN for an empty training loss."""
    try:
        value = float(text) if text.strip() else math.nan
    except ValueError:
        return math.nan, f"{shown(text)}; allowed: a number"
    if name in ("Epoch", "Step"):
        if not value.is_integer() or value < 1:
            return math.nan, f"{shown(text)}; allowed: a whole number of at least 1"
        return int(value), ""
    if name == "Training Loss" and not text.strip():
        return value, ""
    if not math.isfinite(value):
        return value, f"{shown(text)}; allowed: a finite number"
    if name in FRACTIONS and not 0 <= value <= 1:
        hint = " (if it is in per cent, divide it by 100)" if 1 < value <= 100 else ""
        return value, f"{text}; allowed: a fraction, 0 to 1{hint}"
    return value, ""


def _record(run: ImportedRun, task: Task, folder: Path) -> RunRecord:
    """Return the run.json of an imported run; what is unknown has its default."""
    values = [row[task.metric] for row in run.rows]
    best = best_epoch(values)
    head = WIDTH * (WIDTH + 1) + task.num_labels * (WIDTH + 1)
    return RunRecord(
        settings=Settings.model_validate(run_settings(run.cell, run.seed, run.hparams)),
        results_version=versions.results_version("roberta", "fp32"),
        status="ok",
        parameters=Parameters(
            trainable=2 * LAYERS * WIDTH * len(run.cell.weights) * run.cell.rank,
            head=head if run.hparams.head == "trained" else 0,
            frozen=FROZEN,
        ),
        data=Data(source=f"imported from {run.path.relative_to(folder).as_posix()}"),
        base=Base(source=f"{MODEL}, revision unknown", family="roberta"),
        best=Best(epoch=best, metric=task.metric, value=values[best - 1] if best else None),
        speed=Speed(pack=1),
        precision="fp32",  # the course's code uses no other
        device="unknown",
    )
