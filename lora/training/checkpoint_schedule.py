"""When the runs under way are saved, and how long they have been under way.

All of them every so many seconds and when training is told to stop; a run at the end of its epoch as long as saving has
taken little of the time so far, as the state of a fully fine-tuned model is gigabytes; a finished run always. Seconds are
those of a clock that nobody sets, so that a clock that is moved neither saves too often nor never.
"""

import time
from pathlib import Path

from lora.training import run_state
from lora.training.run_state import RunState

SHARE = 0.02  # of the time so far that saving may have taken for an unfinished run to be saved at the end of its epoch


class CheckpointSchedule:
    """Keeps the states of the runs under way: at the end of an epoch, when asked to, and every `every_s` seconds."""

    def __init__(self, state_dir: Path, every_s: float):
        self.state_dir, self.every_s = state_dir, every_s
        self.left: list[RunState] = []
        self.begun = self.ticked = self.saved = time.monotonic()
        self.spent_s = 0.0  # in saving

    def tick(self) -> None:
        """Add the time since the last tick to the runs under way."""
        elapsed, self.ticked = time.monotonic() - self.ticked, time.monotonic()
        for run in self.left:
            run.wall_s += elapsed

    def end_epoch(self, ended: list[RunState], record_of) -> None:
        """Runs have ended an epoch: those that are finished are saved with their run.json, `record_of(run)`, and written
        out; the others are saved as far as that costs little."""
        self.tick()
        affordable = self.spent_s <= SHARE * (time.monotonic() - self.begun)
        for run in ended:
            record = record_of(run) if run.done else None
            if run.done or affordable:
                self._keep(run, record)
            if run.done:
                run_state.write_outputs(run.asked, run.rows, record, run.best)

    def save(self) -> None:
        """All runs under way."""
        self.tick()
        for run in self.left:
            self._keep(run, None)
        self.saved = time.monotonic()

    def save_if_due(self) -> None:
        if time.monotonic() - self.saved >= self.every_s:
            self.save()

    def _keep(self, run: RunState, record: dict | None) -> None:
        started = time.monotonic()
        run_state.save(run, self.state_dir, record)
        self.spent_s += time.monotonic() - started
