"""Outputs of a finished run: adapter/, run.json and metrics.csv.

run.json records what the numbers depend on (versions, hashes, device, commit). metrics.csv is
written last, so a run that has one has all of its outputs.
"""

import math
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

import lora
from lora import checkout, files, paths, run_record
from lora.adapters import base_reference, card, label_names, peft_folder
from lora.experiment import kept_outputs, versions
from lora.model.tensor_files import save_tensors
from lora.run_record import (
    Base,
    Best,
    Data,
    Parameters,
    RunRecord,
    Settings,
    Speed,
    Start,
    Versions,
)
from lora.training import run_state
from lora.training.device import device_name, peak_device_bytes, peak_host_bytes
from lora.training.run_state import RunState


def build_record(run: RunState, base: Base, device: torch.device, pack_size: int) -> RunRecord:
    """Return the run.json of a finished run; `RunRecord` describes its keys.

    Args:
        run: The finished run.
        base: The base model, as run.json records it.
        device: The device it trained on.
        pack_size: The number of runs trained together.
    """
    import transformers

    task, start, train_examples = run.spec.task, run.start, len(run.tokens["train"])
    best = float(run.rows[run.best_epoch - 1][task.metric]) if run.best_epoch else math.nan
    return RunRecord(
        settings=Settings.model_validate(run.spec.settings),
        digest=run.digest,
        results_version=versions.results_version(base.family, run.precision),
        status=str(run.rows[-1]["status"]),
        parameters=Parameters.model_validate(run.counts),
        data=Data(
            source=run.facts.source,
            tokens_sha256=run.facts.sha256,
            train_examples=train_examples,
            train_tokens=int(run.tokens["train"].lengths.sum()),
            eval_examples=len(run.tokens[task.eval_splits[0]]),
            label_counts={} if task.is_regression else _label_counts(run),
            read_counts={
                split: facts.read_counts | {"truncated": facts.truncated}
                for split, facts in run.facts.splits.items()
                if facts.read_counts is not None
            },
            made_splits={
                split: facts.made for split, facts in run.facts.splits.items() if facts.made
            },
            label_names=list(task.label_names),
        ),
        base=base,
        start=None
        if start is None
        else Start(source=start.source, sha256=start.sha256, frozen_biases=start.bias),
        best=Best(
            epoch=run.best_epoch, metric=task.metric, value=None if math.isnan(best) else best
        ),
        speed=Speed(
            wall_s=round(run.wall_s, 3),
            examples_per_s=round(run.epoch * train_examples / max(run.wall_s, 1e-9), 1),
            pack=pack_size,
            peak_host_bytes=peak_host_bytes(),
            peak_device_bytes=peak_device_bytes(device),
        ),
        versions=Versions(
            python=platform.python_version(),
            torch=torch.__version__,
            transformers=transformers.__version__,
            lora=lora.__version__,
        ),
        precision=run.precision,
        device=device_name(device),
        commit=checkout.commit(),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _label_counts(run: RunState) -> dict[str, dict[str, int]]:
    """Return the number of examples of each label in each evaluation set of a run."""
    counts = {}
    for split in run.spec.task.eval_splits:
        labels, numbers = np.unique(run.tokens[split].labels.astype(int), return_counts=True)
        counts[split] = {
            str(label): int(number) for label, number in zip(labels, numbers, strict=True)
        }
    return counts


def restore(run: RunState, state_dir: Path) -> bool:
    """Write the outputs of a run that has a finished checkpoint.

    Returns:
        Whether there was such a checkpoint.
    """
    saved = run_state.load_finished(run, state_dir)
    if saved is None:
        return False
    where = f"The checkpoint of {run.spec.name} in {state_dir} is not valid; delete it:"
    # The names of protocol, model, task and classes are not part of the digest, so they may be new.
    record = run_record.parse(saved | dict(settings=run.spec.settings), where)
    write_outputs(run, _with_label_names(record, run.spec.task.label_names))
    return True


def describe(run: RunState) -> None:
    """Write labels.json and README.md of a finished run's adapter if they are not there.

    Runs of earlier versions have none. If the task has other names of classes than run.json, which
    do not change the digest, all three files get the new names.
    """
    path = Path(run.spec.output_dir) / paths.RUN_JSON
    record, names = run_record.read(path, "train the run again"), run.spec.task.label_names
    renamed = record.data.label_names not in ([], list(names))
    if renamed:
        record = _with_label_names(record, names)
        files.write_json(path, files.with_checksum(record.as_json() | {"files": record.files}))
    there = ((path.parent / name).is_file() for name in kept_outputs.DESCRIPTIONS)
    if renamed or not all(there):
        _write_descriptions(run, record)


def _with_label_names(record: RunRecord, names: Sequence[str]) -> RunRecord:
    data = record.data.model_copy(update={"label_names": list(names)})
    return record.model_copy(update={"data": data})


def _write_descriptions(run: RunState, record: RunRecord) -> None:
    folder, task = Path(run.spec.output_dir), run.spec.task
    base = base_reference.of_folder(run.model_dir)
    label_names.write(folder / "adapter", task.label_names)
    files.write_text(folder / paths.ADAPTER_CARD, card.text(record, task, base))


def write_outputs(run: RunState, record: RunRecord) -> None:
    """Write the run's adapter/, run.json with the hashes of the other files, and metrics.csv.

    A run that failed in its first epoch has no tensors: its adapter_model.safetensors is empty.
    """
    cell, folder = run.spec.cell, Path(run.spec.output_dir)
    adapter, family = folder / "adapter", record.base.family
    base = base_reference.of_folder(run.model_dir)
    for part in (folder, adapter):
        files.remove_temporary_files(part)
    if cell.method == "lora":
        peft_folder.write_adapter(
            adapter,
            run.best,
            family,
            base.name_or_path,
            cell.weights,
            cell.rank,
            run.spec.hparams.alpha,
            run.spec.hparams.lora_dropout,
            base.revision,
        )
    else:
        save_tensors(adapter / peft_folder.TENSORS, run.best)
        config = dict(method=cell.method, weights=cell.weights, rank=cell.rank, model=cell.model)
        files.write_json(adapter / peft_folder.CONFIG, config | dict(family=family))
    _write_descriptions(run, record)
    run_record.write_run(folder, record, run.rows, f"adapter/{peft_folder.TENSORS}")
