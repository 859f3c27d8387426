"""Warm start: load another run's adapter, or a PEFT folder, before training.

The paper starts MRPC, RTE and STS-B from its best MNLI adapter (Sec. 5.2, App. D.1). LoRA pairs and
the head's dense layer carry over; the output layer does not, because it has another number of
classes. With as many classes, `label_names` decides by their names. Of several runs the best one is
that with the highest best metric. The hash of the tensors, and of scales that differ from the
run's, is part of a run's digest, their path is not.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from lora import files, run_record
from lora.adapters import (
    adapter_folder,
    belonging,
    label_names,
    peft_folder,
    peft_header,
    start_values,
)
from lora.adapters.peft_folder import TENSORS
from lora.errors import ConfigError
from lora.experiment.hparams import PRETRAINED
from lora.experiment.run_spec import RunSpec
from lora.run_record import RunRecord

log = logging.getLogger(__name__)
RETRAIN = "train that run again"


@dataclass(frozen=True)
class Start:
    """The adapter that a run starts from.

    Attributes:
        folder: Its folder.
        source: What it is, for run.json and the log.
        sha256: Hash of its adapter_model.safetensors, and of scales in its config that differ from
            the run's.
        label_names: Names of its classes; empty if they are unknown.
        bias: Biases of the base model that it replaces: `none`, `lora_only` or `all`.
    """

    folder: Path
    source: str
    sha256: str
    label_names: tuple[str, ...] = ()
    bias: str = "none"


def find_start(spec: RunSpec) -> Start | None:
    """Return the adapter that a run starts from; None for the pre-trained model.

    Of several runs it is the one with the highest best metric, and the first of equals. The task
    that other tasks start from itself starts from the pre-trained model.

    Raises:
        ValueError: If there is no adapter to start from, or it was changed since it was written.
    """
    start = spec.hparams.start
    if start in (PRETRAINED, spec.task.name):
        return None
    if spec.hparams.start_task is None:
        adapter = adapter_folder.find(start, belonging.CONFIG_KEY)
        folder = adapter.path
        if problems := belonging.check_method(adapter, spec.cell, belonging.CONFIG_KEY):
            raise ConfigError(f"{spec.name} cannot start from {folder}:", problems)
        sha256 = start_values.sha256(folder, spec)
        return _start(folder, "a PEFT folder", sha256, spec)
    folder, record = _best_run(spec)
    tensors = folder / "adapter" / TENSORS
    if files.differs_from(tensors, record.files.get(f"adapter/{TENSORS}")):
        raise ValueError(
            f"{tensors} was changed or damaged: its SHA-256 is not that in run.json; {RETRAIN}"
        )
    run = record.settings
    source = (
        f"{run.protocol}/{run.model}/{run.task}/{run.method}/{run.weights}/r{run.rank}"
        f"/seed{run.seed}"
    )
    return _start(folder / "adapter", source, files.file_sha256(tensors), spec)


def _start(folder: Path, source: str, sha256: str, spec: RunSpec) -> Start:
    """Return a start with the names of its classes and the kind of its biases."""
    bias = "none"
    if spec.cell.method == "lora":
        bias = peft_header.describe_folder(folder).bias
    return Start(folder, source, sha256, label_names.read(folder), bias)


def _best_run(spec: RunSpec) -> tuple[Path, RunRecord]:
    """Return the folder and run.json of the best of the runs in `spec.start_dirs`."""
    best, found = -math.inf, None
    for folder in spec.start_dirs:
        path = folder / "run.json"
        record = run_record.read(path, RETRAIN, ("best", *run_record.IDENTITY))
        if record.altered:
            raise ValueError(f"{path} was changed or damaged: its checksum does not fit; {RETRAIN}")
        value = record.best.value
        if value is not None and value > best:
            best, found = value, (folder, record)
    if found is None:
        looked = ", ".join(map(str, spec.start_dirs)) or "no folder"
        raise ValueError(
            f"{spec.task.name} starts from the best run of {spec.hparams.start}, but none has a "
            f"finite metric (looked in: {looked}); find out why they failed, or set "
            f"overrides: {{start: {PRETRAINED}}} in the config"
        )
    return found


def load_start(start: Start, spec: RunSpec, parameters: Mapping[str, Tensor], family: str) -> None:
    """Copy an adapter into a run's parameters, in place.

    The output layer is left out if its shape or the names of its classes differ, and so is BERT's
    dense layer if the adapter has none: then the pre-trained pooler stays. See `start_values` for
    LoRA pairs.

    Args:
        start: The adapter.
        spec: The run.
        parameters: The run's tensors by name, with their initial values.
        family: Family of the base model, a key of FAMILIES.

    Raises:
        ConfigError: If a tensor or the scale alpha/r does not fit. It names every such tensor.
    """
    title = (
        f"{spec.name} cannot start from {start.folder}; the adapter's model and weights must be "
        "the run's, and its rank at most the run's:"
    )
    notes: list[str] = []
    if spec.cell.method == "lora":
        found, notes = _read_lora(start, spec, parameters, family, title)
    else:
        found = peft_folder.read_tensors(start.folder)
    found = label_names.arrange_output_layer(found, start.folder, start.label_names, spec)
    left_out = start_values.copy(found, parameters, family, title)
    if left_out:
        notes.insert(0, f"without {', '.join(left_out)}")
    log.info("%s", "; ".join([f"{spec.name} starts from {start.source}", *notes]))


def _read_lora(
    start: Start, spec: RunSpec, parameters: Mapping[str, Tensor], family: str, title: str
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors of a LoRA adapter with the run's rank and scale, and what was changed."""
    widths = {name: len(value.T) for name, value in parameters.items() if name.endswith(".a")}
    base = {
        "num_hidden_layers": 1 + max(int(name.split(".")[0]) for name in widths),
        "hidden_size": next(iter(widths.values())),
    }
    tensors, adapter = peft_folder.read_adapter(start.folder, family, base)
    if problems := belonging.check_pairs(
        adapter, spec.cell, spec.hparams.alpha, belonging.CONFIG_KEY
    ):
        raise ConfigError(title, problems)
    return start_values.fitted_to_run(tensors, adapter, parameters, spec.hparams.alpha)
