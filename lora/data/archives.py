"""Folders inside packages of a package index: download with pip, verify, unpack.

pip uses the user's own indexes and credentials. An archive is hashed before anything in it is
opened, and nothing is written outside the target folder.
"""

import re
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from lora.errors import FetchError
from lora.experiment.source import Source
from lora.files import file_sha256

# Python 3.11 has the filter of archive members from 3.11.4 on. _check_tar_member covers it.
DATA_FILTER: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


def package_folder(source: Source, work: Path) -> Path:
    """Download the package of a pypi source and return the folder inside it.

    The locator is `package==version#path`. More `#path` follow if the folder is inside an archive
    inside the package.

    Args:
        source: A source of kind pypi.
        work: An empty folder for the archives and what is unpacked from them.

    Raises:
        FetchError: If the locator is incomplete, pip fails, the hash differs, or there is no such
            folder.
    """
    requirement, *inside = source.locator.split("#")
    if not inside or not all(inside):
        raise FetchError(
            f"source {source.name}: locator is {source.locator!r}; allowed: "
            "package==version#path/inside"
        )
    path = _download(source, requirement, work)
    for number, member in enumerate(inside):
        target = work / f"unpacked{number}"
        target.mkdir()
        _unpack(source, path, member, target)
        path = target / member
    if not path.is_dir():
        raise FetchError(
            f"source {source.name}: {inside[-1]!r} in {requirement} is a file; expected a folder"
        )
    return path


def check_sha256(source: Source, what: str, got: str) -> None:
    """Compare a hash with the pinned one. Raises FetchError that names `what` was hashed."""
    if got != source.sha256:
        raise FetchError(
            f"source {source.name}: {what} has another sha256 than pinned; nothing of it was kept\n"
            f"  expected {source.sha256}\n  got      {got}\n"
            "If you expected this change, pin the new hash. Otherwise do not use these files."
        )


def without_credentials(text: str) -> str:
    """Return a text without the `user:password@` and the query of its URLs."""
    return re.sub(r"(https?://[^\s?]*)\?\S*", r"\1?...", re.sub(r"://[^/@\s]+@", "://", text))


def _download(source: Source, requirement: str, work: Path) -> Path:
    """Download a package's archive with pip.

    pip gets the hash too: it runs the setup code of a source archive to learn its name, and would
    otherwise do so before the archive is checked here.
    """
    requirements, folder = work / "requirement.txt", work / "archive"
    requirements.write_text(f"{requirement} --hash=sha256:{source.sha256}\n", encoding="utf-8")
    kind = "--only-binary" if source.revision == "wheel" else "--no-binary"
    options = "--no-deps --require-hashes --disable-pip-version-check --no-input"
    command = [sys.executable, "-m", "pip", "download", *options.split(), "--progress-bar=off"]
    command += [kind, ":all:", "--dest", str(folder), "--requirement", str(requirements)]
    pip = subprocess.run(command, capture_output=True, text=True)
    if pip.returncode:
        if got := re.search(r"Got\s+([0-9a-f]{64})", pip.stderr):
            check_sha256(source, f"the archive of {requirement}", got[1])
        raise FetchError(_pip_message(source, requirement, pip.stderr.splitlines()))
    archives = sorted(folder.iterdir())
    if len(archives) != 1:
        names = [path.name for path in archives]
        raise FetchError(f"source {source.name}: pip downloaded {names}; expected one archive")
    check_sha256(source, f"the archive of {requirement}", file_sha256(archives[0]))
    return archives[0]


def _pip_message(source: Source, requirement: str, output: list[str]) -> str:
    errors = [line for line in output if line.startswith("ERROR:") or "No module named pip" in line]
    lines = [
        f"source {source.name}: pip could not download {requirement} ({source.revision})",
        *(f"  {without_credentials(line)}" for line in errors or output[-1:]),
        "Give pip an index that has it (PIP_INDEX_URL, PIP_FIND_LINKS), or set in the config "
        f"sources: {source.name}: to a local folder (kind: file, locator: its path)",
    ]
    return "\n".join(lines)


def _unpack(source: Source, archive: Path, member: str, target: Path) -> None:
    """Unpack a file or folder of a zip or tar archive to `target/member`.

    The single top folder of a source archive is not part of `member`. Raises FetchError for
    anything that would be written elsewhere.
    """
    wanted = PurePosixPath(member)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                for info in opened.infolist():
                    if _is_below(info.filename, wanted):
                        _check_zip_member(info)
                        opened.extract(info, target)
        else:
            with tarfile.open(archive) as tar:
                for entry in tar:
                    entry.name = _without_top_folder(entry.name, wanted)
                    if _is_below(entry.name, wanted):
                        _check_tar_member(entry)
                        tar.extract(entry, target, **DATA_FILTER)
    except (tarfile.TarError, zipfile.BadZipFile, OSError, ValueError, KeyError) as error:
        why = without_credentials((str(error).strip().splitlines() or ["no message"])[0])
        raise FetchError(
            f"source {source.name}: {archive.name} was not unpacked: {why}. Fetch it again"
        ) from None
    if not (target / member).exists():
        raise FetchError(f"source {source.name}: {archive.name} has no {member!r} in it")


def _is_below(name: str, folder: PurePosixPath) -> bool:
    return PurePosixPath(name).parts[: len(folder.parts)] == folder.parts


def _without_top_folder(name: str, wanted: PurePosixPath) -> str:
    below = str(PurePosixPath(*PurePosixPath(name).parts[1:]))
    return below if not _is_below(name, wanted) and _is_below(below, wanted) else name


def _check_zip_member(info: zipfile.ZipInfo) -> None:
    _check_member(info.filename, not stat.S_ISLNK(info.external_attr >> 16))


def _check_tar_member(entry: tarfile.TarInfo) -> None:
    _check_member(entry.name, entry.isreg() or entry.isdir())
    entry.mode &= 0o755


def _check_member(name: str, is_plain: bool) -> None:
    """Raise ValueError for what is no plain file or folder inside the archive."""
    outside = ".." in PurePosixPath(name).parts or name.startswith("/") or "\\" in name
    if not is_plain or outside:
        raise ValueError(f"its member {name!r} is a link or is outside the archive")
