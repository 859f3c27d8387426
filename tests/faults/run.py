"""Inject every kind of fault into small training jobs, and print a table of the results.

    python tests/faults/run.py --kills 200

prints a Markdown table. It exits with 1 if anything was lost: if the same command without the fault
did not give the rows and adapters of an undisturbed job, or if a job stopped without one message
that gives the reason. Times, sites and bits are drawn from `--seed`, with one generator per
injection, so each can be repeated.
"""

import argparse
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

if __name__ in ("__main__", "__mp_main__"):
    sys.path[:0] = [
        str(Path(__file__).resolve().parents[2]),
        str(Path(__file__).resolve().parents[1]),
    ]

from faults import workflow
from faults.bench import Bench, Lost
from faults.damage import DAMAGE
from faults.kills import KILLS, STOPS
from faults.odd import ODD
from faults.scarce import SCARCE, Skipped

SETUP_LOCK = threading.Lock()


@dataclass
class Fault:
    """One kind of fault, and its results.

    Attributes:
        name: What happens to the job.
        does: Injects it once; returns the job's message.
        times: How often it is injected.
        survived: Messages of the jobs that lost nothing.
        skipped: Why it could not be injected.
        lost: What was lost.
    """

    name: str
    does: Callable[[Bench, Random], str]
    times: int
    survived: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        return len(self.survived) + len(self.lost)


def faults(
    kills: int, times: int, workflows: tuple[str, ...] = tuple(workflow.WORKFLOW)
) -> list[Fault]:
    """Plan at least `kills` kills over all kinds, `times` of every other fault, and `workflows`."""
    found = [
        Fault(name, does, -(-round(kills * share) // each))
        for name, (does, each, share) in KILLS.items()
    ]
    found += [Fault(name, does, times) for name, does in (STOPS | SCARCE | DAMAGE | ODD).items()]
    return found + [Fault(name, partial(_over_workflow, name=name), 1) for name in workflows]


def _over_workflow(bench: Bench, random: Random, name: str) -> str:
    with SETUP_LOCK:
        if not hasattr(bench, "workflow"):
            bench.workflow = workflow.Workflow(bench.folder / "grid")
    return workflow.WORKFLOW[name](
        bench.workflow, random, bench.workflow.new(name.partition(",")[0])
    )


def disturb(
    bench: Bench,
    planned: list[Fault],
    seed: int,
    workers: int,
    report: Callable[[str], object] = lambda line: None,
) -> list[Fault]:
    """Inject all faults, `workers` at a time, and return them with their results."""

    def one(job: tuple[Fault, int]) -> tuple[Fault, str, str]:
        fault, number = job
        try:
            return fault, "survived", fault.does(bench, Random(f"{seed} {fault.name} {number}"))
        except Skipped as why:
            return fault, "skipped", str(why)
        except Lost as why:
            report(f"{fault.name}, {number}: {why}")
            return fault, "lost", f"{fault.name}, {number}: {why}"

    with ThreadPoolExecutor(workers) as pool:
        jobs = [(fault, number) for fault in planned for number in range(fault.times)]
        for fault, result, message in pool.map(one, jobs):
            getattr(fault, result).append(message)
    return planned


def table(done: list[Fault], kills: int) -> str:
    """Format the faults as a Markdown table; `kills` is the number of jobs killed in all."""
    lines = ["| fault | times | survived | lost | messages |", "|---|---|---|---|---|"]
    for fault in done:
        messages = [one for one, _ in Counter(filter(None, fault.survived)).most_common(2)]
        messages += [f"skipped: {why}" for why in fault.skipped[:1]]
        words = "; ".join(" ".join(one.split()) for one in messages).replace("|", "/")
        lines.append(
            f"| {fault.name} | {fault.done} | {len(fault.survived)} | {len(fault.lost)} | {words} |"
        )
    survived, lost = (
        sum(len(getattr(fault, result)) for fault in done) for result in ("survived", "lost")
    )
    return "\n".join(
        [*lines, f"| all, with {kills} kills -9 | {survived + lost} | {survived} | {lost} | |"]
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--kills", type=int, default=200, help="kill -9 in all, over all kinds (default 200)"
    )
    parser.add_argument(
        "--times", type=int, default=5, help="number of each other fault (default 5)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="faults at a time (default 2)")
    parser.add_argument("--only", default="", help="only faults with this text in their name")
    arguments = parser.parse_args()
    folder, started = Path(tempfile.mkdtemp(prefix="faults-")), time.monotonic()
    try:
        planned = [
            fault
            for fault in faults(arguments.kills, arguments.times)
            if arguments.only in fault.name
        ]
        bench = Bench(folder)
        done = disturb(
            bench,
            planned,
            arguments.seed,
            arguments.workers,
            lambda line: print(line, file=sys.stderr),
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(table(done, len(bench.killed)))
    print(f"\n{time.monotonic() - started:.0f} s")
    return int(any(fault.lost for fault in done))


if __name__ == "__main__":
    sys.exit(main())
