"""A running job, its result, and the error for lost data."""

import os
import re
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess

LIMIT_S = 600  # far more than a small job takes
PROCESS_LOCK = threading.Lock()


class Lost(Exception):
    """Data were lost, or a job did not behave as it must."""


@dataclass(frozen=True)
class JobResult:
    """Exit status of a finished job, negative for a signal, and its standard error."""

    status: int
    errors: str

    @property
    def message(self) -> str:
        """The last message of the command; empty if there is none."""
        messages = re.findall(r"^lora \w+: (.*(?:\n  - .*)*)", self.errors, re.M)
        return messages[-1] if messages else ""

    @property
    def resumed(self) -> int:
        """Number of runs that were resumed from a checkpoint, or written from one."""
        texts = (" resumes after epoch ", " is finished: outputs written")
        return sum(self.errors.count(text) for text in texts)


class Job:
    """A running job, whose standard error is read while it runs.

    Jobs are started and polled under one lock: multiprocessing polls all its processes whenever it
    starts one, and two polls at the same time lose an exit status.

    Args:
        process: The process of the job.
        errors: File descriptor of its standard error.
        killed: List to which the job is added if it ends by kill -9.
    """

    def __init__(
        self, process: subprocess.Popen | ForkServerProcess, errors: int, killed: list["Job"]
    ):
        self.process, self._killed = process, killed
        self._parts: list[bytes] = []
        self._reader = threading.Thread(target=self._read, args=[errors], daemon=True)
        self._reader.start()

    def _read(self, errors: int) -> None:
        with open(errors, "rb", closefd=True) as stream:
            self._parts.append(stream.read())

    @property
    def running(self) -> bool:
        return self._status() is None

    def _status(self) -> int | None:
        with PROCESS_LOCK:
            if isinstance(self.process, subprocess.Popen):
                return self.process.poll()
            return self.process.exitcode

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send the job a signal, if it is running."""
        if self.running:
            os.kill(self.process.pid, number)

    def wait(self) -> JobResult:
        """Wait for the job.

        Raises:
            Lost: After LIMIT_S. The job is killed.
        """
        until = time.monotonic() + LIMIT_S
        while self.running:
            if time.monotonic() > until:
                self.kill()
                raise Lost(f"a job hung for {LIMIT_S} s")
            time.sleep(0.005)
        self._reader.join(LIMIT_S)
        if self._status() == -signal.SIGKILL:
            self._killed.append(self)
        return JobResult(self._status(), b"".join(self._parts).decode())
