"""Load a finished run, and predict with it.

The model is the run's base model in the run's precision, with the tensors of its adapter folder:
those after the best epoch. So on the run's own evaluation split the metrics are those of that row
of metrics.csv. That the base model is the one the run was trained on is checked by its hash.

Shapes: n examples, C classes; C is 1 for regression.
"""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lora import files, paths, run_record
from lora.adapters import label_names, peft_folder
from lora.data import fetch, tokens
from lora.data.tokens import Tokens
from lora.errors import ConfigError
from lora.experiment.cell import Cell
from lora.experiment.hparams import HPARAM_NAMES, Hparams, parse_setting
from lora.experiment.task import Task
from lora.model import config as model_config
from lora.model import pretrained
from lora.model.memory import TRAIN_TOKENS
from lora.model.methods import AdapterSpec
from lora.model.packed_model import PackedModel
from lora.run_record import RunRecord, Settings
from lora.training import evaluation
from lora.training.batching import TokenBudget
from lora.training.device import DTYPES, pick_device

log = logging.getLogger(__name__)
AGAIN = "copy the run's folder again, or train the run again"
OUTPUT_LAYER = "head.out.weight"


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A finished run with its model.

    Attributes:
        folder: The run's folder.
        record: Its run.json.
        model_dir: Folder of its base model.
        hparams: Its hyperparameters.
        model: The model, with this run alone.
        num_labels: Number of classes C; 1 for regression.
        label_names: Name of each class, class 0 first; empty for regression or unknown names.
    """

    folder: Path
    record: RunRecord
    model_dir: Path
    hparams: Hparams
    model: PackedModel
    num_labels: int
    label_names: tuple[str, ...]

    def predict(self, examples: Tokens) -> np.ndarray:
        """Return the logits of examples, [n, C], in their order."""
        budget = TokenBudget(TRAIN_TOKENS[self.model.device.type])
        return evaluation.predict(self.model, [0], examples, budget)[0]

    def evaluate(self, task: Task, examples: Tokens) -> dict[str, float]:
        """Return eval_loss and the metrics on labelled examples of a task.

        Args:
            task: Its classes are those of the run, in any order. Classes are matched by name where
                both have names.
            examples: The examples.

        Raises:
            ValueError: If the task has other classes than the run.
        """
        order = self._class_order(task)
        logits = self.predict(examples)
        return evaluation.score(task, logits[:, order], examples.labels)

    def evaluate_splits(self, task: Task, tokens_dir: Path) -> dict[str, dict[str, float]]:
        """Return the number of examples, eval_loss and metrics on each evaluation split of a task.

        Args:
            task: See `evaluate`. Metrics that do not apply to it are left out.
            tokens_dir: Folder that `lora.data.prepare` wrote, with the run's max_tokens.

        Raises:
            ValueError: If the task has other classes than the run.
            ConfigError: If the tokens are not those of the task and the model.
        """
        facts = tokens.read_facts(tokens_dir)
        splits = tokens.load(tokens_dir, facts)
        if task.table is not None:
            task = task.with_labels(facts.label_names)
        problems = [
            f"{what}: got {got}, expected {expected}; prepare the tokens again"
            for what, got, expected in (
                ("task", facts.task, task.name),
                ("number of classes", facts.num_labels, task.num_labels),
                ("max_tokens", facts.max_tokens, self.hparams.max_tokens),
            )
            if got != expected
        ]
        problems += tokens.misfits(splits, self.model.base.config.to_dict())
        if problems:
            raise ConfigError(f"{tokens_dir} does not fit {self.folder}:", problems)
        found = {}
        for name in task.eval_splits:
            values = self.evaluate(task, splits[name])
            kept = {key: value for key, value in values.items() if not math.isnan(value)}
            found[name] = {"examples": len(splits[name]), **kept}
        return found

    def _class_order(self, task: Task) -> list[int]:
        """Return the run's class for each class of a task."""
        unchanged = list(range(self.num_labels))
        ours = ", ".join(self.label_names) or _count(self.num_labels)
        theirs = ", ".join(task.label_names) or _count(task.num_labels)
        rows = label_names.output_rows(self.label_names, task.label_names)
        if task.num_labels != self.num_labels or rows == ():
            raise ValueError(
                f"{self.folder} predicts {ours}, and task {task.name} has {theirs}; give a task "
                "with the classes of the run"
            )
        unnamed = not self.label_names or not task.label_names
        if unnamed and self.num_labels > 1 and self.record.settings.task != task.name:
            log.warning(
                "class 0 of %s is taken as class 0 of task %s and so on, because the names of the "
                "classes are not known on both sides (%s; %s)",
                self.folder,
                task.name,
                ours,
                theirs,
            )
        return unchanged if rows is None else list(rows)


def load(folder: Path, model_dir: Path | None = None, device: str = "auto") -> TrainedRun:
    """Load a finished run.

    Args:
        folder: The run's folder, with run.json and adapter/.
        model_dir: Folder of the base model. Without it, the folder that the adapter names, or
            sources/<model> of the results folder that the run is in.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        ValueError: If there is no whole run, it failed in its first epoch, or there is no base
            model.
        ConfigError: If the base model is another one than the run's, or a tensor does not fit.
    """
    folder = Path(folder)
    record = _read_record(folder)
    adapter = folder / paths.ADAPTER
    tensors = peft_folder.read_tensors(adapter.parent)
    if not tensors:
        raise ValueError(f"{folder}: the run failed in its first epoch, so it has no adapter")
    model_dir = Path(model_dir) if model_dir is not None else _find_model(folder, record)
    if fetch.base_sha256(model_dir) != record.base.base_sha256:
        raise ConfigError(
            f"{folder} cannot be used with the base model {model_dir}:",
            [
                f"base model: the run was trained on {record.base.source or 'another one'}, "
                f"checksum {record.base.base_sha256[:12]}; give its folder with --model-dir"
            ],
        )
    settings = record.settings
    cell = Cell(**settings.model_dump(include=set(Cell.__dataclass_fields__)))
    hparams = _read_hparams(folder, settings)
    base = pretrained.load_base(model_dir, DTYPES[record.base_precision])
    bias = "none"
    if cell.method == "lora":
        config = model_config.with_defaults(model_config.read(model_dir))
        tensors, found = peft_folder.read_adapter(adapter.parent, base.config.model_type, config)
        bias = found.bias
    num_labels = len(tensors[OUTPUT_LAYER]) if OUTPUT_LAYER in tensors else 0
    if num_labels < 1:
        raise ValueError(f"{adapter} has no output layer ({OUTPUT_LAYER}); {AGAIN}")
    spec = AdapterSpec(
        seed=settings.seed,
        weights=cell.weights,
        rank=cell.rank,
        num_labels=num_labels,
        hparams=hparams,
        method=cell.method,
        first_layer=cell.first_layer,
        bias=bias,
    )
    model = PackedModel(base, [spec], pick_device(device))
    _copy(tensors, model, adapter)
    names = label_names.read(adapter.parent)
    return TrainedRun(folder, record, model_dir, hparams, model, num_labels, names)


def _read_record(folder: Path) -> RunRecord:
    """Return the run.json of a whole run. Raises ValueError for anything else."""
    if not (folder / paths.RUN_JSON).is_file():
        below = sorted(folder.glob(f"**/{paths.RUN_JSON}")) if folder.is_dir() else []
        hint = f"; the first run below it is {below[0].parent}" if below else ""
        if (folder.parent / paths.RUN_JSON).is_file():
            hint = f"; give {folder.parent}"
        raise ValueError(f"{folder} has no {paths.RUN_JSON}; give the folder of a run{hint}")
    record = run_record.read(
        folder / paths.RUN_JSON, AGAIN, ("base.base_sha256", *run_record.IDENTITY)
    )
    adapter = folder / paths.ADAPTER
    if not adapter.is_file():
        raise ValueError(
            f"{folder} has no {paths.ADAPTER}, which holds what the run learned; {AGAIN}"
        )
    if record.altered or files.differs_from(adapter, record.files.get(paths.ADAPTER)):
        raise ValueError(
            f"{folder}: {paths.ADAPTER} or {paths.RUN_JSON} was changed or damaged: a checksum "
            f"does not fit; {AGAIN}"
        )
    return record


def _read_hparams(folder: Path, settings: Settings) -> Hparams:
    """Return a run's hyperparameters. Raises ValueError if run.json does not have all of them."""
    if set(settings.hparams) != set(HPARAM_NAMES):
        differing = sorted(set(settings.hparams) ^ set(HPARAM_NAMES))
        raise ValueError(
            f"{folder}: run.json has other hyperparameters than this version of lora "
            f"({', '.join(differing)}); use the version that trained it, or train it again"
        )
    values: dict[str, Any] = {
        name: parse_setting(name, value, settings.rank) for name, value in settings.hparams.items()
    }
    return Hparams(**values)


def _find_model(folder: Path, record: RunRecord) -> Path:
    """Return the folder of a run's base model: in its results folder, or named by the adapter."""
    name = record.settings.model
    config = files.read_object(folder / paths.ADAPTER_CONFIG, AGAIN)
    places = [Path(paths.source_dir(parent, name)) for parent in folder.resolve().parents]
    named = config.get("base_model_name_or_path")
    places += [Path(named)] if isinstance(named, str) and Path(named).is_absolute() else []
    for place in places:
        if (place / model_config.NAME).is_file():
            return place
    raise ValueError(
        f"the base model {name} of {folder} is not in the results folder of the run; give its "
        f"folder with --model-dir, or fetch it: lora fetch {name} --output-dir FOLDER"
    )


@torch.no_grad()
def _copy(tensors: dict[str, Tensor], model: PackedModel, adapter: Path) -> None:
    """Copy a run's tensors into its model. Raises ConfigError if one does not fit."""
    parameters = model.parameters_of(0)
    problems = [f"{name}: missing" for name in sorted(parameters.keys() - tensors.keys())]
    problems += [f"{name}: unknown" for name in sorted(tensors.keys() - parameters.keys())]
    for name in sorted(parameters.keys() & tensors.keys()):
        if tensors[name].shape != parameters[name].shape:
            got, expected = list(tensors[name].shape), list(parameters[name].shape)
            problems.append(f"{name}: got {got}, expected {expected}")
        else:
            parameters[name].copy_(tensors[name])
    if problems:
        raise ConfigError(f"{adapter} does not fit the run's settings; {AGAIN}:", problems)


def _count(num_labels: int) -> str:
    return "scores" if num_labels == 1 else f"{num_labels} classes without names"
