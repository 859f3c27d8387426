"""Checks of trained runs by their run.json: against the config, and against each other.

A queued job reads the config when it starts, and configs and results are edited and copied. So what
was trained may differ from the config in a setting, the data or the model. Tables refuse such runs
(`differences`, `disagreements`), and `up_to_date` keeps finished jobs from running again. Snakemake
calls it in every job, so it reads neither rows nor tensors.
"""

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from lora import files, paths, run_record
from lora.errors import shown
from lora.experiment import versions
from lora.experiment.cell import BASE_METHODS, Cell
from lora.experiment.grid import Grid
from lora.experiment.source import Source, same_identity
from lora.experiment.task import Task
from lora.run_record import RunRecord

ADAPTER = "adapter/adapter_model.safetensors"  # a key of `files` in run.json
# Key of run.json -> the axes of the runs that must agree in it: otherwise a table would average or
# compare values of unlike runs.
MUST_AGREE = {
    "base.base_sha256": ("model",),
    "data.tokens_sha256": ("model", "task", "max_tokens"),
    "start.sha256": ("cell",),
    "precision": ("cell",),
    "versions.torch": ("cell",),
    "versions.transformers": ("cell",),
}


def differences(record: RunRecord, grid: Grid, cell: Cell, seed: int, precision: str) -> list[str]:
    """Return how a trained run differs from the config, one line per difference.

    Compared are the settings, the version of the method, the precision, and the pinned content of
    data and model.

    Args:
        record: The run's run.json.
        grid: The grid of the config.
        cell: The run's cell.
        seed: The run's seed.
        precision: The config's precision; `auto` accepts any.
    """
    trained = flat_settings(record.settings.model_dump(exclude_unset=True))
    wanted = flat_settings(json.loads(json.dumps(grid.settings(cell, seed))))
    trained["results_version"] = record.results_version
    wanted["results_version"] = versions.results_version(record.base.family, record.base_precision)
    if precision != "auto":
        trained["precision"], wanted["precision"] = record.base_precision, precision
    for key, identity in _identities(grid, cell).items():
        source = record.get(key)
        # A folder may have moved, and imported runs have no identity: only two pins of one kind,
        # hub or pypi, can be compared.
        if isinstance(source, str) and source.split()[:1] == identity.split()[:1] != ["file"]:
            trained[key], wanted[key] = source, identity
    return [
        f"{key} is {shown(trained.get(key))} in run.json, but {wanted.get(key)!r} in the config"
        for key in [*wanted, *(key for key in trained if key not in wanted)]
        if trained.get(key) != wanted.get(key)
    ]


def _identities(grid: Grid, cell: Cell) -> dict[str, str]:
    """Return the identities of a cell's data and model, by their keys in run.json."""
    names = {"data.source": grid.tasks[cell.task].dataset, "base.source": cell.model}
    return {key: grid.sources[name].identity for key, name in names.items()}


def flat_settings(settings: Mapping[str, object]) -> dict[str, object]:
    """Return settings with the hyperparameters as dotted keys, and `start` with one spelling."""
    hparams = settings.get("hparams")
    flat = {key: value for key, value in settings.items() if key != "hparams"}
    if isinstance(hparams, dict):
        flat |= {f"hparams.{key}": value for key, value in hparams.items()}
    start = flat.get("hparams.start")
    if isinstance(start, str) and "/" in start:
        flat["hparams.start"] = os.path.realpath(start)
    return flat


def disagreements(runs: Iterable[tuple[Cell, int, RunRecord]]) -> list[str]:
    """Return what runs that are averaged or compared do not have in common (MUST_AGREE).

    Args:
        runs: Cell, seed and run.json of each run. Of versions, the part after + (the build) does
            not count.

    Returns:
        One line per key of run.json and group of runs.
    """
    groups: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for cell, seed, record in runs:
        max_tokens = record.settings.hparams.get("max_tokens")
        values = asdict(cell) | {"cell": cell.path, "max_tokens": f"t{max_tokens}"}
        for key, axes in MUST_AGREE.items():
            value = record.base_precision if key == "precision" else record.get(key)
            text = str(value or "nothing").partition("+")[0][:12]
            group = groups[key, "/".join(values[axis] for axis in axes)]
            group[text].append(f"{cell.path}/seed{seed}")
    return [
        f"{group}: {key} is "
        + ", ".join(f"{value} in {_some(names)}" for value, names in sorted(values.items()))
        for (key, group), values in groups.items()
        if len(values) > 1
    ]


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} runs ({names[0]} first)"


def up_to_date(
    grid: Grid,
    cell: Cell,
    seeds: Iterable[int],
    runs_dir: Path | str,
    tokens_json: Callable[[Cell], Path | str],
) -> bool:
    """Return whether a cell's runs are complete and as the config has them.

    They then stay so when their inputs (model, tokens, the runs they start from) are made again.

    Args:
        grid: The grid of the config.
        cell: The cell.
        seeds: The seeds that must be there.
        runs_dir: The folder of all runs.
        tokens_json: Gives the path of a cell's tokens.json. A missing file does not count.
    """
    start = grid.start_of(cell)
    if start and not up_to_date(grid, start, grid.seeds, runs_dir, tokens_json):
        return False
    if not prepared_as_in_config(grid, cell, tokens_json(cell)):
        return False
    starts = _records(Path(runs_dir) / start.path, grid.seeds) if start else []
    start_hashes = [record and record.files.get(ADAPTER) for record in starts]
    for seed in seeds:
        folder = Path(paths.run_dir(runs_dir, cell.path, seed))
        record = _record(folder / "run.json")
        if record is None or not (folder / "metrics.csv").is_file():
            return False
        if not _as_in_config(record, grid, cell, seed):
            return False
        if any(start_hashes) and record.get("start.sha256") not in start_hashes:
            return False
        if not _classes_as_in_config(record, starts, grid.tasks[cell.task]):
            return False
    return True


def _classes_as_in_config(
    record: RunRecord, starts: Iterable[RunRecord | None], task: Task
) -> bool:
    """Return whether the names of a run's classes, in their order, are those of the config.

    The names decide which rows of an output layer a run starts from. A run with other names is made
    again: it is only written again, with the new names, if its digest is the same. A run of an
    earlier version has no names. It was trained as if its classes were those of its start.

    Args:
        record: The run's run.json.
        starts: Those of the runs that it may have started from.
        task: Its task.
    """
    names = list(task.label_names)
    if record.data.label_names:
        return record.data.label_names == names
    return not names or all(
        one.data.label_names in ([], names)
        for one in starts
        if one and len(one.data.label_names) == len(names)
    )


def _as_in_config(record: RunRecord, grid: Grid, cell: Cell, seed: int) -> bool:
    """Return whether a run has the config's settings, sources and metric."""
    precision = "auto" if cell.method in BASE_METHODS else grid.config.precision
    if differences(record, grid, cell, seed, precision):
        return False
    if any(
        record.get(key) and not same_identity(str(record.get(key)), identity)
        for key, identity in _identities(grid, cell).items()
    ):
        return False
    return record.get("best.metric") in (None, grid.tasks[cell.task].metric)


def fetched_as_in_config(source: Source, manifest: Path | str) -> bool:
    """Return whether a source's manifest, if there is one, names the config's content."""
    path = Path(manifest)
    try:
        return not path.is_file() or same_identity(
            str(files.read_object(path, "").get("identity")), source.identity
        )
    except ValueError:
        return False


def prepared_as_in_config(grid: Grid, cell: Cell, tokens_json: Path | str) -> bool:
    """Return whether a tokens.json, if there is one, describes the config's data and task."""
    path = Path(tokens_json)
    try:
        tokens = files.read_object(path, "") if path.is_file() else {}
    except ValueError:
        tokens = {}  # the step that uses the file reports it
    task = grid.tasks[cell.task]
    wanted = {
        "source": _identities(grid, cell)["data.source"],
        "num_labels": task.num_labels,
        "format": task.format,
        "text_columns": list(task.text_columns),
        "label_names": list(task.label_names),
    }
    if task.table is not None:
        wanted["table"] = json.loads(json.dumps(asdict(task.table)))
        if not task.table.labels:  # the classes are those of the data
            del wanted["num_labels"], wanted["label_names"]
    splits = {"train", *task.eval_splits}
    source = wanted.pop("source")
    if not same_identity(str(tokens.get("source", source)), str(source)):
        return False
    return set(tokens.get("splits") or splits) == splits and all(
        tokens.get(key, value) == value for key, value in wanted.items()
    )


def _records(folder: Path, seeds: Iterable[int]) -> list[RunRecord | None]:
    return [_record(folder / f"seed{seed}" / "run.json") for seed in seeds]


def _record(path: Path) -> RunRecord | None:
    """Return a run.json; None if it is missing or not valid."""
    try:
        return run_record.read(path, "") if path.is_file() else None
    except ValueError:
        return None
