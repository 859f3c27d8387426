"""Compare predicted with measured run time and memory.

A run.json records how long its pack trained, on which device, with how many runs, and the peak
memory. The same job is forecast for that device and precision, and the ratio is shown. Left out
and counted are runs from another pack than the config's, and runs on a device without a row in
config/devices.csv. Wall time includes the effect of other processes on the machine.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from lora import paths, run_record
from lora.experiment.cell import BASE_METHODS
from lora.experiment.registry import Device
from lora.planning.forecast import GIB
from lora.planning.plan import Plan
from lora.planning.plan_text import aligned, duration

ADVICE = "delete its folder, so that it trains again"


@dataclass(frozen=True)
class Outcome:
    """Predicted and measured values of one finished job.

    Attributes:
        name: The job's name.
        device: The row of config/devices.csv for the device that trained it.
        predicted_s: Forecast seconds of training, without start-up.
        measured_s: Measured seconds of training.
        predicted_bytes: Forecast peak memory of the process.
        measured_bytes: Measured peak memory; 0 if an older run.json does not record it.
    """

    name: str
    device: Device
    predicted_s: float
    measured_s: float
    predicted_bytes: float
    measured_bytes: int

    @property
    def ratio(self) -> float:
        """Measured over predicted seconds."""
        return self.measured_s / self.predicted_s


@dataclass(frozen=True)
class Outcomes:
    """Comparison of all finished jobs of a plan.

    Attributes:
        jobs: The jobs that could be compared.
        other_packs: Number of runs that were trained in another pack than the config's.
        unknown: Names of devices without a row in config/devices.csv.
    """

    jobs: tuple[Outcome, ...]
    other_packs: int
    unknown: tuple[str, ...]


def device_of(recorded: str, devices: list[Device]) -> Device | None:
    """Return the device with a name that is among the words of a run.json's `device`, or None."""
    return next(
        (device for device in devices if re.search(rf"\b{re.escape(device.name)}\b", recorded)),
        None,
    )


def compare(plan: Plan, runs_dir: str | Path) -> Outcomes:
    """Compare the finished jobs of a plan with their forecasts.

    Args:
        plan: The plan. Jobs with a missing run are left out.
        runs_dir: Folder of all runs.

    Raises:
        ValueError: If a run.json cannot be read.
    """
    outcomes: list[Outcome] = []
    other_packs, unknown = 0, set[str]()
    for job in plan.jobs:
        record_paths = [
            Path(paths.run_dir(runs_dir, cell.path, seed), paths.RUN_JSON)
            for cell in job.cells
            for seed in job.seeds
        ]
        if not all(path.is_file() for path in record_paths):
            continue
        records = [
            run_record.read(path, ADVICE, ("device", "speed.wall_s", "speed.pack"))
            for path in record_paths
        ]
        wall_s = [record.speed.wall_s or 0.0 for record in records]
        packs = {record.speed.pack for record in records}
        alone = packs == {1} and job.cells[0].method in BASE_METHODS
        if not alone and (packs != {job.runs} or len({record.device for record in records}) > 1):
            other_packs += len(records)
            continue
        device = device_of(records[0].device, plan.devices)
        if device is None:
            unknown.add(records[0].device)
            continue
        predicted = plan.forecaster.job(
            job.cells, len(job.seeds), device, records[0].base_precision
        )
        outcomes.append(
            Outcome(
                job.name,
                device,
                predicted_s=predicted.train_s,
                measured_s=sum(wall_s) if alone else max(wall_s),
                predicted_bytes=predicted.host_bytes,
                measured_bytes=max(record.speed.peak_host_bytes or 0 for record in records),
            )
        )
    return Outcomes(tuple(outcomes), other_packs, tuple(sorted(unknown)))


def text(outcomes: Outcomes) -> list[str]:
    """Return the comparison as lines for a terminal: a table and its summary.

    There are no lines if there is no finished job.
    """
    lines = []
    if outcomes.jobs:
        rows = [["job", "device", "predicted", "measured", "ratio", "GiB predicted", "measured"]]
        for job in outcomes.jobs:
            rows.append(
                [
                    job.name,
                    job.device.name,
                    duration(job.predicted_s),
                    duration(job.measured_s),
                    f"{job.ratio:.2f}",
                    f"{job.predicted_bytes / GIB:.2f}",
                    f"{job.measured_bytes / GIB:.2f}" if job.measured_bytes else "-",
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


def _summary(jobs: tuple[Outcome, ...]) -> str:
    """Median and range of the ratios of time and memory, as a sentence."""
    time = [job.ratio for job in jobs]
    memory = [job.measured_bytes / job.predicted_bytes for job in jobs if job.measured_bytes]
    summary = (
        f"{len(jobs)} jobs took {median(time):.2f} times the seconds predicted "
        f"(median; {min(time):.2f} to {max(time):.2f})"
    )
    if memory:
        summary += (
            f", {median(memory):.2f} times the memory ({min(memory):.2f} to {max(memory):.2f})"
        )
    if max(time) > 2:
        summary += "; other processes on the machine count too"
    return summary
