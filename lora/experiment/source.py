"""Sources: where a data set or a model comes from, and what pins its content."""

import os
import re
from dataclasses import dataclass

from lora.errors import ConfigError, shown
from lora.experiment.names import check_name

SOURCE_KINDS = ("hub", "file", "pypi")


def content_pin(identity: str) -> tuple[str, ...]:
    """Return the part of an identity that pins the content, empty if nothing does.

    Two identities with the same pin have the same content, even if a hub name or a path differs.

    Args:
        identity: `Source.identity`, as run.json records it. A run that was not trained from a
            fetched source has another text there, which pins nothing.
    """
    kind, _, rest = identity.partition(" ")
    locator, _, last = rest.rpartition(" ")
    if kind == "hub" and re.fullmatch("[0-9a-f]{40}", last):
        return kind, locator.partition(":")[2], last
    if kind == "pypi" and re.fullmatch("[0-9a-f]{64}", last):
        return kind, locator.rpartition(" ")[0].partition("#")[2], last
    if kind == "file" and re.fullmatch("[0-9a-f]{64}", last):
        return kind, last
    return ()


@dataclass(frozen=True)
class Source:
    """Where a data set or a model comes from, and what pins its content.

    Attributes:
        name: Name in config/sources.csv or in the config.
        role: model or data.
        kind: hub, file or pypi; it says how `locator` is read.
        locator: hub: `owner/name` (model) or `owner/name:config` (data set). file: a folder, or
            a single file of a data set. pypi: `package==version#path/inside`.
        revision: hub: a 40-digit commit. pypi: wheel or sdist. file: empty.
        sha256: Checksum of the archive (pypi; required) or of the folder (file; may be empty).
        licence: SPDX name.
        same_as: Source of config/sources.csv that the user says has the same content; or empty.

    Raises:
        ConfigError: If a value is not allowed.
    """

    name: str
    role: str
    kind: str
    locator: str
    revision: str
    sha256: str
    licence: str
    same_as: str = ""

    def __post_init__(self) -> None:
        problems = check_name("name", self.name)
        if self.role not in ("model", "data"):
            problems.append(f"role is {shown(self.role)}; allowed: model, data")
        if self.kind not in SOURCE_KINDS:
            problems.append(f"kind is {shown(self.kind)}; allowed: {', '.join(SOURCE_KINDS)}")
        if not self.locator:
            problems.append("locator is empty; give a hub name, a folder or package==version#path")
        elif not self.locator.isprintable():
            problems.append(
                f"locator is {shown(self.locator)}; allowed: one line of printable text"
            )
        if self.kind == "hub" and not re.fullmatch("[0-9a-f]{40}", self.revision):
            problems.append(
                f"revision is {shown(self.revision)}; a hub source is pinned by a 40-digit commit"
            )
        if self.kind == "pypi" and self.revision not in ("wheel", "sdist"):
            problems.append(
                f"revision is {shown(self.revision)}; a pypi source says wheel or sdist"
            )
        if (self.kind == "pypi" or self.sha256) and not re.fullmatch("[0-9a-f]{64}", self.sha256):
            pinned = (
                "a pypi source is pinned by its archive's"
                if self.kind == "pypi"
                else "allowed: none, or a"
            )
            problems.append(f"sha256 is {shown(self.sha256)}; {pinned} 64-digit sha256")
        if problems:
            raise ConfigError(f"source {self.name!r}:", problems)

    @property
    def identity(self) -> str:
        """What pins the content, in one line: a parameter of the rules that depend on it."""
        return " ".join(
            part for part in (self.kind, self.locator, self.revision, self.sha256) if part
        )


def same_identity(first: str, second: str) -> bool:
    """Return whether two identities are of the same source, whatever the spelling of a folder."""
    return _resolved(first) == _resolved(second)


def _resolved(identity: str) -> str:
    kind, _, rest = identity.partition(" ")
    found = re.fullmatch(r"(.*?)((?: [0-9a-f]{64})?)", rest)
    if kind != "file" or not found:
        return identity
    return f"file {os.path.realpath(found[1])}{found[2]}"
