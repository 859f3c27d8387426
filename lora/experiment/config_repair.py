"""The valid part of a config that has problems, so that one message can list every problem.

What the config's models refuse is dropped, or replaced by a value that no other check refuses. The
rest is then checked against the tables of config/, like a valid config.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import ErrorDetails

from lora.experiment import config, config_errors, config_files
from lora.experiment.cell import METHODS, WEIGHT_TYPES
from lora.experiment.config import Config
from lora.experiment.config_errors import Location

SECTIONS: dict[str, dict[str, object] | None] = {
    "protocols": {},
    "overrides": {},
    "sources": {},
    "tasks": {},
    "tables": {},
    "subspace": None,
}
RANK = 24  # every number of weight types divides it, as table5 needs
ROUNDS = 9  # each finds what the one before hid, such as a list that is now empty


@dataclass(frozen=True)
class ValidPart:
    """What is left of a config.

    Attributes:
        config: Its valid part; the whole config if there are no problems.
        problems: What is wrong with the rest, one line each.
        wrong: The top-level keys that have problems.
        sources: The names of the sources that were dropped.
        tasks: The names of the tasks that were dropped.
    """

    config: Config
    problems: list[str]
    wrong: frozenset[str]
    sources: frozenset[str]
    tasks: frozenset[str]


def valid_part(written: object) -> ValidPart:
    """Return the valid part of a config, given as nested dicts and lists, and its problems."""
    value = config.resolved(written)
    found, defaults = config.validate(value), config_files.read_yaml(config_files.DEFAULTS)
    problems: list[str] = []
    wrong: set[Location] = set()
    for _ in range(ROUNDS):
        if isinstance(found, Config):
            break
        new = [one for one in found if not _is_consequence(one, wrong)]
        problems += config_errors.explain(new, config.json_schema())
        wrong |= {one["loc"] for one in found}
        value = _repaired(value, found, defaults)
        found = config.validate(value)
    if not isinstance(found, Config):
        found, wrong = config.parse(defaults), {(name,) for name in Config.model_fields}
    sources, tasks = (
        frozenset(str(location[1]) for location in wrong if location[:1] == (key,) and location[1:])
        for key in ("sources", "tasks")
    )
    keys = frozenset(str(location[0]) for location in wrong if location)
    return ValidPart(found, problems, keys, sources, tasks)


def _is_consequence(error: ErrorDetails, wrong: set[Location]) -> bool:
    """Return whether a list is too short because wrong items were dropped."""
    place = error["loc"]
    return error["type"] == "too_short" and any(one[: len(place)] == place for one in wrong)


def _repaired(value: Any, errors: list[ErrorDetails], defaults: Mapping[str, Any]) -> Any:
    """Return a copy of a config without what is wrong."""
    if not isinstance(value, dict):
        return dict(defaults) | SECTIONS
    result = copy.deepcopy(value)
    # From the end of a list to its start, so that the other indices stay right.
    for error in reversed(errors):
        *parents, last = (part for part in error["loc"] if part != "[key]")
        section: Any = result
        for part in parents:
            inside = isinstance(section, dict) and part in section
            inside |= isinstance(section, list) and isinstance(part, int) and part < len(section)
            section = section[part] if inside else None
        if isinstance(section, list):
            del section[int(last) : int(last) + 1]
        elif isinstance(section, dict):
            for key in [key for key in section if str(key) == str(last)]:
                del section[key]
            if error["type"] not in ("extra_forbidden", "invalid_key"):
                _fill(result, section, (*parents, last), defaults)
    return result


def _fill(
    config: dict[str, Any], section: dict[str, Any], place: Location, defaults: Mapping[str, Any]
) -> None:
    """Give a dropped key a value that no check refuses, if the config needs the key."""
    top, key = place[0], str(place[-1])
    if len(place) == 1:
        section[key] = copy.deepcopy(SECTIONS.get(key, defaults[key]))
    elif top == "subspace":
        config["subspace"] = None
    elif top in ("sources", "tasks"):
        config[str(top)].pop(place[1], None)
    elif top == "protocols" and len(place) == 2:
        section[key] = {"base": defaults["protocol"]}
    elif top == "protocols" and key == "base":
        section["base"] = defaults["protocol"]
    elif top == "tables" and key == "method":
        section.update(method="lora", weights=["q"], ranks=[RANK])
    elif top == "tables" and key == "ranks":
        section["ranks"] = [RANK]
    elif top == "tables" and key == "weights":
        word = METHODS.get(str(section.get("method"))) or WEIGHT_TYPES
        section["weights"] = [word.replace("<n>", "0")]
    elif top == "tables" and key in ("models", "tasks") and len(place) == 3:
        section[key] = list(defaults["tables"]["table2"][key])
