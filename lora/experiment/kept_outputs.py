"""Outputs of finished runs, kept where Snakemake does not delete them.

Snakemake deletes the outputs of every run of a job before the job starts, also those of runs that
are finished. The workflow therefore links them into the folder of the run's checkpoint first. The
job gets them back if the checkpoint itself was deleted: a finished run is never trained again, and
a killed job loses none.
"""

import json
import os
import shutil
from pathlib import Path

from lora import files, paths, run_record
from lora.experiment.run_spec import RunSpec
from lora.experiment.verify import flat_settings
from lora.run_record import RunRecord

FOLDER = "outputs"  # in the folder of a run's checkpoint
DESCRIPTIONS = (paths.ADAPTER_LABELS, paths.ADAPTER_CARD)  # runs of earlier versions have none
# metrics.csv is last: a run that has one has all of its outputs.
FILES = (paths.ADAPTER_CONFIG, paths.ADAPTER, paths.RUN_JSON, paths.METRICS)


def keep(run_dir: Path | str, state_dir: Path | str) -> None:
    """Keep the outputs of a run beside its checkpoint, if all are there and unchanged.

    The files are hard links where the file system has them, so they take no space.

    Args:
        run_dir: Folder of the run.
        state_dir: Folder of all checkpoints.
    """
    record = _read_whole(Path(run_dir))
    if record is not None and record.digest.isalnum():
        _link_all(Path(run_dir), _folder(state_dir, record.digest))


def restore(spec: RunSpec, digest: str, state_dir: Path | str) -> bool:
    """Put the outputs of a finished run into its folder, unless they are there.

    Args:
        spec: The run.
        digest: Its digest.
        state_dir: Folder of all checkpoints.

    Returns:
        Whether there were whole outputs with this digest and these settings. The settings are
        compared too, as names of protocol, model and task are not part of the digest.
    """
    settings = flat_settings(json.loads(json.dumps(spec.settings)))
    for folder in (Path(spec.output_dir), _folder(state_dir, digest)):
        record = _read_whole(folder)
        if record is None or record.digest != digest:
            continue
        if flat_settings(record.settings.model_dump(exclude_unset=True)) == settings:
            _link_all(folder, Path(spec.output_dir))
            return True
    return False


def _folder(state_dir: Path | str, digest: str) -> Path:
    return Path(paths.checkpoint_dir(state_dir, digest), FOLDER)


def _read_whole(folder: Path) -> RunRecord | None:
    """Return the run.json of a run whose files all have their checksums; otherwise None."""
    try:
        record = run_record.read(folder / paths.RUN_JSON, "", run_record.IDENTITY)
        whole = (folder / paths.ADAPTER_CONFIG).is_file() and all(
            files.file_sha256(folder / name) == record.files.get(name)
            for name in (paths.METRICS, paths.ADAPTER)
        )
    except (OSError, ValueError):
        return None
    return record if whole and not record.altered else None


def _link_all(source: Path, target: Path) -> None:
    for name in (*DESCRIPTIONS, *FILES):
        if name in DESCRIPTIONS and not (source / name).is_file():
            continue
        if (target / name).exists() and os.path.samefile(source / name, target / name):
            continue
        with files.atomic_write(target / name) as temporary:
            temporary.unlink(missing_ok=True)
            try:
                os.link(os.path.realpath(source / name), temporary)
            except OSError:  # another disk, or a file system without hard links
                shutil.copyfile(source / name, temporary)
