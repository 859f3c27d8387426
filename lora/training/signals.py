"""Being told to stop: SIGTERM (a queue's time limit, a node that goes down), SIGUSR1 (a queue's warning), Ctrl-C.

The signal only raises a flag; training looks at it between two steps and two passes of an evaluation, where its state is
whole, saves that state and leaves. The cost is a delay of at most one step. A second signal of the same kind acts as if
nobody watched, so that a process that hangs can still be stopped.
"""

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator

from lora.errors import Interrupted

log = logging.getLogger(__name__)
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
_received: list[int] = []


@contextlib.contextmanager
def handle_signals() -> Iterator[None]:
    """Catch the signals while inside; in another thread than the main one, where Python sets no handlers, do nothing."""
    _received.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def note(number: int, frame) -> None:
        _received.append(number)
        signal.signal(number, before[number])

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _received.clear()


def raise_if_received() -> None:
    """Raise Interrupted if a signal came since `watched` began."""
    if _received:
        raise Interrupted(_received[0])
