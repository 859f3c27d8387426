"""Reading a config from YAML files or JSON text.

Every key has its default in `config/config.yaml` and nowhere else; other configs are laid over that
file, as Snakemake lays them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lora import files
from lora.errors import shown
from lora.paths import CONFIG_DIR, ROOT

DEFAULTS = CONFIG_DIR / "config.yaml"


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which also refuses a key that is given twice."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[object, object]:
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value != "<<":
            if key.value in seen:
                problem = f"key {shown(key.value)} is there more than once"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; an empty file is an empty mapping.

    Raises:
        ValueError: Names the file and line.
    """
    text = files.read_text(path)
    try:
        content = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        why = shown(" ".join(str(error).replace('in "<unicode string>", ', "at ").split()), 400)
        raise ValueError(
            f"{path} cannot be read as YAML: {why}; expected keys and values as in {DEFAULTS.name}"
        ) from None
    if not isinstance(content, dict | None):
        raise ValueError(
            f"{path} holds {shown(content)}; allowed: keys of {DEFAULTS.name} with their values"
        )
    return content or {}


def read(*sources: str) -> dict[str, Any]:
    """Return a config from YAML files laid over config/config.yaml in turn, or from JSON text.

    Args:
        sources: Paths of YAML files, or one JSON object with every key.

    Raises:
        ValueError: If a file or the JSON can't be read. The keys are not checked here.
    """
    if len(sources) == 1 and sources[0].lstrip().startswith("{"):
        return files.parse_object(
            sources[0], "the config", "give a YAML file, or a JSON object with every key"
        )
    config: dict[str, Any] = {}
    for path in sources:
        config = _merged(config, read_yaml(Path(path)))
    return with_defaults(config)


def read_partial(*sources: str) -> dict[str, Any]:
    """Return a config as `read` does; a JSON object may also leave out keys."""
    return with_defaults(read(*sources))


def with_defaults(config: object) -> dict[str, Any]:
    """Return a config laid over config/config.yaml, key by key.

    Raises:
        ValueError: If the config is no mapping, or config/config.yaml can't be read.
    """
    if not isinstance(config, Mapping):
        raise ValueError(f"the config is {shown(config)}; allowed: keys of {DEFAULTS.name}")
    return _merged(read_defaults(), config)


def read_defaults() -> dict[str, Any]:
    """Return config/config.yaml. Raises ValueError if it can't be read."""
    if not DEFAULTS.is_file():
        raise ValueError(f"there is no file {DEFAULTS}; copy it from {ROOT}/config")
    return read_yaml(DEFAULTS)


def _merged(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Return `top` laid over `base`, key by key where both have a mapping."""
    return {**base, **top} | {
        key: _merged(base[key], top[key])
        for key in base.keys() & top.keys()
        if isinstance(base[key], dict) and isinstance(top[key], dict)
    }
