"""Progress of a running training job: progress.json beside its log.

The job writes it every few seconds and deletes it at its end. `lora status` and the screen of the
workflow read it. A file that is older than STALE_S is from a job that was killed.
"""

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from lora import files

NAME = "progress.json"
WRITE_EVERY_S = 2.0
STALE_S = 300.0


@dataclass(frozen=True)
class JobProgress:
    """How far a job is.

    Attributes:
        label: What it trains.
        position: Epoch, step and latest values, as text.
        done: Trained examples of all its runs.
        total: Examples until its end.
        rate: Examples per second.
        updated: Time of writing, in seconds since 1970.
    """

    label: str
    position: str
    done: int
    total: int
    rate: float
    updated: float

    @property
    def left_s(self) -> float:
        """Seconds until the end of the training, at this rate."""
        return (self.total - self.done) / max(self.rate, 1e-9)


def write(path: Path, progress: JobProgress) -> None:
    """Replace the file. A full disk, say, must not stop a training, so errors are ignored."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(asdict(progress)), encoding="utf-8")
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)


def read(path: Path) -> JobProgress | None:
    """Return what a running job wrote last; None if no job is running."""
    try:
        found = JobProgress(**files.read_object(path, ""))
        age_s = time.time() - found.updated
    except (OSError, ValueError, TypeError):
        return None
    return found if age_s < STALE_S else None
