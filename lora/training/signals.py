"""Handle SIGTERM, SIGUSR1 and SIGINT: save checkpoints after the current step, then exit.

The handler only records the signal. Training checks for it between two steps and between two
batches of an evaluation, where its state is consistent, so it stops at most one step late. A
second signal of the same kind gets the previous handler: a process that hangs can be stopped.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from lora.errors import Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
_received: list[int] = []


@contextlib.contextmanager
def handle_signals() -> Iterator[None]:
    """Record SIGNALS inside the block, for `raise_if_received`.

    Does nothing outside the main thread, where Python can't set signal handlers.
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
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        _received.clear()


def raise_if_received() -> None:
    """Raise Interrupted if a signal arrived since `handle_signals` was entered."""
    if _received:
        raise Interrupted(_received[0])
