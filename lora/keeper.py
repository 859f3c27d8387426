"""When the runs under way are saved, and how long they have been under way.

State is saved at the end of every epoch (`train`), and here within one: every so many seconds, and when training is told to
stop. Seconds are those of a clock that nobody sets, so that a clock that is moved neither saves too often nor never.
"""

import time
from pathlib import Path

from lora import runs
from lora.runs import Run


class Keeper:
    """Keeps the states of the runs under way: when asked to, and every `every_s` seconds within an epoch."""

    def __init__(self, state_dir: Path, every_s: float):
        self.state_dir, self.every_s = state_dir, every_s
        self.left: list[Run] = []
        self.ticked = self.saved = time.monotonic()

    def start(self, left: list[Run]) -> None:
        """These runs are under way, and their states are saved."""
        self.left, self.saved = left, time.monotonic()

    def tick(self) -> None:
        """Add the time since the last tick to the runs under way."""
        elapsed, self.ticked = time.monotonic() - self.ticked, time.monotonic()
        for run in self.left:
            run.wall_s += elapsed

    def save(self, left: list[Run]) -> None:
        self.tick()
        for run in left:
            runs.save(run, self.state_dir, None)
        self.saved = time.monotonic()

    def save_if_due(self) -> None:
        if time.monotonic() - self.saved >= self.every_s:
            self.save(self.left)
