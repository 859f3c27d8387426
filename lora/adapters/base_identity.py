"""Identity of a base model: whether an adapter was trained on the base model that it gets.

A name says little: roberta-base, FacebookAI/roberta-base and a folder of the hub's cache are one
model, and two folders of one name may be two. Compared are checksums of the files where both are
known, otherwise names and commits on the hub. This module imports no torch.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lora import files, paths, run_record
from lora.adapters.adapter_folder import AdapterFolder
from lora.adapters.peft_header import TENSORS
from lora.data import fetch
from lora.errors import FetchError
from lora.experiment.source import Source, content_pin

_CACHE = re.compile(r"models--((?:[^/]+?--)?[^/]+)/snapshots/([0-9a-f]{40})/?$")
_COMMIT = re.compile(r"[0-9a-f]{40}")
Sources = Mapping[str, Source]


@dataclass(frozen=True)
class Identity:
    """What is known of a base model.

    Attributes:
        shown: The model, for messages.
        sha256: `fetch.base_sha256` of its folder; empty if unknown.
        folder: Its folder, if it is there and was not hashed.
        source: Identity of its source, see `Source.identity`; empty if unknown.
        hub: Its name on the hub, owner/name; empty if unknown.
        commit: Its commit on the hub; empty if unknown.
    """

    shown: str
    sha256: str = ""
    folder: Path | None = None
    source: str = ""
    hub: str = ""
    commit: str = ""

    def checksum(self) -> str:
        """Return the checksum of the model's files; empty if they are not there."""
        if self.sha256 or self.folder is None:
            return self.sha256
        try:
            return fetch.base_sha256(self.folder)
        except (FetchError, OSError, ValueError):
            return ""


def of_run(name: str, model_dir: Path | None, sources: Sources, sha256: str = "") -> Identity:
    """Return the identity of the base model of a run or a merge.

    Args:
        name: Its name; not used if there is a folder.
        model_dir: Its folder; None if it is not fetched yet.
        sources: Models by name.
        sha256: Checksum of the folder, if known.
    """
    if model_dir is None:
        source = sources.get(name)
        source = sources.get(source.same_as, source) if source else None
        return _of_source(name, source.identity) if source else Identity(name)
    identity = fetch.identity_of(model_dir)
    found = _of_source(f"{model_dir} ({identity})", identity)
    cached = _of_cache(str(model_dir.resolve()))
    hub, commit = cached or (found.hub, found.commit)
    return Identity(found.shown, sha256, Path(model_dir), found.source, hub, commit)


def of_adapter(adapter: AdapterFolder, sources: Sources) -> Identity:
    """Return the identity of the base model that an adapter was trained on.

    That is what the run.json beside a run's adapter says, otherwise base_model_name_or_path.
    """
    record = record_of(adapter)
    if record is not None and record.base.base_sha256:
        found = _of_source(record.base.source, record.base.source)
        shown = f"{record.settings.model} ({record.base.source}, run.json beside it)"
        return Identity(shown, record.base.base_sha256, None, found.source, found.hub, found.commit)
    named = adapter.config.get("base_model_name_or_path", adapter.config.get("model"))
    if not isinstance(named, str) or not named.strip():
        return Identity("a model that it does not name")
    revision = adapter.config.get("revision")
    commit = revision if isinstance(revision, str) and _COMMIT.fullmatch(revision) else ""
    folder = Path(named).expanduser()
    is_model = (folder / "config.json").is_file()
    cached = _of_cache(named) or (is_model and _of_cache(str(folder.resolve())))
    if cached:
        return Identity(named, "", folder if is_model else None, "", *cached)
    if is_model:
        identity = fetch.identity_of(folder)
        found = _of_source(named, identity)
        return Identity(named, "", folder, found.source, found.hub, found.commit)
    if named in sources and sources[named].role == "model":
        source = sources[named]
        return _of_source(named, sources.get(source.same_as, source).identity)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", named):
        return Identity(named, hub=named, commit=commit)
    # Names without owner, from before 2024: the hub has moved those models.
    hub = {
        source.locator.rpartition("/")[2]: source.locator
        for source in sources.values()
        if source.role == "model" and source.kind == "hub"
    }
    return Identity(named, hub=hub.get(named, ""), commit=commit)


def record_of(adapter: AdapterFolder) -> run_record.RunRecord | None:
    """Return the run.json beside a run's adapter; None if it is not of these tensors."""
    path = adapter.path.parent / paths.RUN_JSON
    if adapter.path.name != Path(paths.ADAPTER).parent.name or not path.is_file():
        return None
    try:
        record = run_record.read(path, "")
    except ValueError:
        return None
    hashed = record.files.get(paths.ADAPTER)
    if not hashed or record.altered or files.differs_from(adapter.path / TENSORS, hashed):
        return None
    return record


def same(first: Identity, second: Identity) -> bool | None:
    """Return whether two base models are the same; None if it is not known."""
    pins = content_pin(first.source), content_pin(second.source)
    if pins[0] and pins[0] == pins[1]:
        return True
    if (first.sha256 or first.folder) and (second.sha256 or second.folder):
        checksums = first.checksum(), second.checksum()
        if all(checksums):
            return checksums[0] == checksums[1]
    if first.hub and second.hub:
        if first.hub.casefold() != second.hub.casefold():
            return False
        other_commit = first.commit and second.commit and first.commit != second.commit
        return None if other_commit else True
    kinds = {identity.source.partition(" ")[0] for identity in (first, second)}
    return False if all(pins) and kinds == {"pypi"} else None


def _of_source(shown: str, identity: str) -> Identity:
    """Return the identity of a model from that of its source."""
    kind, _, rest = identity.partition(" ")
    locator, _, commit = rest.rpartition(" ")
    if kind == "hub" and _COMMIT.fullmatch(commit):
        return Identity(shown, source=identity, hub=locator, commit=commit)
    return Identity(shown, source=identity if kind in ("pypi", "file") else "")


def _of_cache(path: str) -> tuple[str, str] | None:
    """Return name and commit of a folder in the hub's cache."""
    match = _CACHE.search(path)
    return (match[1].replace("--", "/", 1), match[2]) if match else None
