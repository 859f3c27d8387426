"""Estimate the cost of a grid: runs, device-hours, memory, disk, and time on n devices.

The estimate uses the config and what is already in the results folder. Nothing is downloaded or
trained. A value of a device that was not measured is marked as an estimate on its line. The text
is for a terminal; the same numbers are written to CSV files and a figure. Runs that exist are
compared with their forecast at the end.
"""

from dataclasses import dataclass
from pathlib import Path

from lora import files
from lora.columns import CELL_COLUMNS, RUN_COLUMNS
from lora.experiment import registry
from lora.experiment.cell import Cell
from lora.experiment.grid import Grid
from lora.experiment.registry import Device
from lora.planning import forecast, makespan, outcome
from lora.planning.forecast import GIB, Forecaster
from lora.planning.makespan import Work

SHOWN = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)  # numbers of devices in the table
DRAWN = tuple(sorted({*SHOWN, 3, 6, 12, 24, 48, 96, 192, 384, 768}))
LONGEST = 5  # jobs and assumptions that are listed

JOBS_COLUMNS = {  # plan/jobs.csv: one row per training job and device
    **{name: RUN_COLUMNS[name] for name in CELL_COLUMNS},
    "cells": (int, "cells that the job trains; the row names the first of them"),
    "runs": (int, "runs that it trains together"),
    "after": (int, "training jobs that must be done before it"),
    "device": (str, "name in config/devices.csv"),
    "known": (str, "of the device's rates: measured, or estimate, not measured"),
    "seconds": (float, "forecast, start-up included"),
    "host_gib": (float, "forecast peak memory of the process"),
    "device_gib": (float, "forecast peak memory of the GPU; 0 on a CPU"),
    "fits": (str, "yes, or no: the job needs more memory than the device has"),
    "disk_gib": (float, "forecast: what the job leaves in the results folder"),
    "train_tokens": (float, "training tokens of all its runs and epochs"),
    "flops": (float, "floating point operations, evaluations included"),
}
MAKESPAN_COLUMNS = {  # plan/makespan.csv: one row per device and number of devices
    "device": JOBS_COLUMNS["device"],
    "known": JOBS_COLUMNS["known"],
    "devices": (int, "how many of them work on the grid"),
    "seconds": (float, "until all jobs are done, longest first"),
}


@dataclass(frozen=True)
class Job:
    """One training job: its cells, the seeds of each, and the places of the jobs it waits for."""

    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def runs(self) -> int:
        return len(self.cells) * len(self.seeds)

    @property
    def name(self) -> str:
        first = self.cells[0]
        size = f" r{first.rank}" if first.rank else ""
        more = f" and {len(self.cells) - 1} cells more" if len(self.cells) > 1 else ""
        return (
            f"{first.task} {first.method} {first.weights}{size} "
            f"on {first.model}, {first.protocol}{more}"
        )


def jobs_of(grid: Grid) -> list[Job]:
    """The training jobs of a grid with the edges between them: starts from the best run of
    another cell.
    """
    listed = grid.packing.jobs()
    trains: dict[Cell, list[int]] = {}
    for place, (cells, _) in enumerate(listed):
        for cell in cells:
            trains.setdefault(cell, []).append(place)
    found = []
    for cells, seeds in listed:
        starts = dict.fromkeys(start for cell in cells if (start := grid.start_of(cell)))
        found.append(
            Job(cells, seeds, tuple(sorted({place for start in starts for place in trains[start]})))
        )
    return found


class Plan:
    """The forecasts of all jobs of a grid on every device of config/devices.csv."""

    def __init__(self, grid: Grid) -> None:
        self.grid, self.jobs, self.forecaster = grid, jobs_of(grid), Forecaster(grid)
        self.devices = list(registry.devices().values())
        self.of = {
            device: [self.forecaster.job(job.cells, len(job.seeds), device) for job in self.jobs]
            for device in self.devices
        }

    def works(self, device: Device) -> list[Work]:
        return [
            Work(one.seconds, job.after)
            for job, one in zip(self.jobs, self.of[device], strict=True)
        ]

    def name(self, device: Device) -> str:
        threads = self.grid.config.threads
        return (
            f"CPU, {threads} thread{'s' * (threads > 1)}" if device.kind == "cpu" else device.name
        )

    def makespans(self) -> list[dict]:
        """Rows of MAKESPAN_COLUMNS."""
        return [
            dict(
                device=device.name,
                known=device.note,
                devices=count,
                seconds=makespan.makespan(works, count),
            )
            for device in self.devices
            for works in [self.works(device)]
            for count in DRAWN
        ]

    def rows(self) -> list[dict]:
        """Rows of JOBS_COLUMNS."""
        return [
            {name: getattr(job.cells[0], name) for name in CELL_COLUMNS}
            | dict(
                cells=len(job.cells),
                runs=job.runs,
                after=len(job.after),
                device=device.name,
                known=device.note,
            )
            | dict(
                seconds=one.seconds,
                host_gib=one.host_bytes / GIB,
                device_gib=one.device_bytes / GIB,
            )
            | dict(
                fits="yes" if one.fits else "no",
                disk_gib=one.disk_bytes / GIB,
                train_tokens=one.tokens,
                flops=one.flops,
            )
            for device in self.devices
            for job, one in zip(self.jobs, self.of[device], strict=True)
        ]


def duration(seconds: float) -> str:
    """A time in the unit that a person would say it in."""
    for most, unit, word, places in (
        (120, 1, "s", 0),
        (600, 60, "min", 1),
        (7200, 60, "min", 0),
        (360_000, 3600, "h", 1),
    ):
        if seconds < most:
            return f"{seconds / unit:.{places}f} {word}"
    return f"{seconds / 86400:,.{1 if seconds < 100 * 86400 else 0}f} d"


def number(value: float) -> str:
    """A large number with the word for its size."""
    for size, word in ((1e18, "x 10^18"), (1e15, "x 10^15"), (1e9, "billion"), (1e6, "million")):
        if value >= size:
            return f"{value / size:,.2f} {word}"
    return f"{value:,.0f}"


def aligned(rows: list[list[str]], left: tuple[int, ...] = (0,)) -> list[str]:
    """Rows of text in columns, those in `left` flush left and the others right; the last, a
    note, is not filled up.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    last = len(widths) - 1
    return [
        "  "
        + "  ".join(
            cell
            if place == last and place in left
            else cell.ljust(width)
            if place in left
            else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def text(plan: Plan, runs_dir: Path | None) -> str:
    """The plan for a terminal; with what came of the runs in `runs_dir`."""
    parts = [
        _size(plan),
        _devices(plan),
        _makespans(plan),
        _longest(plan),
        _asked_for(plan),
        _said(plan),
    ]
    if runs_dir is not None:
        parts.append(outcome.text(outcome.of(plan, Path(runs_dir)), aligned, duration))
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _size(plan: Plan) -> list[str]:
    grid, some = plan.grid, plan.of[plan.devices[0]]
    disk, shared = sum(one.disk_bytes for one in some), forecast.shared_disk_bytes(plan.forecaster)
    edges = sum(len(job.after) for job in plan.jobs)
    rows = [
        [
            "runs",
            f"{len(grid.cells) * len(grid.seeds):,}",
            f"{len(grid.cells):,} cells, {len(grid.seeds)} seeds each",
        ],
        [
            "training jobs",
            f"{len(plan.jobs):,}",
            f"pack: [{', '.join(grid.config.pack)}], {edges} edges between them",
        ],
        ["training tokens", number(sum(one.tokens for one in some)), "of all runs and epochs"],
        [
            "operations",
            number(sum(one.flops for one in some)),
            "floating point, evaluations included",
        ],
        [
            "disk",
            f"{(disk + shared) / GIB:,.1f} GiB",
            f"runs and their states {disk / GIB:,.1f}, models and tokens "
            f"{shared / GIB:,.1f}; text of data sets not counted",
        ],
    ]
    return [
        f"PLAN of {grid.config.results}: from the config alone, nothing is fetched or trained",
        *aligned(rows, (0, 2)),
    ]


def _devices(plan: Plan) -> list[str]:
    rows = [
        ["device", "device-hours", "longest job", "longest chain", "host GiB", "GPU GiB", "rates"]
    ]
    for device in plan.devices:
        found, works = plan.of[device], plan.works(device)
        chain = sum(works[place].seconds for place in makespan.longest_chain(works))
        gpu = (
            f"{max(one.device_bytes for one in found) / GIB:.1f}" if device.kind == "cuda" else "-"
        )
        unfit = sum(not one.fits for one in found)
        note = device.note + (
            f"; {unfit} of {len(found)} jobs do not fit its memory" if unfit else ""
        )
        hours, longest = (
            f"{sum(one.seconds for one in found) / 3600:,.1f}",
            duration(max(one.seconds for one in found)),
        )
        host = f"{max(one.host_bytes for one in found) / GIB:.1f}"
        rows.append([plan.name(device), hours, longest, duration(chain), host, gpu, note])
    return [
        "ONE DEVICE OF EACH KIND, for the whole grid; memory is the peak of the largest job",
        *aligned(rows, (0, 6)),
    ]


def _makespans(plan: Plan) -> list[str]:
    enough = next((count for count in SHOWN if count >= len(plan.jobs)), SHOWN[-1])
    counts = [count for count in SHOWN if count <= enough]
    rows = [["devices", *map(str, counts), ""]]
    for device in plan.devices:
        works = plan.works(device)
        rows.append(
            [
                plan.name(device),
                *(duration(makespan.makespan(works, count)) for count in counts),
                device.note,
            ]
        )
    title = "UNTIL ALL IS DONE on n of them, the longest job first"
    more = (
        ""
        if enough == SHOWN[-1]
        else f"; more than {len(plan.jobs)} change nothing, smaller packs (pack:) would"
    )
    return [title + more, *aligned(rows, (0, len(counts) + 1))]


def _longest(plan: Plan) -> list[str]:
    """The longest chain, and the longest jobs, on the device that requests are made for."""
    device = forecast.planning_device(plan.grid)
    found, works = plan.of[device], plan.works(device)
    order = sorted(range(len(works)), key=lambda place: -works[place].seconds)[:LONGEST]
    rows = [
        [plan.jobs[place].name, f"{plan.jobs[place].runs} runs", duration(found[place].seconds)]
        for place in order
    ]
    chain = [plan.jobs[place].name for place in makespan.longest_chain(works)]
    said = [f"  longest chain: {', then '.join(chain)}"] if len(chain) > 1 else []
    return [f"THE LONGEST JOBS on {plan.name(device)} ({device.note})", *aligned(rows), *said]


def _asked_for(plan: Plan) -> list[str]:
    device = forecast.planning_device(plan.grid)
    memory = [forecast.mem_mb(one, 1) for one in plan.of[device]]
    minutes = [forecast.runtime_min(one, 1) for one in plan.of[device]]
    lines = ["WHAT A CLUSTER JOB ASKS FOR, doubled at each further attempt"]
    spread = [
        f"{min(values):,} to {max(values):,}" if min(values) < max(values) else f"{max(values):,}"
        for values in (memory, minutes)
    ]
    return [
        *lines,
        f"  mem_mb {spread[0]}; runtime {spread[1]} minutes, for "
        f"{plan.name(device)} (plan_device, {device.note})",
    ]


def _said(plan: Plan) -> list[str]:
    said = [line for line in plan.forecaster.said if "estimate" not in line]
    guessed = sorted({line.split()[0] for line in plan.forecaster.said if "estimate" in line})
    if guessed:
        said.append(
            f"lengths of {', '.join(guessed)}: in part estimates "
            f"(config/lengths.csv), until prepare has counted them"
        )
    return ["ASSUMPTIONS", *(f"  {line}" for line in said)] if said else []


def write(plan: Plan, told: str, folder: Path) -> None:
    """Write plan.txt, jobs.csv and makespan.csv into `folder`."""
    folder = Path(folder)
    files.write_csv(folder / "jobs.csv", JOBS_COLUMNS, plan.rows())
    files.write_csv(folder / "makespan.csv", MAKESPAN_COLUMNS, plan.makespans())
    files.write_text(folder / "plan.txt", told)
