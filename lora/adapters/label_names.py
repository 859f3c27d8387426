"""Names of the classes of an adapter, and what a warm start does with its output layer.

labels.json in an adapter folder has the names, class 0 first. The run.json of a run has them too.
Folders of peft and runs of earlier versions have neither: then the names are unknown.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from lora import files, paths, run_record
from lora.errors import ConfigError, shown
from lora.experiment.run_spec import RunSpec
from lora.experiment.task import check_label_names

log = logging.getLogger(__name__)
FILE = Path(paths.ADAPTER_LABELS).name
OUTPUT_LAYER = ("head.out.weight", "head.out.bias")
ADVICE = 'write {"label_names": ["...", "..."]}, class 0 first, or delete the file'


def write(folder: Path, names: Sequence[str]) -> None:
    """Write labels.json into an adapter folder; no names for regression or unknown names."""
    files.write_json(Path(folder) / FILE, {"label_names": list(names)})


def read(folder: Path) -> tuple[str, ...]:
    """Return the names of an adapter's classes, class 0 first; empty if they are unknown.

    Args:
        folder: The adapter folder. Without names in its labels.json, those of the run.json in its
            parent folder are read.

    Raises:
        ConfigError: If labels.json has no list of names that classes can have.
        ValueError: If labels.json or run.json is damaged.
    """
    path = Path(folder) / FILE
    if path.is_file():
        names = files.read_object(path, ADVICE).get("label_names")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ConfigError(f"{path}:", [f"label_names is {shown(names)}; {ADVICE}"])
        problems = check_label_names(names, max(2, len(names)))
        if problems:
            raise ConfigError(f"{path}:", problems)
        if names:
            return tuple(names)
    record = Path(folder).resolve().parent / paths.RUN_JSON
    if Path(folder).name == Path(paths.ADAPTER).parent.name and record.is_file():
        return tuple(run_record.read(record, "train that run again").data.label_names)
    return ()


def output_rows(theirs: Sequence[str], ours: Sequence[str]) -> tuple[int, ...] | None:
    """Return which rows of another adapter's output layer a run starts from.

    Args:
        theirs: Names of the adapter's classes; empty if unknown.
        ours: Names of the run's classes; empty if unknown.

    Returns:
        For each class of the run, the row of the same name. Empty if the sets of names differ: the
        output layer then starts fresh. None if the rows are taken as they are: equal names, or
        unknown ones. None also for another number of classes, as the shapes already differ.
    """
    if not theirs or not ours or len(theirs) != len(ours) or tuple(theirs) == tuple(ours):
        return None
    if set(theirs) != set(ours):
        return ()
    return tuple(list(theirs).index(name) for name in ours)


def arrange_output_layer(
    found: dict[str, Tensor], folder: Path, theirs: Sequence[str], spec: RunSpec
) -> dict[str, Tensor]:
    """Return an adapter's tensors with an output layer whose rows mean the run's classes.

    The output layer is left out if the classes have other names, and warned about if a name is
    unknown.

    Args:
        found: The adapter's tensors by the names of runs; output layer [classes, D] and [classes].
        folder: Its folder, for the log.
        theirs: Names of its classes; empty if unknown.
        spec: The run that starts from it.
    """
    task, rows = spec.task, output_rows(theirs, spec.task.label_names)
    if rows is None:
        weight = found.get(OUTPUT_LAYER[0])
        if weight is not None and weight.shape[0] == task.num_labels:
            _warn_if_unknown(folder, theirs, spec)
        return found
    if not rows:
        log.info(
            "%s: the output layer starts fresh, because the classes differ: %s in %s, here %s",
            spec.name,
            ", ".join(theirs),
            folder,
            ", ".join(task.label_names),
        )
        return {name: value for name, value in found.items() if name not in OUTPUT_LAYER}
    log.info("%s: rows of the output layer are ordered by the names of the classes", spec.name)
    index = torch.tensor(rows)
    return found | {name: found[name][index] for name in OUTPUT_LAYER if name in found}


def _warn_if_unknown(folder: Path, theirs: Sequence[str], spec: RunSpec) -> None:
    """Warn that an output layer is copied whose classes may have another meaning."""
    task = spec.task
    if task.is_regression:
        log.warning(
            "%s starts with the output layer of %s: its values must have the same meaning and "
            "scale as here",
            spec.name,
            folder,
        )
    elif not theirs:
        log.warning(
            "%s starts with the output layer of %s, class 0 from class 0 and so on: the names of "
            'its classes are unknown. To give them, write %s/%s: {"label_names": ["...", "..."]}',
            spec.name,
            folder,
            folder,
            FILE,
        )
    elif not task.label_names:
        log.warning(
            "%s starts with the output layer of %s, class 0 from class 0 and so on: task %s has no "
            "names of classes. To give them, fill in label_names in config/tasks.csv; there they "
            "are %s",
            spec.name,
            folder,
            task.name,
            " ".join(theirs),
        )
