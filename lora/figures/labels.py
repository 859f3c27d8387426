"""Labels in figures: models, metrics, methods, weight types and numbers of runs."""

import re
from collections.abc import Iterable

from lora.files import Row
from lora.tables.labels import METRICS, MODELS, SYMBOLS


def run_counts(rows: Iterable[Row]) -> str:
    """Return the number of finished runs of these cells, `n = 3` or `n = 2 to 3`."""
    counts = sorted({row["n"] for row in rows})
    return f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"


def model_name(name: str) -> str:
    """Return a model's name as printed in tables."""
    return MODELS.get(name, name)


def metric_with_unit(name: str) -> str:
    """Return a metric's name with its unit: `accuracy (%)`, `Matthews correlation × 100`."""
    unit = " (%)" if name in ("accuracy", "f1") else " × 100"
    return METRICS.get(name, name).removesuffix(" × 100") + unit


def plain(label: str) -> str:
    """Return a label without the marks of mathtext: `W_q, W_v` for `$W_q$, $W_v$`."""
    return re.sub(r"[${}\\]", "", label.replace(r"\Delta ", "Δ").replace(r"\leq", "≤"))


def weight_types(letters: str) -> str:
    """Return weight types as mathtext: `$W_q$, $W_v$` for `qv`."""
    return ", ".join(rf"$W_{letter}$" for letter in letters)


def method_symbol(method: str) -> str:
    """Return a method as the paper prints it: FT, Adpt with its letter raised, LoRA."""
    base, mark, letter = SYMBOLS[method].partition("^")
    return f"{base}$^{letter}$" if mark else base


def adapted_parts(row: Row) -> str:
    """Return what a cell's method adapts, or "" if the name of the method implies it."""
    if row["method"] == "lora":
        return weight_types(row["weights"])
    dropped = row["weights"].removeprefix("ffn") if row["method"] == "adapter_drop" else "0"
    return f"layers {int(dropped) + 1}+" if dropped != "0" else ""


def cell_name(row: Row) -> str:
    """Return a short label of a cell: its method, size, and what it adapts."""
    if row["method"] == "lora":
        return f"{method_symbol('lora')} {adapted_parts(row)} r={row['rank']}"
    size = f" {row['rank']}" if row["rank"] else ""
    parts = (method_symbol(row["method"]) + size, adapted_parts(row))
    return ", ".join(part for part in parts if part)
