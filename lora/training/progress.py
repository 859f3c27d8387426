"""Where a long job is: one line that rewrites itself on a terminal, and the same in the log now and then.

Quiet when standard error is not a terminal; the log file keeps a line every `LOG_EVERY_S` and whatever the job logs.
"""

import logging
import sys
import time

log = logging.getLogger(__name__)
LINE_EVERY_S = 0.2
LOG_EVERY_S = 60.0


def clock(seconds: float) -> str:
    """h:mm:ss"""
    minutes, second = divmod(int(seconds + 0.5), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"


class Progress:
    """Counts examples toward `total`; `show` says epoch, step, examples/s and the time left."""

    def __init__(self, label: str, total: int, stream=None):
        self.label, self.total, self.done = label, total, 0
        self.stream = sys.stderr if stream is None else stream
        self.live = self.stream.isatty()
        self.started = self.shown = self.logged = time.monotonic()

    def rate(self) -> float:
        """Examples per second since the start, all runs together."""
        return self.done / max(time.monotonic() - self.started, 1e-9)

    def show(self, examples: int, where: str) -> None:
        self.done += examples
        now = time.monotonic()
        if now - self.shown < LINE_EVERY_S or not (self.live or now - self.logged >= LOG_EVERY_S):
            return
        rate = self.rate()
        line = f"{self.label}  {where}  {rate:.0f} examples/s  {clock((self.total - self.done) / rate)} left"
        self.shown = now
        if self.live:
            self.stream.write(f"\r\x1b[K{line}")
            self.stream.flush()
        if now - self.logged >= LOG_EVERY_S:
            self.logged = now
            log.info(line)

    def clear(self) -> None:
        """Wipe the line, before something else is printed and at the end."""
        if self.live:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
