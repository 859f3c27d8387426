"""What a run starts from when it does not start from the pre-trained model alone: another run's adapter, or a PEFT folder.

The paper starts MRPC, RTE and STS-B from its best MNLI adapter (Sec. 5.2, App. D.1): LoRA pairs and the head's dense layer
carry over, the output layer cannot, as it has another number of classes. The best of several runs is the one with the
highest best metric. The tensors' hash is part of a run's digest, the place they were found at is not.
"""

import logging
import math
from dataclasses import dataclass
from pathlib import Path

import torch

from lora import files, run_record
from lora.adapters import peft_folder
from lora.adapters.peft_folder import TENSORS
from lora.errors import ConfigError
from lora.experiment.hparams import PRETRAINED

log = logging.getLogger(__name__)
RETRAIN = "train that run again"


@dataclass(frozen=True)
class Start:
    """What a run starts from in place of the protocol's own initial values: a folder, what it is, and its tensors' hash."""

    folder: Path
    source: str
    sha256: str


def start_of(asked) -> Start | None:
    """What a run (`runs.Asked`) starts from; None for the pre-trained model. Of several runs the one with the highest best
    metric, the first of equals. Raises ValueError where there is none to start from."""
    start = asked.hparams.start
    if start in (
        PRETRAINED,
        asked.task.name,
    ):  # the task that others start from does not start from itself
        return None
    if asked.hparams.start_task is None:
        folder = Path(start)
        if not (folder / TENSORS).is_file():
            raise ValueError(
                f"start is {start!r}, but there is no {TENSORS} in it; give a PEFT folder"
            )
        return Start(folder, "a PEFT folder", files.file_sha256(folder / TENSORS))
    best, found = -math.inf, None
    for folder in asked.start_dirs:
        record = run_record.read(folder / "run.json", RETRAIN, ("best", *run_record.IDENTITY))
        files.verify_checksum(record, folder / "run.json", RETRAIN)
        value = record["best"].get("value")
        if value is not None and value > best:
            best, found = value, (folder, record)
    if found is None:
        looked = ", ".join(map(str, asked.start_dirs)) or "no folder"
        raise ValueError(
            f"{asked.task.name} starts from the best run of {start}, but none has a finite metric (looked at: {looked}); "
            f"see why they failed, or set start: {PRETRAINED}"
        )
    folder, record = found
    settings, tensors = record["settings"], folder / "adapter" / TENSORS
    if files.differs_from(tensors, (record.get("files") or {}).get(f"adapter/{TENSORS}")):
        raise ValueError(
            f"{tensors} is not as it was written: run.json has another sha256 of it; {RETRAIN}"
        )
    source = "/".join([*(settings[key] for key in ("protocol", "model", "task", "method", "weights")),
                       f"r{settings['rank']}", f"seed{settings['seed']}"])  # fmt: skip
    return Start(folder / "adapter", source, files.file_sha256(tensors))


@torch.no_grad()
def begin(run, family: str) -> None:
    """Put what the run starts from into its parameters: all tensors of the same name and shape, which leaves out the output
    layer of a head with another number of classes. Raises ValueError where an adapter's tensor does not fit."""
    if run.start is None:
        return
    problems, left_out = [], []
    if run.method == "lora":
        found, told = peft_folder.read_adapter(run.start.folder, family)
        made_for = Path(
            str(peft_folder.read_config(run.start.folder).get("base_model_name_or_path"))
        ).name
        if made_for not in (run.cell.model, "None"):
            log.warning("%s was made for %s, not for %s: another model's pairs mean nothing", run.start.folder, made_for,
                        run.cell.model)  # fmt: skip
        if told["alpha"] / told["rank"] != run.hparams.alpha / run.cell.rank:
            problems.append(
                f"alpha/r: got {told['alpha']:g}/{told['rank']}, expected {run.hparams.alpha:g}/{run.cell.rank}; another "
                "scale would make other deltas of the same pairs"
            )
    else:
        found = peft_folder.read_tensors(run.start.folder)
    for name, value in run.parameters.items():
        if name in found and found[name].shape == value.shape:
            value.copy_(found[name])
        elif name.startswith("head.out.") or (
            name not in found and family == "bert" and name.startswith("head.dense.")
        ):
            left_out.append(
                name
            )  # a BERT adapter saved without its pooler leaves the pre-trained one
        else:
            got = list(found[name].shape) if name in found else "nothing"
            problems.append(f"{name}: got {got}, expected {list(value.shape)}")
    if problems:
        raise ConfigError(f"{run.name} cannot start from {run.start.folder}; its weights, rank and model must be the same:",
                       problems)  # fmt: skip
    log.info(
        "%s starts from %s%s",
        run.name,
        run.start.source,
        f", without {', '.join(left_out)}" if left_out else "",
    )
