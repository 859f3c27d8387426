"""Card of a data set on the hub: which files belong to which configuration.

A card is a README.md with YAML metadata on top.
"""

import re
from pathlib import Path

import yaml

from lora.errors import HubError
from lora.files import JsonObject


def read(path: Path) -> JsonObject:
    """Return the YAML metadata on top of a card, {} if there is none. Raises HubError."""
    try:
        match = re.match(r"---\r?\n(.*?)\r?\n---", path.read_text(encoding="utf-8"), re.S)
        metadata = yaml.safe_load(match.group(1)) if match else {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        why = " ".join(str(error).split())
        raise HubError(f"the metadata of its card, {path.name}, is not YAML: {why}") from None
    return metadata if isinstance(metadata, dict) else {}


def _entries(metadata: JsonObject, key: str) -> list[JsonObject]:
    """Return the entries under `configs` or `dataset_info`: a list or a single entry."""
    entries = metadata.get(key) or []
    entries = entries if isinstance(entries, list) else [entries]
    return [entry for entry in entries if isinstance(entry, dict)]


def _entries_of(metadata: JsonObject, key: str, configuration: str) -> list[JsonObject]:
    """Return the entries of one configuration."""
    return [entry for entry in _entries(metadata, key) if entry.get("config_name") == configuration]


def patterns(metadata: JsonObject, configuration: str) -> list[str]:
    """Return the patterns of a configuration's files, ["*"] if the card has no plain paths.

    Raises:
        HubError: If the card has no such configuration.
    """
    found = _entries_of(metadata, "configs", configuration)
    if not found:
        names = [str(entry.get("config_name")) for entry in _entries(metadata, "configs")]
        raise HubError(
            f"it has no configuration {configuration!r}; it has: {', '.join(names) or 'no names'}",
            "correct the source's locator, owner/dataset:configuration",
        )
    given = found[0].get("data_files") or []
    listed: list[object] = []
    for entry in given if isinstance(given, list) else [given]:
        paths = entry.get("path") if isinstance(entry, dict) else entry
        listed += paths if isinstance(paths, list) else [paths]
    plain = [
        path
        for path in listed
        if isinstance(path, str) and re.fullmatch(r"\w[^:]*", path) and "**" not in path
    ]
    if not plain or len(plain) < len(listed) or found[0].get("data_dir"):
        return ["*"]
    return plain


def write(path: Path, metadata: JsonObject, configuration: str) -> None:
    """Write a card with the metadata of one configuration."""
    kept = {
        key: found
        for key in ("configs", "dataset_info")
        if (found := _entries_of(metadata, key, configuration))
    }
    path.write_text(f"---\n{yaml.safe_dump(kept)}---\n", encoding="utf-8")


def class_names(metadata: JsonObject, configuration: str, column: str) -> tuple[str, ...] | None:
    """Return the class names of a column in a card's `dataset_info`, None if it has none.

    Args:
        metadata: The card's metadata.
        configuration: The configuration. A card with a single one need not name it.
        column: The column of the labels.
    """
    entries = _entries(metadata, "dataset_info")
    named = _entries_of(metadata, "dataset_info", configuration)
    for entry in named or (entries if len(entries) == 1 else []):
        features = entry.get("features")
        for feature in features if isinstance(features, list) else []:
            if not isinstance(feature, dict) or feature.get("name") != column:
                continue
            kind = feature.get("dtype")
            names = kind.get("class_label") if isinstance(kind, dict) else None
            names = names.get("names") if isinstance(names, dict) else None
            if isinstance(names, dict) and all(str(key).isdecimal() for key in names):
                names = [names[key] for key in sorted(names, key=lambda key: int(str(key)))]
            if isinstance(names, list) and names:
                return tuple(str(name) for name in names)
    return None
