"""Inject every kind of fault into small training jobs, and print a table of the results.

    python tests/faults/run.py --kills 200

The exit status is 1 if anything was lost: if the same command without the fault does not write the
rows and adapters of an undisturbed job, or if a job stops without one message that gives the
reason. Times, sites and bits are drawn from `--seed`, with one generator per injection, so each can
be repeated.
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

from faults.bench import Bench
from faults.damage import DAMAGE
from faults.job import Lost
from faults.kills import KILLS, STOPS
from faults.other_faults import OTHER_FAULTS
from faults.resource_limits import RESOURCE_LIMITS, Skipped
from faults.workflow import WORKFLOW_FAULTS, Workflow

SETUP_LOCK = threading.Lock()


@dataclass
class Fault:
    """One kind of fault, and its results.

    Attributes:
        name: What happens to the job.
        inject: Function that injects it once and returns the job's message.
        times: How often it is injected.
        survived: Messages of the jobs that lost nothing.
        skipped: Reasons why it could not be injected.
        lost: What was lost.
    """

    name: str
    inject: Callable[[Bench, Random], str]
    times: int
    survived: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How often the fault was injected."""
        return len(self.survived) + len(self.lost)


def plan_faults(
    kills: int, times: int, workflow_faults: tuple[str, ...] = tuple(WORKFLOW_FAULTS)
) -> list[Fault]:
    """Return the faults to inject.

    Args:
        kills: Least number of kills, over all kinds.
        times: Number of every other fault in a job.
        workflow_faults: Faults of Snakemake; each is injected once.
    """
    planned = [
        Fault(name, inject, -(-round(kills * share) // kills_per_call))
        for name, (inject, kills_per_call, share) in KILLS.items()
    ]
    others = STOPS | RESOURCE_LIMITS | DAMAGE | OTHER_FAULTS
    planned += [Fault(name, inject, times) for name, inject in others.items()]
    planned += [
        Fault(name, partial(_inject_into_workflow, name=name), 1) for name in workflow_faults
    ]
    return planned


def _inject_into_workflow(bench: Bench, random: Random, name: str) -> str:
    """Inject a fault of Snakemake; the undisturbed grid is made once."""
    with SETUP_LOCK:
        if not hasattr(bench, "workflow"):
            bench.workflow = Workflow(bench.folder / "grid")
    folder = bench.workflow.new_folder(name.partition(",")[0])
    return WORKFLOW_FAULTS[name](bench.workflow, random, folder)


def inject_all(
    bench: Bench,
    planned: list[Fault],
    seed: int,
    workers: int,
    report: Callable[[str], object] = lambda line: None,
) -> list[Fault]:
    """Inject faults, and return them with their results.

    Args:
        bench: First argument of the faults' functions.
        planned: Faults to inject.
        seed: Seed of all random choices.
        workers: Number of faults at the same time.
        report: Function that gets a line for each loss.
    """

    def inject_one(job: tuple[Fault, int]) -> tuple[Fault, str, str]:
        fault, number = job
        try:
            return fault, "survived", fault.inject(bench, Random(f"{seed} {fault.name} {number}"))
        except Skipped as reason:
            return fault, "skipped", str(reason)
        except Lost as reason:
            report(f"{fault.name}, {number}: {reason}")
            return fault, "lost", f"{fault.name}, {number}: {reason}"

    with ThreadPoolExecutor(workers) as pool:
        jobs = [(fault, number) for fault in planned for number in range(fault.times)]
        for fault, outcome, message in pool.map(inject_one, jobs):
            getattr(fault, outcome).append(message)
    return planned


def format_table(faults: list[Fault], kills: int) -> str:
    """Format injected faults as a Markdown table; `kills` is the number of all killed jobs."""
    lines = ["| fault | times | survived | lost | messages |", "|---|---|---|---|---|"]
    for fault in faults:
        messages = [message for message, _ in Counter(filter(None, fault.survived)).most_common(2)]
        messages += [f"skipped: {reason}" for reason in fault.skipped[:1]]
        text = "; ".join(" ".join(message.split()) for message in messages).replace("|", "/")
        counts = f"{fault.count} | {len(fault.survived)} | {len(fault.lost)}"
        lines.append(f"| {fault.name} | {counts} | {text} |")
    survived = sum(len(fault.survived) for fault in faults)
    lost = sum(len(fault.lost) for fault in faults)
    total = f"{survived + lost} | {survived} | {lost}"
    return "\n".join([*lines, f"| all, with {kills} kills -9 | {total} | |"])


def main() -> int:
    """Inject the faults of the command line; return 1 if anything was lost, otherwise 0."""
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
            for fault in plan_faults(arguments.kills, arguments.times)
            if arguments.only in fault.name
        ]
        bench = Bench(folder)
        faults = inject_all(
            bench,
            planned,
            arguments.seed,
            arguments.workers,
            lambda line: print(line, file=sys.stderr),
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(format_table(faults, len(bench.killed)))
    print(f"\n{time.monotonic() - started:.0f} s")
    return int(any(fault.lost for fault in faults))


if __name__ == "__main__":
    sys.exit(main())
