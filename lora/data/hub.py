"""Models and data sets of the Hugging Face hub at one commit, checked against the hub's own hashes.

Both come the same way: huggingface_hub's snapshot of the commit, in its own cache, of which every file is then hashed. The
cache names a file by what the hub says its hash is, but the client compares sizes alone, so a wrong byte from a proxy or a
disk would be trained on. A data set is read by `datasets` from those checked files and from nothing else.

`load_dataset` on the hub would be shorter. Measured against a server that fails, it gives another commit's rows than the
pinned one when the hub cannot be reached (https://github.com/huggingface/datasets/issues/7928), waits for ever on a listing
that never comes, and without network needs a cache of its own beside the hub's. The price here is that a configuration's
files must be named by the data set's card, otherwise the whole repository is downloaded.

It retries no more than the client does, and where the cache holds no links (Windows, HF_HUB_DISABLE_SYMLINKS) there is no
hash to check against: a source's own `sha256` in config/sources.csv is then the only check.
"""

import fnmatch
import hashlib
import logging
import os
import re
import shutil
from pathlib import Path

import yaml

from lora.errors import HubError

CARD = "README.md"
AGAIN = "fetch again; what is whole already stays in the hub's cache"


def stay_away() -> None:
    """Tell huggingface_hub, transformers and datasets, not imported yet, that there is no hub: all that a job on a compute
    node needs is there, and one that asked for more all the same would wait for a network that is not."""
    os.environ["HF_HUB_OFFLINE"] = "1"


def snapshot(kind: str, repository: str, revision: str, patterns: list[str]) -> Path:
    """The cache's folder with the files of a commit that match `patterns`, checked; `kind` is model or dataset.

    Raises HubError. A file with other bytes than the hub says is deleted from the cache, so that the next try gets it anew.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.utils import httpx

    for library in ("huggingface_hub", "datasets", "httpx2"):
        logging.getLogger(library).setLevel(
            logging.ERROR
        )  # they log each retry, and signed URLs; the error says it once
    _let_nothing_wait_for_ever()
    try:
        folder = Path(
            snapshot_download(
                repository, repo_type=kind, revision=revision, allow_patterns=patterns
            )
        )
    except (
        OSError,
        ValueError,
        RuntimeError,
        httpx.HTTPError,
    ) as error:  # hf_xet, for large files, raises RuntimeError
        raise _explained(
            error, f"{repository} --repo-type {kind} --revision {revision}", constants
        ) from None
    for path in _matching(folder, patterns):
        _check(path, path.relative_to(folder).as_posix())
    return folder


def save_data_set(
    repository: str, configuration: str, revision: str, destination: Path, work: Path
) -> None:
    """Write a data set into `destination` as datasets' `save_to_disk` does; the same rows give the same bytes.

    `configuration` may be empty for a data set that has one only; `work` is a folder for files on the way. Raises HubError.
    """
    card = snapshot("dataset", repository, revision, [CARD]) / CARD
    told = _read_card(card) if card.is_file() else {}
    patterns = _patterns(told, configuration) if configuration else ["*"]
    folder = snapshot("dataset", repository, revision, [CARD, *patterns])
    copied, taken = work / "repository", _matching(folder, [CARD, *patterns])
    names = [path.relative_to(folder).as_posix() for path in taken]
    if missing := [pattern for pattern in patterns if not fnmatch.filter(names, pattern)]:
        raise HubError(f"there is no {', '.join(missing)}, which its card names",
                       "where HF_HUB_OFFLINE is set the cache may hold a part: fetch with network")  # fmt: skip
    for path in taken:
        target = copied / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    if configuration:  # the others' files are not here, and datasets looks for the first one's
        _write_card(copied / CARD, told, configuration)

    from datasets import Dataset, DatasetDict, DatasetInfo, load_dataset
    from datasets.exceptions import DatasetsError

    try:
        loaded = load_dataset(str(copied), configuration or None, cache_dir=str(work / "arrow"))
    except (OSError, ValueError, DatasetsError) as error:
        raise HubError(
            f"its files are no data set that datasets can read: {_one_line(error)}"
        ) from None
    splits = {name: Dataset(split.data, DatasetInfo(features=split.features), split.split, fingerprint=revision)
              for name, split in loaded.items()}  # fmt: skip
    DatasetDict(splits).save_to_disk(str(destination))  # without paths and times of this machine


def _matching(folder: Path, patterns: list[str]) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()
            and any(fnmatch.fnmatch(path.relative_to(folder).as_posix(), pattern) for pattern in patterns)]  # fmt: skip


def _check(path: Path, name: str) -> None:
    """Compare a cached file with its hash: sha256 of a large file, git's sha1 of a small one, or plain sha1 by a mirror."""
    stored = path.resolve()
    if not path.is_symlink() or not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", stored.name):
        return
    size = stored.stat().st_size
    hashes = (
        [hashlib.sha256()]
        if len(stored.name) == 64
        else [hashlib.sha1(b"blob %d\0" % size), hashlib.sha1()]
    )
    with open(stored, "rb") as handle:
        while chunk := handle.read(1 << 20):
            for one in hashes:
                one.update(chunk)
    got = [one.hexdigest() for one in hashes]
    if stored.name not in got:
        path.unlink()
        stored.unlink()
        raise HubError(
            f"{name} has other bytes than the hub says: expected {stored.name}, got {got[0]}; it was deleted from the cache",
            "fetch again; if it comes wrong again, something on the way changes files: try without proxy or mirror",
        )


def _read_card(path: Path) -> dict:
    """The metadata on top of a data set's card."""
    try:
        match = re.match(r"---\r?\n(.*?)\r?\n---", path.read_text(encoding="utf-8"), re.S)
        told = yaml.safe_load(match.group(1)) if match else {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise HubError(
            f"the metadata of its card, {CARD}, is no YAML: {_one_line(error)}"
        ) from None
    return told if isinstance(told, dict) else {}


def _named(told: dict, key: str, configuration: str) -> list[dict]:
    """What a card says of one configuration under `configs` or `dataset_info`, which is a list or a single entry."""
    entries = told.get(key) or []
    entries = entries if isinstance(entries, list) else [entries]
    return [
        entry
        for entry in entries
        if isinstance(entry, dict) and entry.get("config_name") == configuration
    ]


def _patterns(told: dict, configuration: str) -> list[str]:
    """The files of a configuration; all of them where its card does not name them by plain paths."""
    found = _named(told, "configs", configuration)
    if not found:
        names = [
            str(entry.get("config_name"))
            for entry in told.get("configs") or []
            if isinstance(entry, dict)
        ]
        raise HubError(f"it has no configuration {configuration!r}; it has: {', '.join(names) or 'none by name'}",
                       "correct the source's locator, owner/dataset:configuration")  # fmt: skip
    given = found[0].get("data_files") or []
    patterns = []
    for entry in given if isinstance(given, list) else [given]:
        paths = entry.get("path") if isinstance(entry, dict) else entry
        patterns += paths if isinstance(paths, list) else [paths]
    plain = all(
        isinstance(path, str) and re.fullmatch(r"\w[^:]*", path) and "**" not in path
        for path in patterns
    )
    return patterns if patterns and plain and not found[0].get("data_dir") else ["*"]


def _write_card(path: Path, told: dict, configuration: str) -> None:
    kept = {
        key: found
        for key in ("configs", "dataset_info")
        if (found := _named(told, key, configuration))
    }
    path.write_text(f"---\n{yaml.safe_dump(kept)}---\n", encoding="utf-8")


def _let_nothing_wait_for_ever() -> None:
    """Have the client's requests limited in time: those of its listings are not, whatever its settings say."""
    from huggingface_hub import get_session, set_client_factory
    from huggingface_hub.utils import httpx

    hooks = get_session().event_hooks["request"]
    if _limit not in hooks:
        hooks = [*hooks, _limit]
        set_client_factory(
            lambda: httpx.Client(
                event_hooks={"request": hooks}, follow_redirects=True, timeout=None
            )
        )


def _limit(request) -> None:
    """Give a request without a time limit the client's own for downloads."""
    from huggingface_hub import constants

    given = request.extensions.get("timeout", {})
    request.extensions["timeout"] = {kind: given.get(kind) or constants.HF_HUB_DOWNLOAD_TIMEOUT
                                     for kind in ("connect", "read", "write", "pool")}  # fmt: skip


def _explained(error: Exception, asked: str, constants) -> HubError:
    """Why a download failed and what to do, from what the client raised."""
    from huggingface_hub import errors
    from huggingface_hub.utils import httpx

    while isinstance(error, errors.LocalEntryNotFoundError) and isinstance(
        error.__cause__, Exception
    ):
        error = (
            error.__cause__
        )  # the client says that the cache has it not; why it is not had is its cause
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return HubError(f"HF_HUB_OFFLINE is set, and the cache ({constants.HF_HUB_CACHE}) does not hold all of it",
                        f"unset HF_HUB_OFFLINE, or fill the cache where there is network: hf download {asked}")  # fmt: skip
    if isinstance(error, errors.RevisionNotFoundError):
        why, way_out = (
            "the hub has no such revision",
            "correct it: the repository's page lists its commits",
        )
    elif isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403):
        why = "the hub has no such repository, or does not give it to you"
        way_out = "check its name; if its page asks for consent, give it there, then log in (hf auth login, or HF_TOKEN)"
    elif status == 429:
        why = "the hub has had too many requests from here"
        way_out = "fetch again in some minutes; who is logged in (hf auth login) is allowed more"
    elif status >= 500:
        why, way_out = "the hub has a failure of its own", AGAIN
    elif isinstance(error, httpx.TimeoutException):
        why = f"the hub did not answer within {constants.HF_HUB_DOWNLOAD_TIMEOUT} s, several times"
        way_out = f"{AGAIN}; on a slow network set HF_HUB_DOWNLOAD_TIMEOUT and HF_HUB_ETAG_TIMEOUT (seconds)"
    elif isinstance(error, (httpx.ConnectError, httpx.ProxyError)):
        why, way_out = (
            "there is no connection to the hub",
            "check the network, HTTPS_PROXY and HF_ENDPOINT",
        )
    elif isinstance(error, RuntimeError):
        why, way_out = (
            "the hub's storage of large files failed",
            f"{AGAIN}; if that does not help, set HF_HUB_DISABLE_XET=1",
        )
    elif isinstance(error, httpx.TransportError) or "Consistency check failed" in str(error):
        why, way_out = "the download broke off", AGAIN
    else:
        return HubError(f"{type(error).__name__}: {_one_line(error)}")
    return HubError(f"{why} ({type(error).__name__}: {_one_line(error)})", way_out)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or "no message"
