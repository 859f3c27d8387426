"""When checkpoints are saved, and how long each run has trained.

Every `every_s` seconds, and when training is interrupted, all runs are saved. At the end of an
epoch a run is saved if saving has taken little time so far, because the state of a fully fine-tuned
model is gigabytes. A finished run is always saved. The clock is monotonic: changing the system time
has no effect.
"""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from lora.experiment import earlier_outputs
from lora.run_record import RunRecord
from lora.training import run_outputs, run_state
from lora.training.run_state import RunState

SHARE = 0.02  # of the time so far: what saving may have taken for a save at the end of an epoch


class CheckpointSchedule:
    """Saves the runs in training.

    Args:
        state_dir: Folder of all checkpoints.
        every_s: Seconds between checkpoints within an epoch.
        overwrite: Whether outputs of other runs are replaced.

    Attributes:
        unfinished: The runs in training.
        refused: Folders whose outputs were not written, as another job wrote another run there.
    """

    def __init__(self, state_dir: Path, every_s: float, overwrite: bool = True) -> None:
        self.state_dir, self.every_s, self.overwrite = Path(state_dir), every_s, overwrite
        self.unfinished: list[RunState] = []
        self.refused: list[str] = []
        self._started = self._ticked = self._saved = time.monotonic()
        self._saving_s = 0.0

    def end_epoch(
        self, ended: Iterable[RunState], build_record: Callable[[RunState], RunRecord]
    ) -> None:
        """Save the runs that ended an epoch, and write the outputs of the finished ones.

        Args:
            ended: The runs whose epoch ended.
            build_record: Returns the run.json of a finished run.
        """
        self._tick()
        affordable = self._saving_s <= SHARE * (time.monotonic() - self._started)
        for run in ended:
            if run.done:
                record = build_record(run)
                self._save(run, record)
                if self.overwrite or not earlier_outputs.has_another(run.spec, run.digest):
                    run_outputs.write_outputs(run, record)
                else:
                    self.refused.append(str(run.spec.output_dir))
            elif affordable:
                self._save(run, None)

    def save_all(self) -> None:
        """Save all runs in training."""
        self._tick()
        for run in self.unfinished:
            self._save(run, None)
        self._saved = time.monotonic()

    def save_if_due(self) -> None:
        """Save all runs in training if the last time is `every_s` seconds ago."""
        if time.monotonic() - self._saved >= self.every_s:
            self.save_all()

    def _tick(self) -> None:
        """Add the time since the last call to the runs in training."""
        elapsed, self._ticked = time.monotonic() - self._ticked, time.monotonic()
        for run in self.unfinished:
            run.wall_s += elapsed

    def _save(self, run: RunState, record: RunRecord | None) -> None:
        started = time.monotonic()
        run_state.save(run, self.state_dir, record)
        self._saving_s += time.monotonic() - started
