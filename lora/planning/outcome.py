"""Compare predicted with measured run time and memory.

A run.json records how long its pack trained, on which device, with how many runs, and the peak
memory. The same job is forecast for that device and precision, and the ratio is shown. Left out
and counted are runs from another pack than the config's, and runs on a device without a row in
config/devices.csv. Wall time includes the effect of other processes on the machine.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from lora import run_record
from lora.experiment.registry import Device
from lora.planning.forecast import GIB

if TYPE_CHECKING:
    from lora.planning.plan import Plan

ADVICE = "delete its folder, so that it trains again"


@dataclass(frozen=True)
class Outcome:
    """One job that ran: seconds of training without start-up and peak host bytes, predicted and
    measured; 0 bytes measured is what an older run.json does not say.
    """

    name: str
    device: Device
    predicted_s: float
    measured_s: float
    predicted_bytes: float
    measured_bytes: int


@dataclass(frozen=True)
class Outcomes:
    """The jobs that could be compared, and how many could not: runs of other packs, and of
    unknown devices.
    """

    jobs: tuple[Outcome, ...]
    other_packs: int
    unknown: tuple[str, ...]


def device_of(written: str, devices: list[Device]) -> Device | None:
    """The row of config/devices.csv for a run.json's device; the name is one of its words."""
    return next(
        (device for device in devices if re.search(rf"\b{re.escape(device.name)}\b", written)), None
    )


def of(plan: "Plan", runs_dir: Path) -> Outcomes:
    """Every job of the plan of which all runs are there. Raises ValueError for a run.json that
    cannot be read.
    """
    found: list[Outcome] = []
    other_packs, unknown = 0, set[str]()
    for job in plan.jobs:
        paths = [
            runs_dir / cell.path / f"seed{seed}" / "run.json"
            for cell in job.cells
            for seed in job.seeds
        ]
        if not all(path.is_file() for path in paths):
            continue
        records = [
            run_record.read(path, ADVICE, ("device", "speed.wall_s", "speed.pack"))
            for path in paths
        ]
        wall_s = {record.speed.wall_s or 0.0 for record in records}
        together = {record.speed.pack for record in records}
        alone = together == {1} and job.cells[0].method in ("ft", "bitfit")
        if not alone and (together != {job.runs} or len({record.device for record in records}) > 1):
            other_packs += len(records)
            continue
        device = device_of(records[0].device, plan.devices)
        if device is None:
            unknown.add(records[0].device)
            continue
        predicted = plan.forecaster.job(
            job.cells, len(job.seeds), device, records[0].base_precision
        )
        peaks = [record.speed.peak_host_bytes or 0 for record in records]
        measured_s = sum(record.speed.wall_s or 0.0 for record in records) if alone else max(wall_s)
        found.append(
            Outcome(
                job.name, device, predicted.train_s, measured_s, predicted.host_bytes, max(peaks)
            )
        )
    return Outcomes(tuple(found), other_packs, tuple(sorted(unknown)))


def text(
    outcomes: Outcomes, aligned: Callable[..., list[str]], duration: Callable[[float], str]
) -> list[str]:
    """The table and its summary for a terminal; nothing where no job is there."""
    lines = []
    if outcomes.jobs:
        rows = [["job", "device", "predicted", "measured", "ratio", "GiB predicted", "measured"]]
        for one in outcomes.jobs:
            measured = f"{one.measured_bytes / GIB:.2f}" if one.measured_bytes else "-"
            rows.append(
                [
                    one.name,
                    one.device.name,
                    duration(one.predicted_s),
                    duration(one.measured_s),
                    f"{_ratio(one):.2f}",
                    f"{one.predicted_bytes / GIB:.2f}",
                    measured,
                ]
            )
        lines += [
            "PREDICTED AND MEASURED, training without start-up; "
            "the ratio is measured over predicted",
            *aligned(rows, (0, 1)),
        ]
        lines.append(f"  {_summary(outcomes.jobs)}")
    if outcomes.other_packs:
        lines.append(
            f"  {outcomes.other_packs} runs were trained in another pack "
            f"than the config's: not compared"
        )
    if outcomes.unknown:
        lines.append(f"  no row in config/devices.csv: {', '.join(outcomes.unknown)}")
    return lines


def _ratio(one: Outcome) -> float:
    return one.measured_s / one.predicted_s


def _summary(jobs: tuple[Outcome, ...]) -> str:
    ratios = [_ratio(one) for one in jobs]
    spread = f"median; {min(ratios):.2f} to {max(ratios):.2f}"
    told = f"{len(jobs)} jobs took {median(ratios):.2f} times the seconds predicted ({spread})"
    held = [one.measured_bytes / one.predicted_bytes for one in jobs if one.measured_bytes]
    held_words = (
        f", {median(held):.2f} times the memory ({min(held):.2f} to {max(held):.2f})"
        if held
        else ""
    )
    hint = "; whatever else kept the machine busy is in it" if max(ratios) > 2 else ""
    return f"{told}{held_words}{hint}"
