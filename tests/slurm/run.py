"""Disturb grids on a real Slurm in every way of `disturb`, and print a table of the results.

    python tests/slurm/run.py

prints a Markdown table. It exits with 1 if anything was lost: if a grid did not end, or its rows
and adapters were not those of the undisturbed grid without Slurm. It starts and stops its own
cluster.
"""

import argparse
import re
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from random import Random

if __name__ == "__main__":
    sys.path[:0] = [
        str(Path(__file__).resolve().parents[2]),
        str(Path(__file__).resolve().parents[1]),
    ]

from faults import run
from slurm.cluster import Cluster
from slurm.disturb import DISTURBANCES
from slurm.grid import Grid


def planned(times: int, *words: str) -> list[run.Fault]:
    """Return the disturbances with one of these texts in their names."""
    return [
        run.Fault(name, partial(_one, does=does, name=name), times)
        for name, does in DISTURBANCES.items()
        if any(word in name for word in words)
    ]


def _one(grid: Grid, random: Random, does, name: str) -> str:
    folder = grid.new(re.sub(r"\W+", "-", f"{name}-{time.monotonic_ns()}"))
    started = time.monotonic()
    output = does(grid, random, folder)
    print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    return output


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--times", type=int, default=1, help="number of each disturbance (default 1)"
    )
    parser.add_argument(
        "--workers", type=int, default=1, help="grids at a time on the cluster (default 1)"
    )
    parser.add_argument("--only", default="", help="only disturbances with this text in their name")
    arguments = parser.parse_args()
    folder, started = Path(tempfile.mkdtemp(prefix="slurm-")), time.monotonic()
    cluster = Cluster(folder / "cluster")
    try:
        cluster.up()
        faults = planned(arguments.times, arguments.only)
        done = run.disturb(
            Grid(folder, cluster),
            faults,
            0,
            arguments.workers,
            lambda line: print(line, file=sys.stderr),
        )
    finally:
        cluster.down()
        shutil.rmtree(folder, ignore_errors=True)
    kills = sum(fault.done for fault in done if "kill -9" in fault.name)
    print(run.table(done, kills))
    print(f"\n{time.monotonic() - started:.0f} s")
    return int(any(fault.lost for fault in done))


if __name__ == "__main__":
    sys.exit(main())
