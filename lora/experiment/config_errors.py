"""Messages about a config: which key, what was given, what is allowed.

pydantic finds the problems; this module words them, with "did you mean" for names.
"""

import difflib
import json
import re
from collections.abc import Collection, Sequence
from typing import Any

from pydantic_core import ErrorDetails

from lora.errors import shown

TITLE = "The config is not valid:"
LONGEST = 200  # characters of a value in a message
ALLOWED = {  # type of a pydantic error -> what is allowed
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "string_unicode": "text",
    "tuple_type": "a list",
    "dict_type": "keys with values",
    "model_type": "keys with values",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "greater_than": "above {gt:g}",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
    "string_too_short": "at least {min_length} character",
    "string_pattern_mismatch": "letters, digits and . _ - after a letter or digit",
    "literal_error": "{expected}",
}
Location = tuple[int | str, ...]
Schema = dict[str, Any]  # a JSON Schema, as pydantic returns it


def explain(errors: Sequence[ErrorDetails], schema: Schema) -> list[str]:
    """Return one line per problem that pydantic found.

    Args:
        errors: The problems, as the config's models report them.
        schema: The JSON Schema of the config, for descriptions and names of keys.
    """
    lines: dict[str, None] = {}
    missing: dict[Location, list[str]] = {}
    unknown: dict[Location, list[str]] = {}
    for problem in errors:
        parent, last = problem["loc"][:-1], (problem["loc"] or ("",))[-1]
        if problem["type"] == "too_short" and len(problem["input"]) >= problem["ctx"]["min_length"]:
            continue  # the items are wrong, and have their own lines
        if problem["type"] == "missing":
            missing.setdefault(parent, []).append(str(last))
        elif problem["type"] == "extra_forbidden" and problem["loc"] == ("runs",):
            value = problem["input"] if problem["input"] in ("train", "partial") else "existing"
            lines[f"runs: this key is now called mode; write mode: {value}"] = None
        elif problem["type"] == "extra_forbidden":
            unknown.setdefault(parent, []).append(str(last))
        elif problem["type"] == "invalid_key" or last == "[key]":
            lines[_explain_key(parent, problem)] = None
        else:
            lines[_explain_value(problem, schema)] = None
    for parent, keys in unknown.items():
        known = list(_node(parent, schema).get("properties", {}))
        hints = ", ".join(f"{shown(key)}{_did_you_mean(key, known)}" for key in keys)
        allowed = f"; allowed: {', '.join(known)}"
        lines[f"{_where(parent)}unknown key {hints[: 5 * LONGEST]}{allowed}"] = None
    for parent, keys in missing.items():
        lines[f"{_where(parent)}missing key {', '.join(map(repr, keys))}"] = None
    return list(lines)


def check_choice(where: str, value: str, allowed: Collection[str]) -> list[str]:
    """Return what is wrong with a name that must be one of `allowed`: no line or one."""
    if value in allowed:
        return []
    names = ", ".join(sorted(allowed))
    return [f"{where}: got {shown(value)}; allowed: {names}{_did_you_mean(value, list(allowed))}"]


def _explain_key(parent: Location, problem: ErrorDetails) -> str:
    if isinstance(problem["input"], str):
        allowed = ALLOWED.get(problem["type"], "text")
        return f"{_where(parent[:-1])}key {shown(problem['input'])}; allowed: {allowed}"
    where = _where(parent if problem["type"] == "invalid_key" else parent[:-1])
    return f"{where}key {shown(problem['input'])}; allowed: text, so write it in quotes"


def _explain_value(problem: ErrorDetails, schema: Schema) -> str:
    wording = ALLOWED.get(problem["type"])
    allowed = wording.format(**problem.get("ctx", {})) if wording else problem["msg"]
    allowed += _how_to_write(problem)
    meaning = _node(problem["loc"], schema).get("description", "") if problem["loc"] else ""
    about = f" ({meaning.rstrip('.')})" if meaning else ""
    return f"{_where(problem['loc'])}got {_written(problem['input'])}; allowed: {allowed}{about}"


def _how_to_write(problem: ErrorDetails) -> str:
    """Return what to write for one value without brackets, or a number without quotes."""
    value = problem["input"]
    if problem["type"] == "tuple_type" and type(value) in (int, str) and value != "null":
        items = ", ".join(re.findall(r"[^\s,;\[\]]+", str(value)))
        return f"; write [{items}]" if 0 < len(items) <= LONGEST else ""
    if problem["type"] == "string_type" and isinstance(value, int | float):
        # --config drops quotes, so a number can only be told apart by more text.
        folder = f", or ./{value} after --config" if problem["loc"] == ("results",) else ""
        return f'; write "{value}" in quotes in a config file{folder}'
    return ""


def _where(location: Location) -> str:
    """Return a key's path as in `tables.table2.tasks[0]: `; empty for the whole config."""
    path = "".join(
        f"[{part}]" if isinstance(part, int) else f".{shown(part)[1:-1]}" for part in location
    )
    return f"{path.lstrip('.')}: " if path else ""


def _node(location: Location, schema: Schema) -> Schema:
    """Return the part of a JSON Schema that describes this key; empty if there is none."""
    node = schema
    for part in location:
        if isinstance(part, int):
            inner = node.get("items")
        else:
            inner = node.get("properties", {}).get(part, node.get("additionalProperties"))
        if not isinstance(inner, dict):
            return {}
        node = _resolved(inner, schema)
    return node


def _resolved(node: Schema, schema: Schema) -> Schema:
    """Follow a reference, and choose the part that is not null of an optional value."""
    about = {"description": node["description"]} if "description" in node else {}
    if "anyOf" in node:
        node = next((one for one in node["anyOf"] if one.get("type") != "null"), {})
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    return node | about


def _written(value: object) -> str:
    """Return a value as JSON, cut to LONGEST characters, or as Python writes it."""
    try:
        text = json.dumps(value, default=str)
    except (ValueError, TypeError, RecursionError):
        return shown(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text)} characters)"


def _did_you_mean(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name[:LONGEST], known, 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
