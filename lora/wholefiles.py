"""Files that are there whole or not at all, and JSON in which a changed bit is found out.

A job can be killed, or its disk be full, at any instant. So a file is written under a temporary name beside its own,
flushed to disk, and renamed; a write that fails takes its temporary file away, as on a full disk it would stand in the way
of what is tried next. Of a process that was killed it stays, until whoever writes there next sweeps it up. What JSON says of
a run decides tables and where training goes on, so it carries a seal, the hash of the rest; the cost is that who changes
such a file by hand must leave the seal out.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

SEAL = "seal"


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A temporary name to write `path` under; once that is written it is flushed and renamed. Raises OSError that names
    `path` where the system refuses; then what was there before is untouched and nothing is left behind."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        why = error.strerror or str(error)
        advice = "what was saved before is kept: mend this, then the same command goes on"
        raise OSError(f"{path} cannot be written ({why}); {advice}") from error


def sweep(folder: Path) -> None:
    """Take away what killed processes left half written in a folder that nobody else writes to now."""
    for path in Path(folder).glob(".*.tmp"):
        path.unlink(missing_ok=True)


def sealed(value: dict) -> dict:
    """A JSON object with its seal."""
    return value | {SEAL: _seal(value)}


def is_broken(value: dict) -> bool:
    """Whether a JSON object is not what it was when it was sealed; one without a seal has none to break."""
    return SEAL in value and value[SEAL] != _seal(value)


def checked(value: dict, path: Path, advice: str) -> dict:
    """A JSON object that was read from `path`; raises ValueError that ends with `advice` where its seal is broken."""
    if is_broken(value):
        raise ValueError(f"{path} is not as it was written: its seal does not fit; {advice}")
    return value


def is_changed(path: Path, sha256: str | None) -> bool:
    """Whether a file is there with another sha256 than was noted; where none was noted, nobody can tell."""
    if sha256 is None or not Path(path).is_file():
        return False
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest() != sha256


def _seal(value: dict) -> str:
    rest = {key: value[key] for key in value if key != SEAL}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
