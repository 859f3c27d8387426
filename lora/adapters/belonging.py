"""Check that an adapter belongs to the run that starts from it, or to the model it is merged into.

Compared are method, weights, rank, layers, scale and the base model. What does not belong together
is refused before data are prepared and before the base model is loaded, by `lora train --start`,
`overrides: {start: ...}` of a config, the best run that a protocol starts from, and `lora merge`.
This module imports no torch.
"""

import functools
import logging
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lora.adapters import adapter_folder, base_identity, peft_header
from lora.adapters.adapter_folder import AdapterFolder
from lora.adapters.base_identity import Identity, Sources
from lora.adapters.peft_checks import Adapter
from lora.errors import ConfigError, shown
from lora.experiment import registry
from lora.experiment.cell import BASE_METHODS, Cell
from lora.experiment.hparams import Hparams
from lora.experiment.run_spec import RunSpec
from lora.model import config as model_config
from lora.model.families.registry import family_of

log = logging.getLogger(__name__)
MERGEABLE = ("lora", *BASE_METHODS)
GIVE_BASE = "give the base model that it was trained on"
# What gives a run its start, for messages: the command line, or a config's overrides or protocol.
OPTION, CONFIG_KEY = "--start", "start (under overrides or protocols in the config)"
# Setting of a run -> how a config sets it.
CONFIG_KEYS = {
    "method": "method: {}",
    "weights": "weights: [{}]",
    "rank": "ranks: [{}]",
    "alpha": "overrides: {{alpha: {}}}",
}


def check_start_folders(
    runs: Iterable[tuple[Cell, Hparams]],
    model_dir: Path | None,
    sources: Sources | None = None,
    given_by: str = OPTION,
) -> None:
    """Check the adapter folders that runs start from, as far as the base model is there.

    Args:
        runs: Cells and their hyperparameters. Those that start from no folder are left out.
        model_dir: Folder of their base model; None if it is not fetched yet.
        sources: Models by name; default: those of sources.csv.
        given_by: OPTION or CONFIG_KEY: what gave the folder, for messages.

    Raises:
        ConfigError: Lists every reason why a run can't start from its folder.
    """
    sources = registry.read_sources() if sources is None else sources
    titles: dict[str, list[str]] = {}
    for cell, hparams in runs:
        if hparams.start_task is None and "/" in hparams.start:
            adapter = adapter_folder.find(hparams.start, given_by)
            base = base_identity.of_run(cell.model, model_dir, sources)
            found = titles.setdefault(f"{given_by} is {hparams.start}, which does not fit:", [])
            found += start_problems(adapter, cell, hparams.alpha, model_dir, given_by)
            found += base_problems(adapter, base, sources)
    for title, problems in titles.items():
        if problems:
            raise ConfigError(title, list(dict.fromkeys(problems)))


def check_start(spec: RunSpec, folder: Path, model_dir: Path, base_sha256: str) -> None:
    """Check that a run can start from an adapter folder; its base model is there.

    Messages name the keys of a config. `check_start_folders` has checked what options gave.

    Raises:
        ConfigError: Lists every reason why it can't.
    """
    adapter, sources = adapter_folder.find(folder, CONFIG_KEY), registry.read_sources()
    base = base_identity.of_run(spec.cell.model, model_dir, sources, base_sha256)
    problems = start_problems(adapter, spec.cell, spec.hparams.alpha, model_dir, CONFIG_KEY)
    problems += base_problems(adapter, base, sources)
    if problems:
        raise ConfigError(f"{spec.name} cannot start from {folder}:", problems)


def check_merge(adapter: AdapterFolder, model_dir: Path) -> None:
    """Check that an adapter can be merged into a base model.

    Raises:
        ValueError: If its method adds layers.
        ConfigError: Lists every reason why it can't.
    """
    if adapter.method not in MERGEABLE:
        raise ValueError(
            f"{adapter.path} is of method {adapter.method!r}, which adds layers that cannot be "
            f"merged; allowed: {', '.join(MERGEABLE)}"
        )
    sources = registry.read_sources()
    _, problems = _describe(adapter, model_config.with_defaults(model_config.read(model_dir)))
    base = base_identity.of_run(Path(model_dir).name, model_dir, sources)
    problems += base_problems(adapter, base, sources)
    if problems:
        raise ConfigError(f"{adapter.path} cannot be merged into {model_dir}:", problems)


def start_problems(
    adapter: AdapterFolder, cell: Cell, alpha: float, model_dir: Path | None, given_by: str
) -> list[str]:
    """Return why a run of `cell` can't start from an adapter, apart from its base model.

    Args:
        adapter: The adapter.
        cell: The cell of the run.
        alpha: alpha of the run.
        model_dir: Folder of its base model; None if it is not fetched yet.
        given_by: OPTION or CONFIG_KEY.
    """
    known = None
    if model_dir is not None:
        known = model_config.with_defaults(model_config.read(model_dir))
    if problems := check_method(adapter, cell, given_by):
        return problems
    described, problems = _describe(adapter, known)
    if described is not None:
        return problems + check_pairs(described, cell, alpha, given_by)
    if cell.method == "lora":
        return problems
    return problems + [
        f"{key}: got {shown(adapter.config.get(key))}, expected {wanted}; "
        f"{_advice(given_by, {key: adapter.config.get(key)})}, or give an adapter of {key} {wanted}"
        for key, wanted in (("weights", cell.weights), ("rank", cell.rank))
        if adapter.config.get(key) != wanted
    ]


def _advice(given_by: str, settings: Mapping[str, object]) -> str:
    """Return what to type to give a run these settings."""
    if given_by == OPTION:
        return "give " + " ".join(f"--{key} {value}" for key, value in settings.items())
    keys = ", ".join(CONFIG_KEYS[key].format(value) for key, value in settings.items())
    return f"set {keys} in the config"


def check_method(adapter: AdapterFolder, cell: Cell, given_by: str) -> list[str]:
    """Return a problem if an adapter is of another method than a run of `cell`."""
    if adapter.method == cell.method:
        return []
    settings: dict[str, object] = {"method": adapter.method}
    if adapter.method != "lora":
        settings["weights"] = adapter.config.get("weights")
        rank = adapter.config.get("rank")
        if rank or given_by == OPTION:  # a config has no ranks of full fine-tuning and BitFit
            settings["rank"] = rank
    return [
        f"method: got {adapter.method}, expected {cell.method}; {_advice(given_by, settings)}, or "
        f"give an adapter of {cell.method}"
    ]


def _describe(
    adapter: AdapterFolder, known: Mapping[str, Any] | None
) -> tuple[Adapter | None, list[str]]:
    """Return the description of a LoRA adapter, and why it does not fit the base model."""
    if adapter.method == "lora":
        try:
            return peft_header.describe_folder(adapter.path, known), []
        except ConfigError as error:
            return None, error.problems
    header = peft_header.read_header(adapter.path)
    if not header:
        return None, ["no tensor is in it; a run that failed in its first epoch has none"]
    if known is None:
        return None, []
    layers_name = re.escape(family_of(known).layers)
    layers = [
        int(match[1])
        for name in header
        if (match := re.match(rf"(?:base\.{layers_name}\.)?(\d+)\.", name))
    ]
    dense = header.get("head.dense.weight")
    facts = {
        "model family": (adapter.config.get("family"), known.get("model_type")),
        "layers": (1 + max(layers, default=-1), known.get("num_hidden_layers")),
        "width": (dense.shape[-1] if dense and dense.shape else None, known.get("hidden_size")),
    }
    return None, [
        f"{what}: got {got}, the base model has {wanted}; {GIVE_BASE}"
        for what, (got, wanted) in facts.items()
        if got is not None and wanted is not None and got != wanted
    ]


def check_pairs(adapter: Adapter, cell: Cell, alpha: float, given_by: str) -> list[str]:
    """Return why a run cannot start with the pairs of a LoRA adapter.

    The weights must be the same, because a run can be given the adapter's. So must alpha/r, unless
    the adapter's scales are those of use_rslora, rank_pattern or alpha_pattern, which no run has.

    Args:
        adapter: The adapter.
        cell: The cell of the run.
        alpha: alpha of the run.
        given_by: OPTION or CONFIG_KEY.
    """
    problems = []
    if adapter.weights != cell.weights:
        problems.append(
            f"weights: got {adapter.weights}, expected {cell.weights}; "
            f"{_advice(given_by, {'weights': adapter.weights})}, or give an adapter of "
            f"{cell.weights}"
        )
    highest = max(pair.rank for pair in adapter.pairs.values())
    if highest > cell.rank:
        problems.append(
            f"rank: got {highest}, expected at most {cell.rank}; "
            f"{_advice(given_by, {'rank': highest})}, or give an adapter of a lower rank"
        )
    plain = all(
        pair == (adapter.rank, adapter.alpha / adapter.rank) for pair in adapter.pairs.values()
    )
    scale = adapter.alpha / adapter.rank
    if plain and not math.isclose(scale, alpha / cell.rank, rel_tol=1e-9):  # 12 digits are enough
        problems.append(
            f"alpha/r: got {adapter.alpha:g}/{adapter.rank}, expected {alpha:g}/{cell.rank}; "
            f"{_advice(given_by, {'alpha': f'{scale * cell.rank:.12g}'})}, because another scale "
            "changes the weight update"
        )
    return problems


def base_problems(adapter: AdapterFolder, base: Identity, sources: Sources) -> list[str]:
    """Return a problem if an adapter is of another base model; warn if it is not known."""
    trained_on = base_identity.of_adapter(adapter, sources)
    same = base_identity.same(trained_on, base)
    if same is None:
        _warn_once(
            f"{adapter.path} was trained on {trained_on.shown}. Whether that is {base.shown} is "
            "not known: nothing in the folder pins it. On another base model the adapter is "
            "meaningless."
        )
    if same is not False:
        return []
    checksums = [text[:12] for text in (trained_on.checksum(), base.checksum()) if text]
    what = f", checksums {' and '.join(checksums)}" if len(checksums) == 2 else ""
    return [
        f"base model: trained on {trained_on.shown}, got {base.shown}{what}; {GIVE_BASE}. If they "
        f"are the same weights, write the right name into base_model_name_or_path of "
        f"{peft_header.CONFIG}"
    ]


@functools.cache
def _warn_once(text: str) -> None:
    log.warning("%s", text)
