"""Log handler of the workflow: what a person sees while a grid is trained.

It replaces Snakemake's log on the screen: a few lines at the start, a line for each trained cell
with its result and the time left, and the tables and claims at the end. On a terminal the last line
shows what is training now. Snakemake's own log is complete in its file.

Messages before the jobs start are held back, and shown if no job starts. Warnings and errors are
always shown. Snakemake marks its messages with `event`; this module reads these marks and imports
nothing of Snakemake.
"""

import logging
import re
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from lora import paths
from lora.experiment import job_progress
from lora.experiment.cell import Cell
from lora.experiment.grid import Grid
from lora.experiment.job_progress import JobProgress
from lora.planning import status
from lora.planning.forecast import planning_device
from lora.planning.plan import Plan
from lora.planning.plan_text import duration
from lora.tables import terminal
from lora.tables.labels import listed, method_name, model_name

REFRESH_S = 1.0
SHOWN_TABLES = ("table2", "table6")
# Where in the rules an error was raised, which says nothing to a user.
TRACE = re.compile(r' in file ".*\.smk", line \d+(?=:)|\n  File ".*\.smk", line \d+, in .*')
LETTERS = re.compile(r"W_([qkvo]),?")
FAILURES_OF_JOBS = ("RuleException", "CalledProcessError")
SUBJECTS = {  # rule -> what its jobs are about
    "fetch": "{source}",
    "prepare": "{task} for {model}, at most {max_tokens} tokens",
}
FAILED = "Finished runs and checkpoints are kept: run the same command again to continue."


class Screen(logging.Handler):
    """Show the progress of a grid.

    Args:
        stream: Where to write; standard error by default.
        quiet: Whether only warnings and errors are shown.
    """

    grid: Grid  # set by `start`

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        super().__init__()
        self.quiet = quiet
        self.stream = sys.stderr if stream is None else stream
        self.is_terminal = self.stream.isatty()
        self._local = True
        self._early: list[str] | None = []  # None once jobs have started
        self._jobs: dict[int, Job] = {}
        self._finished = 0
        self._training_jobs = 0
        self._live = ""
        self._stopped = threading.Event()
        self._started = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        """Show a message of Snakemake, or hold it back."""
        event = str(getattr(record, "event", "") or "")
        try:
            if event == "job_info":
                self._jobs[record.jobid] = Job(record)  # type: ignore[attr-defined]
            elif event == "job_finished":
                self._end_job(record.job_id)  # type: ignore[attr-defined]
            elif event == "job_error":
                self._show_error(record)
            elif getattr(record, "exception", "") in FAILURES_OF_JOBS:
                pass  # Snakemake reports the same failure as job_error
            elif record.levelno >= logging.WARNING:
                if record.levelno >= logging.ERROR and self._early:
                    self._early.clear()
                self._print(TRACE.sub("", record.getMessage()))
            elif self._early is not None and event not in ("shellcmd", "workflow_started"):
                self._early.append(record.getMessage())
        except Exception:
            self.handleError(record)

    def start(self, grid: Grid, training: int, log_files: list[str], local: bool = True) -> None:
        """Show what will be done. Called when the jobs start.

        Args:
            grid: The grid.
            training: Number of training jobs.
            log_files: Files of Snakemake's own log.
            local: Whether jobs run here, and write their errors to this screen themselves.
        """
        self.grid, self._early, self._training_jobs = grid, None, training
        self._local = local
        if self.quiet:
            return
        self._print("\n".join(self._banner(log_files)))
        if self.is_terminal:
            threading.Thread(target=self._refresh, daemon=True).start()

    def end(self, success: bool) -> None:
        """Show the tables and the claims, or that jobs failed. Called after the last job."""
        self._stopped.set()
        if self.quiet:
            return
        self._print("\n".join(self._results()) if success else FAILED)

    def close(self) -> None:
        """Show the messages that were held back, if no job started."""
        self._stopped.set()
        early, self._early = self._early, None
        if early and not self.quiet:
            self._print("\n".join(early))
        super().close()

    def _banner(self, log_files: list[str]) -> list[str]:
        planned = Plan(self.grid)
        found = status.read(planned)
        done = found.count(status.DONE) + found.count(status.FAILED)
        tasks = list(dict.fromkeys(self.grid.tasks[cell.task].title for cell in self.grid.cells))
        models = list(dict.fromkeys(model_name(cell.model) for cell in self.grid.cells))
        methods = len({cell.method for cell in self.grid.cells})
        on = tasks[0] if len(tasks) == 1 else f"{len(tasks)} tasks"
        left = f"{found.runs - done} of {found.runs} runs" if done else f"{found.runs} runs"
        device = planned.name(planning_device(self.grid))
        lines = [
            f"Trains    {listed(models)} on {on}: {len(self.grid.cells)} cells, "
            f"{len(self.grid.seeds)} seeds" + (f", {methods} methods" if methods > 1 else ""),
            f"To do     {left}, in {self._training_jobs} jobs; then tables and figures",
            f"Time      about {duration(found.left_s)} on one {device} "
            f"({'speed of the finished jobs' if found.speed == 'measured' else 'forecast'})",
            f"Results   {self.grid.config.results}",
        ]
        if not self._training_jobs:
            lines[1:3] = [f"To do     tables and figures; all {found.runs} runs are done"]
        return lines + [f"Log       {_from_here(name)}" for name in log_files[:1]]

    def _end_job(self, job_id: int) -> None:
        job = self._jobs.pop(job_id, None)
        if job is None or self.quiet:
            return
        if job.rule == "train":
            self._finished += 1
            others = sum(other.rule == "train" for other in self._jobs.values())
            found = status.read(Plan(self.grid), at_once=1 + others)
            left = found.left_s if found.count(status.MISSING) + found.count(status.RUNNING) else 0
            count = f"[{self._finished:>{len(str(self._training_jobs))}}/{self._training_jobs}]"
            trained = [one for one in found.cells if job.trained(one.cell, self.grid)]
            lines = [f"{count} {_result(self.grid, one)}" for one in trained]
            if lines and left:
                lines[-1] += f", {duration(left)} left"
            width = _width(self.stream)
            self._print("\n".join(terminal.filled(line, width) for line in lines))
        elif job.rule in SUBJECTS:
            subject = SUBJECTS[job.rule].format(**job.wildcards)
            took = duration(time.monotonic() - job.started)
            self._print(f"{job.rule.capitalize():9} {subject}  ({took})")

    def _show_error(self, record: logging.LogRecord) -> None:
        """Show which job failed, the last error in its log, and where its log is."""
        facts = vars(record)
        logs = [Path(str(name)) for name in facts.get("log") or []]
        job = self._jobs.pop(facts.get("jobid", -1), None)
        lines = [f"FAILED    {facts.get('rule_name')} {job.subject if job else ''}".rstrip()]
        if not self._local:
            lines += [f"  {reason}" for log in logs if (reason := status.last_error(log))]
        lines += [f"  log: {log}" for log in logs]
        self._print("\n".join(lines))

    def _results(self) -> list[str]:
        """Return the tables, the claims and the paths of the results."""
        from lora.tables import cells, claims  # pandas takes half a second

        results = self.grid.config.results
        runs_csv = Path(paths.tables_dir(results), "runs.csv")
        lines = []
        if runs_csv.is_file():
            width = _width(self.stream)
            names = [name for name in SHOWN_TABLES if name in self.grid.tables]
            pages = [cells.make(self.grid, runs_csv, name).page for name in names]
            lines = ["", *(terminal.to_text(page, width) for page in pages)]
            rows, _ = claims.make(self.grid, runs_csv)
            if rows:
                lines += ["Claims of the paper", "==================="]
                lines += [terminal.filled(f"- {one}", width) for one in claims.sentences(rows)]
                lines.append("")
        lines.append(f"Tables    {paths.tables_dir(results)}")
        lines.append(f"Figures   {paths.figures_dir(results)}")
        return lines

    def _refresh(self) -> None:
        """Show what is training now on the last line, until the end."""
        while not self._stopped.wait(REFRESH_S):
            training = [job for job in list(self._jobs.values()) if job.rule == "train"]
            found = [progress for job in training if (progress := job.progress())]
            self.acquire()
            try:
                self._show_live(_live_text(found, _width(self.stream) - 1))
            finally:
                self.release()

    def _show_live(self, text: str) -> None:
        padded = text.ljust(len(self._live))
        if self._live or text:
            self.stream.write(f"\r{padded}" if text else f"\r{padded}\r")
            self.stream.flush()
        self._live = text

    def _print(self, text: str) -> None:
        """Write lines above the live line."""
        if self._live:
            self.stream.write("\r" + " " * len(self._live) + "\r")
            self._live = ""
        self.stream.write(text + "\n")
        self.stream.flush()


def _live_text(jobs: list[JobProgress], width: int) -> str:
    """Return what is training now, in one line of at most `width` characters; empty if nothing is.

    What does not fit is left out, from the end: the position in the run first.
    """
    if not jobs:
        return ""
    rate, left_s = sum(one.rate for one in jobs), max(one.left_s for one in jobs)
    done, total = sum(one.done for one in jobs), max(1, sum(one.total for one in jobs))
    what = jobs[0].label if len(jobs) == 1 else f"{len(jobs)} jobs"
    parts = ["Training", what, f"{done / total:.0%}", f"{duration(left_s)} left"]
    parts.append(f"{rate:,.0f} examples/s")
    if len(jobs) == 1:
        parts += jobs[0].position.split("  ")
    while len("  ".join(parts)) > width and len(parts) > 1:
        parts.pop()
    return "  ".join(parts)[:width]


class Job:
    """A job that Snakemake started.

    Args:
        record: Snakemake's message about it.
    """

    def __init__(self, record: logging.LogRecord) -> None:
        facts = vars(record)
        self.rule = str(facts["rule_name"])
        self.wildcards: Mapping[str, str] = dict(facts.get("wildcards") or {})
        self.logs = [Path(str(name)) for name in facts.get("log") or []]
        self.started = time.monotonic()

    @property
    def subject(self) -> str:
        """What the job is about: its wildcards."""
        return " ".join(self.wildcards.values())

    def progress(self) -> JobProgress | None:
        """Return how far a training job is."""
        return job_progress.read(self.logs[0].with_name(job_progress.NAME)) if self.logs else None

    def trained(self, cell: Cell, grid: Grid) -> bool:
        """Return whether this training job trained a cell."""
        return cell in grid.packing.cells_of(self.wildcards)


def _result(grid: Grid, one: status.CellStatus) -> str:
    """Return one line for a trained cell: its name and its metric."""
    task = grid.tasks[one.cell.task]
    several = len({cell.model for cell in grid.cells}) > 1
    # The letters alone, `qkvo`, so that the line fits a terminal.
    method = LETTERS.sub(r"\1", method_name(vars(one.cell)))
    name = ", ".join([*([model_name(one.cell.model)] if several else []), task.title, method])
    value = status.mean_and_spread(one.values)
    failed = one.count(status.FAILED)
    parts = [f"{task.metric} {value}"] if one.values else []
    parts += [f"{failed} failed"] if failed else []
    return f"{terminal.plain(name)}: {', '.join(parts)}"


def _from_here(path: str) -> str:
    """Return a path relative to the working directory if it is below it."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _width(stream: TextIO) -> int:
    return shutil.get_terminal_size((terminal.WIDTH, 24)).columns if stream.isatty() else 80
