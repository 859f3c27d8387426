"""Handle SIGTERM, SIGUSR1, SIGINT and a time limit: save after the current step, then exit.

The handler only records the signal. Training checks for it between two steps and between two
batches of an evaluation, where its state is consistent, so it stops at most one step late. A
second signal of the same kind gets the previous handler: a process that hangs can be stopped.
"""

import contextlib
import math
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from lora.errors import Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGALRM)
MARGIN = 0.05  # of the time limit, in which states are saved
MARGIN_S = (20, 300)  # its smallest and largest value, in seconds; at most half of the limit
_received: list[int] = []


@contextlib.contextmanager
def handle_signals(limit_s: float = math.inf) -> Iterator[None]:
    """Record SIGNALS inside the block, for `raise_if_received`.

    Does nothing outside the main thread, where Python can't set signal handlers.

    Args:
        limit_s: Time limit in seconds from now. A timer sends SIGALRM before it is reached.
    """
    _received.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.getsignal(number) for number in SIGNALS}

    def record(number: int, frame: FrameType | None) -> None:
        _received.append(number)
        signal.signal(number, previous[signal.Signals(number)])

    for number in SIGNALS:
        signal.signal(number, record)
    if limit_s < math.inf:
        signal.setitimer(signal.ITIMER_REAL, limit_s - margin(limit_s))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in previous.items():
            signal.signal(number, handler)
        _received.clear()


def margin(limit_s: float) -> float:
    """Return how many seconds before its time limit a job saves and stops."""
    smallest, largest = MARGIN_S
    return min(max(smallest, MARGIN * limit_s), largest, limit_s / 2)


def raise_if_received() -> None:
    """Raise Interrupted if a signal arrived since `handle_signals` was entered."""
    if _received:
        raise Interrupted(_received[0])
