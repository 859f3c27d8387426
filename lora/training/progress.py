"""Progress of a job: a tqdm bar on a terminal, a line in the log, and progress.json beside it.

Without a terminal on standard error there is no bar. The log gets a line every LOG_EVERY_S.
"""

import logging
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TextIO

from tqdm import tqdm

from lora.experiment import job_progress
from lora.experiment.job_progress import JobProgress
from lora.training.run_state import RunState

log = logging.getLogger(__name__)
BAR_EVERY_S = 0.2
LOG_EVERY_S = 60.0
BAR_FORMAT = "{desc}  {percentage:3.0f}%|{bar:20}| {rate_noinv_fmt}  {remaining} left"


def of_pack(pack: Sequence[RunState], path: Path | None) -> "Progress":
    """Return the progress of the runs of a pack that are not done.

    Args:
        pack: The runs.
        path: File for the progress; None for no file.
    """
    left = [run for run in pack if not run.done]
    examples = sum((run.spec.hparams.epochs - run.epoch) * len(run.tokens["train"]) for run in left)
    return Progress(_label(left), examples, path=path)


def position(pack: Sequence[RunState]) -> str:
    """Return epoch and step of the first run, and the mean loss and metric of the last epoch."""
    first = pack[0]
    text = f"epoch {first.epoch + 1}/{first.spec.hparams.epochs}"
    text += f"  step {first.step}/{first.total_steps}"
    rows = [run.rows[-1] for run in pack if run.rows]
    metrics = {run.spec.task.metric for run in pack}
    if rows:
        text += f"  loss {fmean(float(row['train_loss']) for row in rows):.3f}"
        if len(metrics) == 1:
            (metric,) = metrics
            text += f"  {metric} {fmean(float(row[metric]) for row in rows):.3f}"
    return text


def _label(pack: Sequence[RunState]) -> str:
    """Return what the runs have in common; a count where they differ."""
    words = []
    for axis, one, several in (
        ("model", "{}", ""),
        ("task", "{}", "{} tasks"),
        ("weights", "{}", "{} weight types"),
        ("rank", "r{}", "{} ranks"),
    ):
        values = {getattr(run.spec.cell, axis) for run in pack}
        words.append(one.format(*values) if len(values) == 1 else several.format(len(values)))
    return " ".join(words)


def clock(seconds: float) -> str:
    """Format a duration as h:mm:ss."""
    minutes, second = divmod(int(seconds + 0.5), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"


class Progress:
    """Progress of the runs of a pack, counted in examples.

    Args:
        label: What is trained.
        total: Examples of all runs together.
        stream: Where the bar is drawn if it is a terminal. Standard error by default.
        path: File for the progress of this job; see `lora.experiment.job_progress`.
    """

    def __init__(
        self, label: str, total: int, stream: TextIO | None = None, path: Path | None = None
    ):
        self.label, self.total, self.done, self.path = label, total, 0, path
        stream = sys.stderr if stream is None else stream
        self.started = self.logged = time.monotonic()
        self.written = -math.inf
        self._bar: tqdm | None = None
        if stream.isatty():
            self._bar = tqdm(
                desc=label,
                total=total,
                unit=" examples",
                file=stream,
                leave=False,
                dynamic_ncols=True,
                mininterval=BAR_EVERY_S,
                miniters=1,
                position=0,
                smoothing=0,  # the mean rate since the start, as in the log
                bar_format=BAR_FORMAT,
            )

    def rate(self) -> float:
        """Return examples per second since the start, all runs together."""
        return self.done / max(time.monotonic() - self.started, 1e-9)

    def show(self, examples: int, position: str) -> None:
        """Count the examples of a step, and show the position if it is time to.

        Args:
            examples: Examples trained since the last call, of all runs together.
            position: Epoch and step, as text.
        """
        self.done += examples
        if self._bar is not None:
            self._bar.set_description_str(f"{self.label}  {position}", refresh=False)
            self._bar.update(examples)
        now, rate = time.monotonic(), self.rate()
        if self.path is not None and now - self.written >= job_progress.WRITE_EVERY_S:
            self.written = now
            found = JobProgress(self.label, position, self.done, self.total, rate, time.time())
            job_progress.write(self.path, found)
        if now - self.logged >= LOG_EVERY_S:
            self.logged = now
            left = clock((self.total - self.done) / rate)
            self.clear()
            log.info("%s  %s  %.0f examples/s  %s left", self.label, position, rate, left)

    def close(self) -> None:
        """Remove the bar and the file: the job ends."""
        self.clear()
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove the bar until the next `show`: before other output, and at the end."""
        if self._bar is not None:
            self._bar.clear()
