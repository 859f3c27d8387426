"""Estimate the cost of a grid: runs, device-hours, memory, disk, and time on n devices.

The estimate uses the config and what is already in the results folder. Nothing is downloaded or
trained. A value for a device that was not measured is marked as an estimate. The text for a
terminal is made in plan_text; the same numbers are written to CSV files.
"""

from dataclasses import dataclass
from pathlib import Path

from lora import files
from lora.columns import CELL_COLUMNS, RUN_COLUMNS
from lora.experiment import registry
from lora.experiment.cell import Cell
from lora.experiment.grid import Grid
from lora.experiment.registry import Device
from lora.files import Row
from lora.planning import makespan
from lora.planning.forecast import GIB, Forecaster
from lora.planning.makespan import Work

# Numbers of devices in makespan.csv and its figure: 1, 2, 3, 4, 6, 8, 12 and so on.
DEVICE_COUNTS = (1, *sorted(base * 2**power for base in (2, 3) for power in range(9)), 1000)

JOBS_COLUMNS = {  # plan/jobs.csv: one row per training job and device
    **{name: RUN_COLUMNS[name] for name in CELL_COLUMNS},
    "cells": (int, "cells that the job trains; the row names the first of them"),
    "runs": (int, "runs that it trains together"),
    "after": (int, "training jobs that must be done before it"),
    "device": (str, "name in config/devices.csv"),
    "known": (str, "source of the device's rates: measured, or estimate, not measured"),
    "seconds": (float, "forecast, start-up included"),
    "host_gib": (float, "forecast peak memory of the process"),
    "device_gib": (float, "forecast peak memory of the GPU; 0 on a CPU"),
    "fits": (str, "yes, or no: the job needs more memory than the device has"),
    "disk_gib": (float, "forecast size of the files that the job leaves in the results folder"),
    "train_tokens": (float, "training tokens of all its runs and epochs"),
    "flops": (float, "floating point operations, evaluations included"),
}
MAKESPAN_COLUMNS = {  # plan/makespan.csv: one row per device and number of devices
    "device": JOBS_COLUMNS["device"],
    "known": JOBS_COLUMNS["known"],
    "devices": (int, "number of devices that work on the grid"),
    "seconds": (float, "time until all jobs are done; the longest job starts first"),
}


@dataclass(frozen=True)
class Job:
    """One training job.

    Attributes:
        cells: Cells that it trains, of one model and method.
        seeds: Seeds of each cell.
        after: Indices of the jobs that must be done before it.
    """

    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def runs(self) -> int:
        """Number of runs."""
        return len(self.cells) * len(self.seeds)

    @property
    def name(self) -> str:
        """The first cell, and how many more there are."""
        first = self.cells[0]
        size = f" r{first.rank}" if first.rank else ""
        more = f" and {len(self.cells) - 1} cells more" if len(self.cells) > 1 else ""
        return (
            f"{first.task} {first.method} {first.weights}{size} "
            f"on {first.model}, {first.protocol}{more}"
        )


def jobs_of(grid: Grid) -> list[Job]:
    """Return the training jobs of a grid, in the order of its cells.

    A job comes after the jobs that train the cells its own cells start from.
    """
    packs = grid.packing.jobs()
    trained_by: dict[Cell, list[int]] = {}
    for index, (cells, _) in enumerate(packs):
        for cell in cells:
            trained_by.setdefault(cell, []).append(index)
    jobs = []
    for cells, seeds in packs:
        starts = {start for cell in cells if (start := grid.start_of(cell))}
        after = {index for start in starts for index in trained_by[start]}
        jobs.append(Job(cells, seeds, tuple(sorted(after))))
    return jobs


class Plan:
    """Forecasts of all jobs of a grid on every device of config/devices.csv.

    Attributes:
        grid: The grid.
        jobs: Its training jobs.
        forecaster: Makes the forecasts and collects the assumptions behind them.
        devices: The rows of config/devices.csv.
        forecasts: For each device the forecasts of the jobs, in their order.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid, self.jobs, self.forecaster = grid, jobs_of(grid), Forecaster(grid)
        self.devices = list(registry.devices().values())
        self.forecasts = {
            device: [self.forecaster.job(job.cells, len(job.seeds), device) for job in self.jobs]
            for device in self.devices
        }

    def works(self, device: Device) -> list[Work]:
        """Return the jobs on a device for `makespan`, in their order."""
        return [
            Work(forecast.seconds, job.after)
            for job, forecast in zip(self.jobs, self.forecasts[device], strict=True)
        ]

    def name(self, device: Device) -> str:
        """Return the name of a device; of a CPU with the threads of a job."""
        threads = self.grid.config.threads
        return (
            f"CPU, {threads} thread{'s' * (threads > 1)}" if device.kind == "cpu" else device.name
        )

    def makespans(self) -> list[Row]:
        """Return the rows of makespan.csv, with the columns MAKESPAN_COLUMNS."""
        return [
            dict(
                device=device.name,
                known=device.note,
                devices=count,
                seconds=makespan.makespan(works, count),
            )
            for device in self.devices
            for works in [self.works(device)]
            for count in DEVICE_COUNTS
        ]

    def rows(self) -> list[Row]:
        """Return the rows of jobs.csv, with the columns JOBS_COLUMNS."""
        return [
            {name: getattr(job.cells[0], name) for name in CELL_COLUMNS}
            | dict(
                cells=len(job.cells),
                runs=job.runs,
                after=len(job.after),
                device=device.name,
                known=device.note,
                seconds=forecast.seconds,
                host_gib=forecast.host_bytes / GIB,
                device_gib=forecast.device_bytes / GIB,
                fits="yes" if forecast.fits else "no",
                disk_gib=forecast.disk_bytes / GIB,
                train_tokens=forecast.tokens,
                flops=forecast.flops,
            )
            for device in self.devices
            for job, forecast in zip(self.jobs, self.forecasts[device], strict=True)
        ]


def write(plan: Plan, text: str, folder: Path) -> None:
    """Write plan.txt, jobs.csv and makespan.csv.

    Args:
        plan: The plan.
        text: Content of plan.txt.
        folder: Folder of the files. It is created.
    """
    folder = Path(folder)
    files.write_csv(folder / "jobs.csv", JOBS_COLUMNS, plan.rows())
    files.write_csv(folder / "makespan.csv", MAKESPAN_COLUMNS, plan.makespans())
    files.write_text(folder / "plan.txt", text)
