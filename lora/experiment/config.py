"""A config as a person gives it: a YAML file laid over config/config.yaml as Snakemake lays it, or JSON text from a rule.

YAML is forgiving in ways that cost a night: a key that is written twice counts once, the last time, and nothing says so.
Here that stops it, as does a file that is no YAML or no mapping. What the keys mean is checked by `schema` and `grid`. Of
YAML's ways to write things only those of `safe_load` are taken, so a config can run nothing.
"""

from pathlib import Path

import yaml

from lora import files
from lora.errors import shown
from lora.paths import ROOT

DEFAULTS = ROOT / "config/config.yaml"


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, but that a mapping has each key once."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict:
    written = [
        key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"
    ]
    twice = next(
        (
            key
            for key, _ in node.value
            if isinstance(key.value, str) and written.count(key.value) > 1
        ),
        None,
    )
    if twice is not None:
        problem = f"key {shown(twice.value)} is there more than once"
        raise yaml.constructor.ConstructorError(None, None, problem, twice.start_mark)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: Path) -> dict:
    """The mapping in a YAML file, empty where the file is; raises ValueError that names file and line."""
    text = files.read_text(path)
    try:
        found = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        why = shown(" ".join(str(error).replace('in "<unicode string>", ', "at ").split()), 400)
        raise ValueError(
            f"{path} cannot be read as YAML: {why}; expected keys and values as in {DEFAULTS.name}"
        ) from None
    if not isinstance(found, dict | None):
        raise ValueError(
            f"{path} holds {shown(found)}; allowed: keys of {DEFAULTS.name} with their values"
        )
    return found or {}


def read(*written: str) -> dict:
    """A config from YAML files, laid over config/config.yaml one after another, or from JSON text, which is whole; raises
    ValueError."""
    if len(written) == 1 and written[0].lstrip().startswith("{"):
        return files.parse_object(
            written[0], "the config", "give a YAML file, or a JSON object with every key"
        )
    config = read_yaml(DEFAULTS)
    for path in written:
        config = _over(config, read_yaml(Path(path)))
    return config


def _over(base: dict, top: dict) -> dict:
    """`top` laid over `base`, key by key where both have a mapping."""
    inner = [
        key
        for key in base.keys() & top.keys()
        if isinstance(base[key], dict) and isinstance(top[key], dict)
    ]
    return base | top | {key: _over(base[key], top[key]) for key in inner}
