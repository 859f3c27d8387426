"""Command line: one verb per workflow rule. It parses, calls one function and exits.

Errors that a user can mend (ValueError, FetchError, a missing file, a full disk) are one message and exit status 2, all else
is a stack trace; both go to the log file too. Heavy libraries load inside the verb that needs them.
"""

import logging
import os
import sys
from pathlib import Path

from lora import cli
from lora.errors import FetchError, Interrupted

log = logging.getLogger("lora")
SPIN = "10000"  # turns of a waiting thread


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    arguments = cli.parser().parse_args(argv)
    try:
        _log_to(arguments.log)
    except OSError as error:
        print(
            f"lora {arguments.name}: --log cannot be written ({error}); give another path",
            file=sys.stderr,
        )
        return 2
    # Threads spin for some microseconds before they sleep, not for milliseconds: measured on 2 cores, as fast as before when
    # they are alone (a tenth slower on a small model), 7 times as fast beside one other busy process. Read with torch.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN)
    try:
        arguments.verb(arguments)
    except (ValueError, FetchError, OSError, MemoryError) as error:
        log.error("lora %s: %s", arguments.name, _message(error))
        return 2
    except Interrupted as error:
        log.warning("lora %s: %s", arguments.name, error)
        return 128 + error.number
    except Exception:
        log.exception("lora %s stopped", arguments.name)
        return 1
    return 0


def _message(error: Exception) -> str:
    """What to tell of an error: its own words, or, where they are the system's, also what to do."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}; what is there is kept: mend this, then the same command goes on"
    return str(error) or "out of memory"


def _log_to(path: Path | None) -> None:
    """Everything to the log file where there is one, and then only warnings to standard error."""
    console = logging.StreamHandler()
    console.setLevel(logging.WARNING if path else logging.INFO)
    handlers: list[logging.Handler] = [console]
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(path, mode="w", encoding="utf-8"))
    logging.basicConfig(
        level=logging.INFO, handlers=handlers, format="%(asctime)s %(message)s", force=True
    )


if __name__ == "__main__":
    sys.exit(main())
