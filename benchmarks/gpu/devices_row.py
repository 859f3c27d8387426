"""The row of config/devices.csv for a measured device: `python -m gpu --row REPORT.json`.

The planner computes a step as flops / rate + layers * (layer_ms + run_layer_ms * runs). The three
values are fitted to the measured steps by least squares of relative errors, none below zero.
"""

import csv
import io
import json
from pathlib import Path

import numpy as np

from gpu import report
from gpu.settings import ROOT

DEVICES = ROOT / "config/devices.csv"


def fit(rows: list[dict]) -> tuple[float, float, float]:
    """Return the rate in GFLOP/s, and the milliseconds of a layer, and of a layer and run.

    Args:
        rows: Measurements of `lora` in one precision: packs of at least two sizes.

    Raises:
        ValueError: If they are too few.
    """
    from scipy.optimize import nnls

    if len(rows) < 3 or len({row["pack"] for row in rows}) < 2:
        raise ValueError("at least three measurements of two pack sizes are needed")
    matrix, ones = [], np.ones(len(rows))
    for row in rows:
        steps = row["steps"] - 1
        gflop = row["tokens"] * row["flops_per_token"] / 1e9
        layers = row["layers"] * steps / 1000
        matrix.append(np.array([gflop, layers, layers * row["pack"]]) / row["train_s"])
    scale = np.abs(matrix).max(axis=0)
    seconds_per_gflop, layer_ms, run_layer_ms = nnls(np.array(matrix) / scale, ones)[0] / scale
    if not seconds_per_gflop:
        raise ValueError("the measured steps do not depend on their size; measure larger ones")
    return 1 / seconds_per_gflop, float(layer_ms), float(run_layer_ms)


def row_of(results: dict[str, dict]) -> dict[str, str]:
    """Return the row of devices.csv of a report."""
    machine = results["machine"]["values"]
    ours = [
        row
        for row in report.speed_rows(results)
        if row["way"] == "ours"
        and row["status"] == "ok"
        and row["precision"] == machine["precision"]
    ]
    rate, layer_ms, run_layer_ms = fit(ours)
    both = {"bf16": rate, "fp32": rate}
    other = "fp32" if machine["precision"] == "bf16" else "bf16"
    both[other] *= machine[f"gemm_{other}"] / machine[f"gemm_{machine['precision']}"]
    return dict(
        device=name_of(machine["device_name"]),
        kind=machine["device"],
        bf16_gflops=f"{both['bf16']:.0f}" if machine["precision"] == "bf16" else "",
        fp32_gflops=f"{both['fp32']:.0f}",
        layer_ms=f"{layer_ms:.3g}",
        run_layer_ms=f"{run_layer_ms:.3g}",
        startup_s=f"{max(row['startup_s'] for row in ours):.0f}",
        memory_gib=f"{machine['memory_gib']:.0f}" if machine["memory_gib"] else "",
        known="measured",
        source=f"{machine['device_name']}: fit to {len(ours)} timings of `make gpu`, "
        f"{machine['date']}, commit {machine['commit']}; the other precision by the ratio of "
        "matrix products",
    )


def name_of(device_name: str) -> str:
    """Return the name in devices.csv: that of a row that is part of it, else the whole name."""
    known = [row["device"] for row in _read()[1] if row["kind"] != "cpu"]
    found = [name for name in known if name.lower() in device_name.lower()]
    return max(found, key=len, default=device_name)


def update(path: Path, write: bool) -> str:
    """Return the row of a report as CSV; with `write` put it into devices.csv."""
    row = row_of(json.loads(path.read_text(encoding="utf-8")))
    header, rows = _read()
    if write:
        names = [one["device"] for one in rows]
        position = names.index(row["device"]) if row["device"] in names else len(rows)
        rows[position : position + 1] = [row]
        DEVICES.write_text(_csv(header, rows), encoding="utf-8")
    return _csv(header, [row]).splitlines()[1]


def _read() -> tuple[list[str], list[dict[str, str]]]:
    with open(DEVICES, encoding="utf-8", newline="") as handle:
        reader = csv.DictReader(handle)
        rows = list(reader)
        return list(reader.fieldnames or ()), rows


def _csv(header: list[str], rows: list[dict[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, header, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
