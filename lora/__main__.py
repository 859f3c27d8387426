"""Run the command line: parse, call one function, turn errors into a message and an exit status.

Exit status 2 and one message for errors that a user can fix: bad input, a source that can't be
fetched, a missing file, a full disk, too little memory. 128 plus the signal's number after a
signal. 1 and a stack trace for anything else. All of it goes to the log file too.
"""

import logging
import os
import sys
from pathlib import Path

from lora import checkout, cli
from lora.errors import FetchError, Interrupted
from lora.paths import CONFIG_DIR, CONFIG_DIR_VARIABLE

log = logging.getLogger("lora")
SPIN_COUNT = "10000"  # how often a waiting thread checks before it sleeps


def main(argv: list[str] | None = None) -> int:
    """Run one command and return the exit status.

    Args:
        argv: The arguments without the program's name; those of the process by default.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv:
        argv = ["--help"]
    try:
        checkout.check_rules()  # first: rules of another version may give other arguments
        arguments = cli.parse(argv)  # reads the defaults
    except ValueError as error:
        print(f"lora: error: {error}", file=sys.stderr)
        return 2
    command = f"lora {arguments.name}"
    try:
        _log_to(arguments.log)
    except OSError as error:
        message = f"--log cannot be written ({error}); give another path"
        print(f"{command}: error: {message}", file=sys.stderr)
        return 2
    # Nothing to say where it is the folder that the user sees.
    seen = os.path.isdir("config") and os.path.samefile("config", CONFIG_DIR)
    if arguments.log or CONFIG_DIR_VARIABLE in os.environ or not seen:
        log.info("tables of facts (CSV) are read from %s", CONFIG_DIR)
    # Waiting threads spin for microseconds, not milliseconds. On 2 cores that is as fast as before
    # (a tenth slower on a small model), and 7 times as fast next to one other busy process. torch
    # reads it when it is imported.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    try:
        arguments.run(arguments)
    except (ValueError, FetchError, OSError, MemoryError) as error:
        log.error("%s: error: %s", command, _message(error))
        return 2
    except Interrupted as error:
        log.warning("%s: %s", command, error)
        return 128 + error.number
    except Exception:
        log.exception("%s: stopped by an unexpected error", command)
        return 1
    return 0


def _message(error: Exception) -> str:
    """Return the message for an error; a system error also says what to do."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return (
            f"{error.filename}: {error.strerror}. Nothing was lost. Fix this and run the same "
            "command again."
        )
    return str(error) or "out of memory"


def _log_to(path: Path | None) -> None:
    """Log to standard error; with a log file, log everything there and only warnings here.

    Times are in the file only.
    """
    console = logging.StreamHandler()
    console.setFormatter(logging.Formatter("%(message)s"))
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
