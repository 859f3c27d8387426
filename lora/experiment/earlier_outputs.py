"""Check that a run does not replace another run in its output folder.

`lora train` for one cell writes where the user says, so a wrong folder could lose a finished run.
The settings are compared before anything is fetched, and the digest as soon as data and model are
known. A job of the workflow is not checked: Snakemake decides which outputs to make again, and has
deleted them when the job starts.
"""

import json
from collections.abc import Sequence

import lora
from lora import paths, run_record
from lora.errors import ConfigError, shown
from lora.experiment.cell import BASE_METHODS
from lora.experiment.run_spec import RunSpec
from lora.experiment.verify import flat_settings
from lora.run_record import RunRecord

TITLE = (
    "The output folder has another run, which would be lost. Choose another --output-dir, or add "
    "--overwrite to replace the run:"
)
NOT_RECORDED = "not recorded"


def check_settings(specs: Sequence[RunSpec], precision: str) -> None:
    """Check that the runs in the output folders, if any, have these settings.

    Args:
        specs: The runs to train.
        precision: Of the frozen base; `auto` fits any.

    Raises:
        ConfigError: Names every folder and setting that differs, with its old and new value.
    """
    problems = []
    for spec in specs:
        path = spec.output_dir / paths.RUN_JSON
        try:
            record = read_record(spec)
        except ValueError as error:
            problems.append(f"{path} is damaged, so it is unknown which run it is: {error}")
            continue
        if record is not None:
            problems += [
                f"{path}: {difference}" for difference in _differences(record, spec, precision)
            ]
        elif (spec.output_dir / paths.METRICS).exists():
            problems.append(
                f"{spec.output_dir} has a {paths.METRICS} without {paths.RUN_JSON}, so it is "
                "unknown which run it is of"
            )
    if problems:
        raise ConfigError(TITLE, problems)


def read_record(spec: RunSpec) -> RunRecord | None:
    """Return the run.json in a run's output folder; None if there is none.

    Raises:
        ValueError: If it is damaged.
    """
    path = spec.output_dir / paths.RUN_JSON
    if not path.exists():
        return None
    record = run_record.read(path, "it can't be read", run_record.IDENTITY)
    if record.altered:
        raise ValueError("its checksum does not fit")
    return record


def has_another(spec: RunSpec, digest: str) -> bool:
    """Return whether a run's output folder has a run.json that is not of this digest."""
    try:
        record = read_record(spec)
    except ValueError:
        return True
    return record is not None and record.digest != digest


def digest_problems(
    spec: RunSpec, digests: Sequence[str], inputs: dict[str, str], has_checkpoint: bool
) -> list[str]:
    """Return why the run in a run's output folder is another one, one line each.

    Args:
        spec: The run to train. Its settings were checked.
        digests: The digests that it may have.
        inputs: Keys of run.json that are part of the digest, with the values of this run.
        has_checkpoint: Whether a checkpoint of this run exists. Then an adapter without run.json is
            its own: a job was killed while it wrote its outputs.
    """
    record, folder = read_record(spec), spec.output_dir
    if record is None:
        has_adapter = (folder / paths.ADAPTER).exists()
        return (
            [f"{folder / paths.ADAPTER} is not of this run: there is no {paths.RUN_JSON}"]
            if has_adapter and not has_checkpoint
            else []
        )
    if record.digest in digests:
        return []
    lines = [
        f"{folder / paths.RUN_JSON}: {key} is {record.get(key) or NOT_RECORDED}, now {value}"
        for key, value in inputs.items()
        if (record.get(key) or "") != value
    ]
    digest = record.digest or NOT_RECORDED
    return lines or [f"{folder / paths.RUN_JSON}: digest is {digest}, now {digests[0]}"]


def _differences(record: RunRecord, spec: RunSpec, precision: str) -> list[str]:
    """Return the settings of a run that differ from those of an earlier one."""
    before = flat_settings(record.settings.model_dump(exclude_unset=True))
    now = flat_settings(json.loads(json.dumps(spec.settings)))
    before["results_version"], now["results_version"] = record.results_version, lora.RESULTS_VERSION
    if precision != "auto" and spec.cell.method not in BASE_METHODS:
        before["precision"], now["precision"] = record.base_precision, precision
    return [
        f"{key} is {shown(before.get(key))}, now {shown(now.get(key))}"
        for key in {**now, **before}
        if before.get(key) != now.get(key)
    ]
