"""Whether runs are what is asked for, and whether they may stand side by side: both told by their run.json alone.

On a cluster a queued job reads the config when it starts, a config is edited between two runs of the workflow, results are
copied: what was trained and what is asked can differ in a setting, in the data or the model. Tables refuse such runs
(`collect`), and only a training job whose runs are all as asked may rest while what it reads is remade (`settled`). Knows
neither rows nor torch: Snakemake asks it in every job.
"""

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import lora
from lora import files, run_record
from lora.errors import shown
from lora.experiment.cell import BASE_METHODS, Cell

ADAPTER = "adapter/adapter_model.safetensors"  # in the files of a run.json
ALIKE = {  # place in run.json -> which runs must agree in it, or figures of unlike runs would be averaged or compared
    "base.base_sha256": ("model",),
    "data.tokens_sha256": ("model", "task", "max_tokens"),
    **dict.fromkeys(
        ("start.sha256", "precision", "versions.torch", "versions.transformers"), ("cell",)
    ),
}


def differences(record: dict, grid, cell: Cell, seed: int, precision: str) -> list[str]:
    """What a run.json says was trained that is not what `grid` asks, one line each: settings, results_version, unless
    `precision` is auto another precision, and data or a model of another pinned content."""
    trained = _flat(record.get("settings") or {}) | dict(
        results_version=record.get("results_version")
    )
    wanted = _flat(json.loads(json.dumps(grid.settings(cell, seed)))) | dict(
        results_version=lora.RESULTS_VERSION
    )
    if precision != "auto":
        trained, wanted = (
            trained | dict(precision=precision_of(record)),
            wanted | dict(precision=precision),
        )
    for place, identity in _identities(grid, cell).items():
        source = run_record.value_at(record, place)
        # A folder may have moved, and runs from elsewhere have no identity: only two pins of one kind can be compared.
        if isinstance(source, str) and source.split()[:1] == identity.split()[:1] != ["file"]:
            trained, wanted = trained | {place: source}, wanted | {place: identity}
    return [
        f"{key} was trained as {shown(trained.get(key))}, asked for is {wanted.get(key)!r}"
        for key in [*wanted, *(key for key in trained if key not in wanted)]
        if trained.get(key) != wanted.get(key)
    ]


def _identities(grid, cell: Cell) -> dict[str, str]:
    """Place in a run.json -> what pins the content of the source that is named there."""
    names = {"data.source": grid.tasks[cell.task].dataset, "base.source": cell.model}
    return {place: grid.sources[name].identity for place, name in names.items()}


def precision_of(record: dict) -> str:
    """What a run was computed in; fp32 where its run.json is older than the choice."""
    return record.get("precision") or "fp32"


def _flat(settings: dict) -> dict:
    hparams = settings.get("hparams") or {}
    return {key: settings[key] for key in settings if key != "hparams"} | {
        f"hparams.{key}": hparams[key] for key in hparams
    }


def unlike(trained: list[tuple[Cell, int, dict]]) -> list[str]:
    """What runs that stand side by side in a table, or are averaged, do not have in common, a line for each place of ALIKE
    and group. `trained` are cells, seeds and run.json. Of versions the part behind + does not count: it names a build."""
    groups = defaultdict(lambda: defaultdict(list))
    for cell, seed, record in trained:
        max_tokens = run_record.value_at(record, "settings.hparams.max_tokens")
        of = asdict(cell) | dict(cell=cell.path, max_tokens=f"t{max_tokens}")
        for place, axes in ALIKE.items():
            value = (
                precision_of(record) if place == "precision" else run_record.value_at(record, place)
            )
            value = str(value or "nothing").partition("+")[0][:12]
            groups[place, "/".join(of[axis] for axis in axes)][value].append(
                f"{cell.path}/seed{seed}"
            )
    return [
        f"{group}: {place} is "
        + ", ".join(f"{value} in {_some(names)}" for value, names in sorted(values.items()))
        for (place, group), values in groups.items()
        if len(values) > 1
    ]


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} runs ({names[0]} first)"


def settled(grid, cell: Cell, seeds, runs_dir: Path, tokens_json: Callable[[Cell], Path]) -> bool:
    """Whether these runs of a cell are all there, are what `grid` asks for, and still will be when what they read or start
    from is made again. `tokens_json` is where the prepared data of a cell are described; what is not there says nothing."""
    start = grid.start_of(cell)
    if start and not settled(grid, start, grid.seeds, runs_dir, tokens_json):
        return False
    if not _prepared_as_asked(grid, cell, Path(tokens_json(cell))):
        return False
    begun = (
        [_read(Path(runs_dir) / start.path / f"seed{seed}" / "run.json") for seed in grid.seeds]
        if start
        else []
    )
    hashes = [(record.get("files") or {}).get(ADAPTER) for record in begun]
    for seed in seeds:
        folder = Path(runs_dir) / cell.path / f"seed{seed}"
        record = _read(folder / "run.json")
        if not record or not (folder / "metrics.csv").is_file():
            return False
        asked = {
            place: identity
            for place, identity in _identities(grid, cell).items()
            if run_record.value_at(record, place)
        }
        if differences(
            record,
            grid,
            cell,
            seed,
            grid.config["precision"] if cell.method not in BASE_METHODS else "auto",
        ):
            return False
        if any(run_record.value_at(record, place) != identity for place, identity in asked.items()):
            return False
        if run_record.value_at(record, "best.metric") not in (None, grid.tasks[cell.task].metric):
            return False
        if any(hashes) and run_record.value_at(record, "start.sha256") not in hashes:
            return False
    return True


def _prepared_as_asked(grid, cell: Cell, path: Path) -> bool:
    tokens, task = _read(path), grid.tasks[cell.task]
    asked = dict(
        source=_identities(grid, cell)["data.source"],
        num_labels=task.num_labels,
        format=task.format,
    )
    asked |= dict(text_columns=list(task.text_columns))
    splits = set(tokens.get("splits") or {"train", *task.eval_splits})
    return splits == {"train", *task.eval_splits} and all(
        tokens.get(key, value) == value for key, value in asked.items()
    )


def _read(path: Path) -> dict:
    """A JSON object, empty where there is none: whoever needs it tells what is wrong with it."""
    try:
        return files.read_object(path, "") if path.is_file() else {}
    except ValueError:
        return {}
