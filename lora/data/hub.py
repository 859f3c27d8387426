"""Download models and data sets of the Hugging Face hub at one commit, and verify every file.

Both come as huggingface_hub's snapshot of the commit, in its own cache. The client compares sizes
only, so every file is hashed here. A data set is then read by `datasets` from these files alone.

`load_dataset` on the hub is not used. It may return rows of another commit than the pinned one when
the hub cannot be reached (https://github.com/huggingface/datasets/issues/7928), and it can wait
forever for a listing. The cost: if a data set's card does not name a configuration's files, the
whole repository is downloaded.

A cache without links (Windows, HF_HUB_DISABLE_SYMLINKS) does not show the hub's hashes. Then only a
source's own `sha256` in config/sources.csv is checked.
"""

import fnmatch
import hashlib
import logging
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from lora.data import card
from lora.errors import HubError

if TYPE_CHECKING:
    from huggingface_hub.utils import httpx

CARD = "README.md"
FETCH_AGAIN = "fetch again; complete files stay in the hub's cache"


def go_offline() -> None:
    """Keep huggingface_hub, transformers and datasets from using the network.

    Call it before they are imported. A job on a compute node has all its inputs; without network,
    a request would wait until it times out.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"


def snapshot(kind: str, repository: str, revision: str, patterns: list[str]) -> Path:
    """Download the files of a commit into the hub's cache and verify them.

    Args:
        kind: "model" or "dataset".
        repository: `owner/name`.
        revision: The commit.
        patterns: Shell patterns of the files to download.

    Returns:
        The folder of the commit in the cache.

    Raises:
        HubError: If the download fails, or a file does not have the hub's hash. Such a file is
            deleted from the cache, so the next download gets it again.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.utils import httpx

    for library in ("huggingface_hub", "datasets", "httpx2"):  # they log retries and signed URLs
        logging.getLogger(library).setLevel(logging.ERROR)
    _limit_waiting()
    expected = (OSError, ValueError, RuntimeError, httpx.HTTPError)  # hf_xet: RuntimeError
    try:
        folder = Path(
            snapshot_download(
                repository, repo_type=kind, revision=revision, allow_patterns=patterns
            )
        )
    except expected as error:
        download = f"{repository} --repo-type {kind} --revision {revision}"
        raise _explain(error, download, constants.HF_HUB_CACHE) from None
    for path in _matching(folder, patterns):
        _check_hash(path, path.relative_to(folder).as_posix())
    return folder


def save_data_set(
    repository: str, configuration: str, revision: str, destination: Path, work: Path
) -> None:
    """Download a data set and save it in the layout of datasets' `save_to_disk`.

    The same rows give the same bytes.

    Args:
        repository: `owner/name`.
        configuration: Its configuration; "" for a data set with only one.
        revision: The commit.
        destination: Folder to write to.
        work: Folder for temporary files.

    Raises:
        HubError: If the download fails, or the files and the card do not fit together.
    """
    path = snapshot("dataset", repository, revision, [CARD]) / CARD
    metadata = card.read(path) if path.is_file() else {}
    patterns = card.patterns(metadata, configuration) if configuration else ["*"]
    folder = snapshot("dataset", repository, revision, [CARD, *patterns])
    paths = _matching(folder, [CARD, *patterns])
    names = [path.relative_to(folder).as_posix() for path in paths]
    if missing := [pattern for pattern in patterns if not fnmatch.filter(names, pattern)]:
        raise HubError(
            f"there is no {', '.join(missing)}, which its card names",
            "if HF_HUB_OFFLINE is set, the cache may be incomplete: fetch with network",
        )
    copied = work / "repository"
    for path in paths:
        target = copied / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    if configuration:  # datasets looks for the files of every configuration in the card
        card.write(copied / CARD, metadata, configuration)

    from datasets import Dataset, DatasetDict, DatasetInfo, load_dataset
    from datasets.exceptions import DatasetsError

    try:
        loaded = load_dataset(str(copied), configuration or None, cache_dir=str(work / "arrow"))
    except (OSError, ValueError, DatasetsError) as error:
        raise HubError(f"datasets cannot read its files: {_one_line(error)}") from None
    splits = {  # without the paths and times that `loaded` holds
        name: Dataset(
            split.data, DatasetInfo(features=split.features), split.split, fingerprint=revision
        )
        for name, split in loaded.items()
    }
    DatasetDict(splits).save_to_disk(str(destination))


def _matching(folder: Path, patterns: list[str]) -> list[Path]:
    """Return the files below a folder whose relative paths match a pattern."""
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*"))}
    return [
        path
        for name, path in paths.items()
        if path.is_file() and any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
    ]


def _check_hash(path: Path, name: str) -> None:
    """Compare a cached file with the hash that is its name in the cache.

    That is the SHA-256 of a large file and git's SHA-1 of a small one; some mirrors give a plain
    SHA-1.
    """
    stored = path.resolve()
    if not path.is_symlink() or not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", stored.name):
        return
    size = stored.stat().st_size
    hashes = [hashlib.sha1(b"blob %d\0" % size), hashlib.sha1()]
    if len(stored.name) == 64:
        hashes = [hashlib.sha256()]
    with open(stored, "rb") as handle:
        while chunk := handle.read(1 << 20):
            for one in hashes:
                one.update(chunk)
    got = [one.hexdigest() for one in hashes]
    if stored.name not in got:
        path.unlink()
        stored.unlink()
        raise HubError(
            f"{name} does not have the hub's hash: expected {stored.name}, got {got[0]}; it was "
            "deleted from the cache",
            "fetch again; if the hash is wrong again, a proxy or mirror may change files: try "
            "without it",
        )


def _limit_waiting() -> None:
    """Give all requests of huggingface_hub a time limit. By default its listings have none."""
    from huggingface_hub import get_session, set_client_factory
    from huggingface_hub.utils import httpx

    hooks = get_session().event_hooks["request"]
    if _set_timeout not in hooks:
        hooks = [*hooks, _set_timeout]
        set_client_factory(
            lambda: httpx.Client(
                event_hooks={"request": hooks}, follow_redirects=True, timeout=None
            )
        )


def _set_timeout(request: "httpx.Request") -> None:
    """Set the time limit of downloads where a request has none."""
    from huggingface_hub import constants

    given = request.extensions.get("timeout", {})
    request.extensions["timeout"] = {
        kind: given.get(kind) or constants.HF_HUB_DOWNLOAD_TIMEOUT
        for kind in ("connect", "read", "write", "pool")
    }


def _explain(error: Exception, download: str, cache: str) -> HubError:
    """Return why a download failed and what to do.

    Args:
        error: What the client raised.
        download: Arguments of `hf download` that get the same files.
        cache: Folder of the hub's cache.
    """
    from huggingface_hub import errors

    while isinstance(error, errors.LocalEntryNotFoundError):
        if not isinstance(error.__cause__, Exception):
            break
        error = error.__cause__  # the client's error says only that the cache has no such file
    if isinstance(error, errors.OfflineModeIsEnabled):
        return HubError(
            f"HF_HUB_OFFLINE is set, and the cache ({cache}) is incomplete",
            f"unset HF_HUB_OFFLINE, or fill the cache where there is network: hf download "
            f"{download}",
        )
    why, way_out = _reason(error)
    what = f"{type(error).__name__}: {_one_line(error)}"
    return HubError(f"{why} ({what})" if why else what, way_out)


def _reason(error: Exception) -> tuple[str | None, str | None]:
    """Return why a request failed and what to do, (None, None) for an unknown error."""
    from huggingface_hub import constants, errors
    from huggingface_hub.utils import httpx

    status = getattr(getattr(error, "response", None), "status_code", 0)
    if isinstance(error, errors.RevisionNotFoundError):
        return (
            "the hub has no such revision",
            "correct it: the page of the repository lists its commits",
        )
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403):
        return (
            "the hub has no such repository, or you have no access to it",
            "check its name; if its page asks you to agree to terms, do that, then log in (hf auth "
            "login, or HF_TOKEN)",
        )
    if status == 429:
        return (
            "the hub received too many requests from here",
            "fetch again in some minutes; logged-in users (hf auth login) have a higher limit",
        )
    if status >= 500:
        return f"the hub failed with status {status}", FETCH_AGAIN
    if isinstance(error, httpx.TimeoutException):
        return (
            f"the hub did not answer within {constants.HF_HUB_DOWNLOAD_TIMEOUT} s, several times",
            f"{FETCH_AGAIN}; on a slow network set HF_HUB_DOWNLOAD_TIMEOUT and "
            "HF_HUB_ETAG_TIMEOUT (seconds)",
        )
    if isinstance(error, (httpx.ConnectError, httpx.ProxyError)):
        return "no connection to the hub", "check the network, HTTPS_PROXY and HF_ENDPOINT"
    if isinstance(error, RuntimeError):
        return (
            "the hub's storage of large files failed",
            f"{FETCH_AGAIN}; if that does not help, set HF_HUB_DISABLE_XET=1",
        )
    if isinstance(error, httpx.TransportError) or "Consistency check failed" in str(error):
        return "the download was interrupted", FETCH_AGAIN
    return None, None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or "no message"
