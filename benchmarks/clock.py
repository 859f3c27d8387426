"""Clock of the training steps, which all ways share."""

import time

import torch


class Clock:
    """Times at which the first step begins, the first step ends and the last step ends.

    Args:
        steps: Number of steps, at least 2.
        device: Kind of device; a GPU is synchronized before each reading.
    """

    def __init__(self, steps: int, device: str):
        self.steps, self.device, self.steps_ended = steps, device, 0
        self.times: list[float] = []

    def _now(self) -> float:
        if self.device != "cpu":
            torch.accelerator.synchronize()
        return time.time()

    def begin_step(self) -> None:
        """Call at the beginning of each step."""
        if not self.times:
            self.times.append(self._now())

    def end_step(self) -> None:
        """Call at the end of each step."""
        self.steps_ended += 1
        if self.steps_ended in (1, self.steps):
            self.times.append(self._now())

    def read(self, started: float) -> dict[str, float]:
        """Return the seconds of start-up, the first step and all later steps.

        Args:
            started: When the process was started, in seconds since the epoch.

        Raises:
            ValueError: If another number of steps was made.
        """
        if self.steps_ended != self.steps or self.steps < 2:
            raise ValueError(
                f"{self.steps_ended} steps were made; expected {self.steps}, at least 2"
            )
        begin, first, last = self.times
        return dict(startup_s=begin - started, first_step_s=first - begin, train_s=last - first)
