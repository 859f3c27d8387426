"""Result folders of the course re-implementation, read into the layout of runs here, so that tables are made of them.

tn292/cs5782_final_project (at 2d2b0b7) keeps results/<task>/<run>/training_results.csv, a row an epoch, and its own script
can no longer make its tables of them. What a run was is in the folder's name, as far as it is anywhere: rank, alpha and
seed of `mrpc_r8_a16_s42`, which adapted query and value, as its report says; rank and modules of `r4_query_value`. The rest
is the protocol's (config/hparams.csv), and where both say something they must agree. What nobody wrote down stays empty in
run.json: hashes, versions, sizes, times, and the training loss, which the course's code meant to log and did not. The
evaluation set of MNLI is the matched one.

Nothing is left out: a folder without results, a CSV in another place, a name or a number that is not as expected stops the
import before anything is written, with all problems told. `results_version` is that of the code that imports, so after it is
raised the folders are imported again.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import lora
from lora import files, run_record
from lora.columns import METRICS_COLUMNS
from lora.errors import ConfigError, shown
from lora.experiment import registry
from lora.experiment.cell import WEIGHT_TYPES, Cell
from lora.experiment.hparams import Hparams, parse_setting, run_settings
from lora.experiment.task import Task

FILE = "training_results.csv"
PROTOCOL = "course-as-run"
MODEL = "roberta-base"
LAYERS, WIDTH = 12, 768
FROZEN = 124_055_040  # parameters of RoBERTa-base without its pooler
COLUMNS = {  # of its CSV -> of ours; F1, precision and recall are of class 1, and macro averages for MNLI, as here
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
MODULES = {
    "query": "q",
    "key": "k",
    "value": "v",
    "dense": "o",
    "output": "o",
}  # dense is attention.output.dense
OF_SEEDS = re.compile(
    r"(?P<task>[a-z0-9]+)_r(?P<rank>\d+)_a(?P<alpha>\d+(?:\.\d+)?)_s(?P<seed>\d+)"
)
OF_RANKS = re.compile(r"r(?P<rank>\d+)_(?P<modules>[a-z_]+)")
UNKNOWN = ""  # also of numbers: null would say that the key is lacking


@dataclass(frozen=True)
class Imported:
    """One run as it was found: where, what it is, and its epochs as rows of records.METRICS_COLUMNS."""

    path: Path
    cell: Cell
    seed: int
    hparams: Hparams
    rows: list[dict]


def read_results(folder: Path, output_dir: Path, default_seed: int | None = None, default_alpha: str | None = None,
                 protocol: str = PROTOCOL) -> list[Path]:  # fmt: skip
    """Write every run under `folder` to OUTPUT_DIR/runs/<cell>/seed<n>/, and return those folders.

    `default_seed` and `default_alpha` (a number, or <c>r) are of the runs whose names say neither. Raises Problems that name
    file and line of everything wrong, and then nothing is written; a run folder that is there already is never replaced.
    """
    folder, output_dir = Path(folder), Path(output_dir)
    paths = sorted(
        {*folder.rglob("*.csv"), *(run / FILE for run in folder.glob("*/*") if run.is_dir())}
    )
    if not paths:
        raise ValueError(f"no <task>/<run>/{FILE} under {folder}; give the course's folder results")
    tasks, hparam_rows = registry.read_tasks(), registry.read_rows("hparams.csv")
    problems, found = [], {}
    for path in paths:
        try:
            _check_place(path, folder, tasks)
        except ConfigError as error:
            problems += error.problems
            continue
        rows, wrong = _rows(path)
        try:
            task = tasks[path.parent.parent.name]
            cell, seed, hparams = _identity(
                path, task, default_seed, default_alpha, protocol, hparam_rows
            )
        except ConfigError as error:
            problems += wrong + error.problems
            continue
        if not wrong and len(rows) != hparams.epochs:
            wrong.append(
                f"{path}: {len(rows)} epochs, {hparams.epochs} in protocol {protocol} (config/hparams.csv)"
            )
        target = output_dir / "runs" / cell.path / f"seed{seed}"
        if target in found:
            wrong.append(f"{path}: the same run as {found[target].path}; keep one")
        elif target.exists():
            wrong.append(
                f"{path}: {target} is there already; delete it, or give another output folder"
            )
        found.setdefault(target, Imported(path, cell, seed, hparams, rows))
        problems += wrong
    if problems:
        raise ConfigError(f"{folder} cannot be imported:", problems)
    for target, run in found.items():
        run_record.write_run(target, _record(run, tasks[run.cell.task], folder), run.rows)
    return list(found)


def _wrong(path: Path, *problems: str) -> ConfigError:
    return ConfigError(str(path), [f"{path}: {problem}" for problem in problems])


def _check_place(path: Path, folder: Path, tasks: dict[str, Task]) -> None:
    """Raises Problems where a file is not the results of a run of a task that is known."""
    parts = path.relative_to(folder).parts
    if len(parts) != 3 or path.name != FILE:
        raise _wrong(path, f"a CSV that is no run's; allowed: {folder}/<task>/<run>/{FILE}")
    if not path.is_file():
        raise _wrong(path.parent, f"no {FILE}; a run without results must not be there")
    if parts[0] not in tasks:
        raise _wrong(path, f"task {parts[0]!r} is not known; allowed: {', '.join(tasks)}")
    metric = tasks[parts[0]].metric
    if metric not in COLUMNS.values():
        raise _wrong(
            path, f"the metric of {parts[0]} is {metric}, which the course's code does not record"
        )


def _identity(path: Path, task: Task, default_seed: int | None, default_alpha: str | None, protocol: str,
              hparam_rows: list[dict]) -> tuple[Cell, int, Hparams]:  # fmt: skip
    """(cell, seed, hyperparameters) of a run by its folder's name; raises Problems."""
    name, problems = path.parent.name, []
    of_seeds, of_ranks = OF_SEEDS.fullmatch(name), OF_RANKS.fullmatch(name)
    if of_seeds:
        weights, rank, seed, alpha = (
            "qv",
            of_seeds["rank"],
            int(of_seeds["seed"]),
            of_seeds["alpha"],
        )
        if of_seeds["task"] != task.name:
            problems.append(
                f"the folder's name says {of_seeds['task']!r}, it lies under {task.name!r}"
            )
    elif of_ranks:
        modules = of_ranks["modules"].split("_")
        weights = "".join(
            letter
            for letter in WEIGHT_TYPES
            if letter in [MODULES.get(module) for module in modules]
        )
        if len(weights) != len(modules):
            allowed = "query, key, value, and dense or output, each once"
            problems.append(
                f"the folder's name says modules {', '.join(modules)}; allowed: {allowed}"
            )
        rank, seed, alpha = of_ranks["rank"], default_seed, default_alpha
        for what, value in (("seed", seed), ("alpha", alpha)):
            if value is None:
                problems.append(f"the folder's name says no {what}; give the one of such runs")
    else:
        problems.append(
            f"the folder's name is {name!r}; allowed: <task>_r<rank>_a<alpha>_s<seed>, or r<rank>_<modules> with modules of "
            f"{', '.join(MODULES)}"
        )
    if problems:
        raise _wrong(path, *problems)
    try:
        cell = Cell(MODEL, task.name, "lora", weights, int(rank), protocol)
        hparams = registry.resolve(hparam_rows, cell, {})
        alpha = parse_setting("alpha", alpha, cell.rank)
    except ConfigError as error:
        raise _wrong(path, *error.problems) from None
    except ValueError as error:
        raise _wrong(path, str(error)) from None
    if alpha != hparams.alpha:
        by = "by the folder's name" if of_seeds else "as given"
        theirs = f"{hparams.alpha:g} in protocol {protocol} (config/hparams.csv)"
        raise _wrong(path, f"alpha is {alpha:g} {by}, {theirs}; both must say the same")
    return cell, seed, hparams


def _rows(path: Path) -> tuple[list[dict], list[str]]:
    """The epochs of a run as rows of records.METRICS_COLUMNS, and what is wrong with them, with its line."""
    try:
        (_, header), *lines = files.read_rows(path) or [(1, [])]
    except ValueError as error:
        return [], [str(error)]
    if sorted(header) != sorted(COLUMNS):
        return [], [
            f"{path}, line 1: columns {', '.join(header)[:200] or 'none'}; expected {', '.join(COLUMNS)}"
        ]
    rows, problems, steps = [], [], 0
    for number, (_, line) in enumerate(lines, start=2):
        if len(line) != len(header):
            problems.append(f"{path}, line {number}: {len(line)} cells; expected {len(header)}")
            continue
        row, wrong = _row(dict(zip(header, line, strict=True)))
        rows.append(row)
        if not wrong and row["epoch"] != number - 1:
            wrong.append(
                f"epoch {row['epoch']}; expected {number - 1}, as each is there once and in order"
            )
        if not wrong and row["step"] <= steps:
            wrong.append(f"step {row['step']} after {steps}; expected that steps rise")
        steps = row["step"]
        problems += [f"{path}, line {number}: {problem}" for problem in wrong]
    return rows, problems


def _row(cells: dict[str, str]) -> tuple[dict, list[str]]:
    """One epoch as a row of ours, and what is wrong with its numbers."""
    row, problems = dict.fromkeys(METRICS_COLUMNS, math.nan) | dict(status="ok"), []
    for name, text in cells.items():
        try:
            value = float(text) if text.strip() else math.nan
        except ValueError:
            problems.append(f"{name} is {shown(text)}; allowed: a number")
            continue
        if name in ("Epoch", "Step"):
            if not value.is_integer() or value < 1:
                problems.append(f"{name} is {shown(text)}; allowed: a whole number of at least 1")
                continue
            value = int(value)
        elif name == "Training Loss" and not text.strip():
            pass
        elif not math.isfinite(value):
            problems.append(f"{name} is {shown(text)}; allowed: a finite number")
        elif name in FRACTIONS and not 0 <= value <= 1:
            hint = "; it looks like per cent, divide it by 100" if 1 < value <= 100 else ""
            problems.append(f"{name} is {text}; allowed: a fraction, 0 to 1{hint}")
        row[COLUMNS[name]] = value
    return row, problems


def _record(run: Imported, task: Task, folder: Path) -> dict:
    """run.json of an imported run: what is known of it, UNKNOWN for the rest; see records.RUN_JSON_KEYS."""
    best = max(run.rows, key=lambda row: row[task.metric])  # the earliest of equals
    head = (
        WIDTH * (WIDTH + 1) + task.num_labels * (WIDTH + 1) if run.hparams.head == "trained" else 0
    )
    sizes = dict.fromkeys(("train_examples", "train_tokens", "eval_examples"), UNKNOWN)
    return dict(
        settings=run_settings(run.cell, run.seed, run.hparams),
        digest=UNKNOWN,
        results_version=lora.RESULTS_VERSION,
        status="ok",
        parameters=dict(
            trainable=2 * LAYERS * WIDTH * len(run.cell.weights) * run.cell.rank,
            head=head,
            frozen=FROZEN,
        ),
        data=sizes
        | dict(
            source=f"imported from {run.path.relative_to(folder).as_posix()}", tokens_sha256=UNKNOWN
        ),
        base=dict(source=f"{MODEL}, revision unknown", base_sha256=UNKNOWN, family="roberta"),
        start=None,
        best=dict(epoch=best["epoch"], metric=task.metric, value=best[task.metric]),
        speed=dict(wall_s=UNKNOWN, examples_per_s=UNKNOWN, pack=1),
        versions=dict.fromkeys(("python", "torch", "transformers", "lora"), UNKNOWN),
        precision="fp32",  # its code asks for no other
        device="unknown",
        commit=UNKNOWN,
        finished=UNKNOWN,
    )
