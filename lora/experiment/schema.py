"""A config against its JSON Schema, with messages for people: which key, what was got, what is allowed.

The schema is `workflow/schemas/config.schema.yaml`, where every key has its meaning. JSON Schema alone is not enough at
three places: to it 1.0 is a whole number (and would name a folder seed1.0), NaN is a number, and a key that YAML reads as
a number is no key at all. What needs facts to know (names of tasks, packs that fit) is `grid`. Long values are cut in
messages.
"""

import difflib
import functools
import json

import yaml

from lora.errors import shown
from lora.paths import ROOT

PATH = ROOT / "workflow/schemas/config.schema.yaml"
LONGEST = 200  # characters of a value that a message shows
ALLOWED = {  # keyword of JSON Schema -> what it allows, in words
    "enum": lambda value: " or ".join(json.dumps(choice) for choice in value),
    "minimum": lambda value: f"at least {value}",
    "maximum": lambda value: f"at most {value}",
    "exclusiveMinimum": lambda value: f"above {value}",
    "minItems": lambda value: f"at least {value} of them",
    "maxItems": lambda value: f"at most {value} of them",
    "minLength": lambda value: f"at least {value} character",
    "uniqueItems": lambda value: "each only once",
    "type": lambda value: " or ".join(value) if isinstance(value, list) else value,
    "pattern": lambda value: "letters, digits and . _ - after a letter or digit",
}


@functools.cache
def _validator():
    import jsonschema

    kinds = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
        dict(
            integer=lambda checker, value: type(value) is int,
            number=lambda checker, value: type(value) in (int, float) and value == value,
        )
    )
    kind = jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=kinds)
    return kind(yaml.safe_load(PATH.read_text(encoding="utf-8")))


def check(config) -> list[str]:
    """What in `config` the schema does not allow, one line each: key, what was got, what is allowed."""
    try:
        problems = _keys_that_are_no_text(config, "")
        errors = sorted(
            _validator().iter_errors(config),
            key=lambda error: [str(part) for part in error.absolute_path],
        )
    except RecursionError:
        return [
            "it is nested too deeply, or within itself; allowed: the keys of config/config.yaml"
        ]
    return list(dict.fromkeys([*problems, *map(_explain, errors)]))


def named(where: str, got: str, allowed) -> list[str]:
    """What is wrong with a name that must be one of `allowed`: nothing, or one line."""
    if got in allowed:
        return []
    return [
        f"{where}: got {shown(got)}; allowed: {', '.join(sorted(allowed))}{_did_you_mean(got, list(allowed))}"
    ]


def _keys_that_are_no_text(value, where: str) -> list[str]:
    problems = []
    if isinstance(value, dict):
        for key, inside in value.items():
            if not isinstance(key, str):
                problems.append(f"{where}key {shown(key)}; allowed: text, so write it in quotes")
            problems += _keys_that_are_no_text(inside, f"{where}{shown(key).strip(chr(39))}: ")
    elif isinstance(value, list):
        for inside in value:
            problems += _keys_that_are_no_text(inside, where)
    return problems


def _explain(error) -> str:
    where = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path
    ).lstrip(".")
    where = f"{where}: " if where else ""
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        unknown = [key for key in error.instance if key not in known]
        hints = [f"{shown(key)}{_did_you_mean(key, known)}" for key in unknown]
        return f"{where}unknown key {', '.join(hints)[: 5 * LONGEST]}; allowed: {', '.join(known)}"
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        return f"{where}missing key {', '.join(map(repr, missing))}"
    allowed = ALLOWED.get(error.validator, str)(error.validator_value)
    meaning = error.schema.get("description", "")
    return f"{where}got {_written(error.instance)}; allowed: {allowed}{f' ({meaning})' if meaning else ''}"


def _written(value) -> str:
    """A value as JSON, or what can be shown of one that is too long or no JSON."""
    try:
        written = json.dumps(value, default=str)
    except (ValueError, TypeError, RecursionError):
        return shown(value)
    return (
        written
        if len(written) <= LONGEST
        else f"{written[:LONGEST]}... ({len(written)} characters)"
    )


def _did_you_mean(got, known: list[str]) -> str:
    close = difflib.get_close_matches(str(got)[:LONGEST], known, 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
