"""The default config, with changes."""

import copy

import yaml

from helpers.models import ROOT

DEFAULT = yaml.safe_load((ROOT / "config/config.yaml").read_text())


def changed(**changes) -> dict:
    """Return the default config with changes; `a__b=1` sets key b of key a."""
    config = copy.deepcopy(DEFAULT)
    for path, value in changes.items():
        *parents, last = path.split("__")
        section = config
        for parent in parents:
            section = section[parent]
        section[last] = value
    return config
