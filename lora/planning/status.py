"""State of a grid: which runs are done, failed, running or missing, and the time that is left."""

import math
import re
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

from lora import paths, run_record
from lora.experiment import job_progress
from lora.experiment.cell import Cell
from lora.experiment.job_progress import JobProgress
from lora.planning import forecast, makespan, outcome
from lora.planning.makespan import Work
from lora.planning.plan import Job, Plan
from lora.planning.plan_text import duration
from lora.tables.labels import Line, Page, Section, method_name, model_name, number, spread

DONE, FAILED, RUNNING, MISSING = "done", "failed", "running", "missing"
STATES = (DONE, FAILED, RUNNING, MISSING)
ADVICE = "delete its folder, so that it trains again"
ERROR = re.compile(r"lora [a-z-]+: (error: .*|stopped by .*)")


@dataclass(frozen=True)
class CellStatus:
    """One cell.

    Attributes:
        cell: The cell.
        states: The state of each seed: done, failed (it ended as non-finite), running or missing.
        values: Best metric of each run that is done.
        error: Last error in the log of a job that did not end well; empty if there is none.
    """

    cell: Cell
    states: dict[int, str]
    values: tuple[float, ...]
    error: str

    def count(self, state: str) -> int:
        """Return the number of runs in this state."""
        return list(self.states.values()).count(state)


@dataclass(frozen=True)
class GridStatus:
    """All cells of a grid.

    Attributes:
        cells: The cells, in the order of the grid.
        running: Progress of the jobs that are running.
        left_s: Seconds until every run is done; 0 if every run is.
        speed: What `left_s` is based on: `measured` or `forecast`.
    """

    cells: tuple[CellStatus, ...]
    running: tuple[JobProgress, ...]
    left_s: float
    speed: str

    def count(self, state: str) -> int:
        """Return the number of runs in this state."""
        return sum(cell.count(state) for cell in self.cells)

    @property
    def runs(self) -> int:
        """Number of runs of the grid."""
        return sum(len(cell.states) for cell in self.cells)


def read(plan: Plan, at_once: int = 1) -> GridStatus:
    """Return the state of a plan's grid, from its results folder.

    Args:
        plan: The plan.
        at_once: Training jobs that run at the same time, for the time left. If more are running,
            their number is used.

    Raises:
        ValueError: If a run.json cannot be read.
    """
    progress = {job: _progress(plan, job) for job in plan.jobs}
    parts = [
        _cell_status(plan, job, cell, progress[job]) for job in plan.jobs for cell in job.cells
    ]
    cells = tuple(
        _merged([one for one in parts if one.cell == cell])
        for cell in dict.fromkeys(one.cell for one in parts)
    )
    compared = outcome.compare(plan, paths.runs_dir(plan.grid.config.results)).jobs
    ratio = statistics.median(job.ratio for job in compared) if compared else 1.0
    return GridStatus(
        cells,
        running=tuple(found for found in progress.values() if found),
        left_s=_left_s(plan, cells, progress, ratio, at_once),
        speed="measured" if compared else "forecast",
    )


def _log_dir(plan: Plan, job: Job) -> Path:
    axes = plan.grid.packing.axes
    pattern = paths.train_log_dir(paths.logs_dir(plan.grid.config.results), axes)
    return Path(pattern.format(**vars(job.cells[0]), seed=job.seeds[0]))


def _progress(plan: Plan, job: Job) -> JobProgress | None:
    return job_progress.read(_log_dir(plan, job) / job_progress.NAME)


def _cell_status(plan: Plan, job: Job, cell: Cell, progress: JobProgress | None) -> CellStatus:
    """Return the state of the runs of a cell that a job trains."""
    runs = paths.runs_dir(plan.grid.config.results)
    states: dict[int, str] = {}
    values: list[float] = []
    for seed in job.seeds:
        folder = Path(paths.run_dir(runs, cell.path, seed))
        if not (folder / paths.METRICS).is_file() or not (folder / paths.RUN_JSON).is_file():
            states[seed] = RUNNING if progress else MISSING
            continue
        record = run_record.read(folder / paths.RUN_JSON, ADVICE, ("status",))
        states[seed] = DONE if record.status == "ok" else FAILED
        if record.best.value is not None and record.status == "ok":
            values.append(record.best.value)
    error = ""
    if MISSING in states.values():
        error = last_error(_log_dir(plan, job) / paths.TRAIN_LOG)
    return CellStatus(cell, states, tuple(values), error)


def _merged(parts: list[CellStatus]) -> CellStatus:
    """Return a cell whose seeds several jobs train as one."""
    states = {seed: state for part in parts for seed, state in part.states.items()}
    values = tuple(value for part in parts for value in part.values)
    return CellStatus(
        parts[0].cell,
        dict(sorted(states.items())),
        values,
        next((part.error for part in parts if part.error), ""),
    )


def last_error(log: Path) -> str:
    """Return the last error in a job's log, empty if there is none."""
    try:
        found = ERROR.findall(log.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ""
    return str(found[-1]).removeprefix("error: ") if found else ""


def _left_s(
    plan: Plan,
    cells: tuple[CellStatus, ...],
    progress: dict[Job, JobProgress | None],
    ratio: float,
    at_once: int,
) -> float:
    """Return the seconds until all jobs are done."""
    device = forecast.planning_device(plan.grid)
    states = {one.cell: one.states for one in cells}
    works = []
    for job in plan.jobs:
        found = progress[job]
        missing = sum(
            states[cell][seed] in (MISSING, RUNNING) for cell in job.cells for seed in job.seeds
        )
        if found:
            seconds = found.left_s
        elif missing:
            predicted = plan.forecaster.job(job.cells, len(job.seeds), device)
            seconds = predicted.train_s * ratio * missing / job.runs + predicted.startup_s
        else:
            seconds = 0.0
        works.append(Work(seconds, job.after))
    running = sum(found is not None for found in progress.values())
    return makespan.makespan(works, max(at_once, running))


def page(plan: Plan, status: GridStatus) -> Page:
    """Return the state of the grid as a table: a section for each model and task."""
    sections: dict[str, list[Line]] = {}
    for one in status.cells:
        task = plan.grid.tasks[one.cell.task]
        counts = [str(one.count(state)) if one.count(state) else "" for state in STATES]
        mean = statistics.fmean(one.values) * 100 if one.values else math.nan
        title = f"{model_name(one.cell.model)}, {task.title}: {task.metric}"
        line = Line("ours", (method_name(vars(one.cell)), *counts, number(mean)))
        sections.setdefault(title, []).append(line)
    return Page(
        name="status",
        title=f"Results in {plan.grid.config.results}",
        caption="",
        partial="",
        columns=("Cell", *(state.capitalize() for state in STATES), "Mean of best epochs"),
        sections=tuple(Section(title, tuple(lines)) for title, lines in sections.items()),
    )


def as_json(status: GridStatus) -> dict[str, object]:
    """Return the state of the grid as plain JSON values."""
    return {
        "runs": status.runs,
        **{state: status.count(state) for state in STATES},
        "left_s": round(status.left_s, 1),
        "speed": status.speed,
        "cells": [
            {
                **asdict(one.cell),
                "seeds": {str(seed): state for seed, state in one.states.items()},
                "mean_best": statistics.fmean(one.values) if one.values else None,
                "error": one.error,
            }
            for one in status.cells
        ],
        "running_jobs": [asdict(job) | {"left_s": round(job.left_s, 1)} for job in status.running],
    }


def mean_and_spread(values: tuple[float, ...]) -> str:
    """Return `70.8±.4` in per cent for several values, `70.8` for one."""
    percent = [100 * value for value in values]
    std = statistics.stdev(percent) if len(percent) > 1 else math.nan
    return number(statistics.fmean(percent)) + spread(std)


def summary(status: GridStatus) -> str:
    """Return the counts of runs and the time left in one or two lines."""
    counts = ", ".join(f"{status.count(state)} {state}" for state in STATES)
    lines = [f"{status.runs} runs: {counts}."]
    if status.count(RUNNING) + status.count(MISSING):
        basis = "at the speed of the finished jobs" if status.speed == "measured" else "a forecast"
        lines.append(f"Time left: about {duration(status.left_s)} ({basis}).")
    return "\n".join(lines)
