"""Values of a config as a user writes them: numbers and lists given as text, and paths.

`snakemake --config` reads `seeds=[0, 1]` as a list of texts, and `subspace=null` as a text. A text
is read as what the config's schema wants at that key. Paths are expanded as a shell does, and
`results` gets one spelling. What cannot be read is left as it is, for the checks to report.
Reading twice gives the same as reading once.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from lora import paths
from lora.experiment.config_errors import Schema
from lora.files import NUMBER

INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]{0,99})")  # not 010, which YAML reads as octal
NULLS = ("~", "null", "Null", "NULL")


def read_values(config: Any, schema: Schema) -> Any:
    """Return a config with texts read as the schema wants them, and its paths expanded.

    Args:
        config: The config as nested dicts and lists. It is not changed.
        schema: The JSON Schema of the config.
    """
    value = _typed(config, schema, schema)
    for _, section, key, read in _paths(value):
        with contextlib.suppress(ValueError):  # path_problems reports it
            section[key] = read(section[key])
    return value


def path_problems(config: Any) -> list[str]:
    """Return one line for each path of a config that cannot be expanded."""
    problems = []
    for where, section, key, _ in _paths(config):
        try:
            paths.expand(section[key])
        except ValueError as error:
            problems.append(f"{where}: got {section[key]!r}; {error}")
    return problems


def _typed(value: Any, node: Schema, root: Schema) -> Any:
    """Return a copy of a value, with texts as the types that this part of the schema wants."""
    choices = {str(choice.get("type")): choice for choice in _choices(node, root)}
    if isinstance(value, str) and "None" not in choices:
        value = _read(value, choices)
    if isinstance(value, list) and "array" in choices:
        return [_typed(inner, choices["array"]["items"], root) for inner in value]
    if isinstance(value, dict) and "object" in choices:
        known = choices["object"].get("properties", {})
        other = choices["object"].get("additionalProperties") or {}
        return {key: _typed(inner, known.get(key, other), root) for key, inner in value.items()}
    return value


def _choices(node: Schema, root: Schema) -> Iterator[Schema]:
    """Return the alternatives that a part of a JSON Schema allows, with references followed."""
    for choice in node.get("anyOf", [node]):
        reference = choice.get("$ref", "").rpartition("/")[2]
        yield root["$defs"][reference] if reference else choice


def _read(text: str, wanted: Schema) -> Any:
    """Return the value in a text, as the first of the wanted types that it has, or the text."""
    if "null" in wanted and (text in NULLS or (text == "" and "string" not in wanted)):
        return None
    if "string" in wanted:
        return text
    if INTEGER.fullmatch(text) and wanted.keys() & {"integer", "number"}:
        return int(text)
    if "number" in wanted and NUMBER.fullmatch(text):
        return float(text)
    if wanted.keys() & {"array", "object"}:
        with contextlib.suppress(yaml.YAMLError, ValueError, RecursionError):
            value = yaml.load(text, yaml.BaseLoader)  # scalars stay text, to be read by type
            return value if isinstance(value, list | dict) else text
    return text


def _paths(config: Any) -> Iterator[tuple[str, dict[str, Any], str, Callable[[str], str]]]:
    """Return every path of a config: its key in full, its section and key there, how to read it."""
    found = [
        ("results", config, "results", _one_spelling),
        ("container", config, "container", paths.expand),
        ("overrides.start", _section(config, "overrides"), "start", paths.expand),
    ]
    for name, protocol in _section(config, "protocols").items():
        found.append((f"protocols.{name}.start", protocol, "start", paths.expand))
    for name, source in _section(config, "sources").items():
        if isinstance(source, dict) and source.get("kind") == "file":
            found.append((f"sources.{name}.locator", source, "locator", paths.expand))
    for name, task in _section(config, "tasks").items():
        found.append((f"tasks.{name}.path", task, "path", paths.expand))
    for where, section, key, read in found:
        if isinstance(section, dict) and isinstance(section.get(key), str) and section[key]:
            yield where, section, key, read


def _section(config: Any, key: str) -> dict[str, Any]:
    section = config.get(key) if isinstance(config, dict) else None
    return section if isinstance(section, dict) else {}


def _one_spelling(path: str) -> str:
    return paths.canonical(paths.expand(path))
