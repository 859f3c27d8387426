"""Make every disturbance of `disturb` on a real Slurm, and print a table of the results.

    python tests/slurm/run.py

It starts a cluster, and stops it at the end. The exit status is 1 if anything was lost: if a grid
does not end, or its rows and adapters differ from those of an undisturbed grid without Slurm.
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
from slurm.disturb import DISTURBANCES, Disturbance
from slurm.grid import Grid


def plan_disturbances(times: int, *texts: str) -> list[run.Fault]:
    """Return the disturbances whose names contain one of these texts, each `times` times."""
    return [
        run.Fault(name, partial(_disturb, disturbance=disturbance, name=name), times)
        for name, disturbance in DISTURBANCES.items()
        if any(text in name for text in texts)
    ]


def _disturb(grid: Grid, random: Random, disturbance: Disturbance, name: str) -> str:
    """Make a disturbance in a new folder, and print how long it took."""
    folder = grid.new_folder(re.sub(r"\W+", "-", f"{name}-{time.monotonic_ns()}"))
    started = time.monotonic()
    message = disturbance(grid, random, folder)
    print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    return message


def main() -> int:
    """Make the disturbances of the command line; return 1 if anything was lost, otherwise 0."""
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
        faults = run.inject_all(
            Grid(folder, cluster),
            plan_disturbances(arguments.times, arguments.only),
            0,
            arguments.workers,
            lambda line: print(line, file=sys.stderr),
        )
    finally:
        cluster.down()
        shutil.rmtree(folder, ignore_errors=True)
    kills = sum(fault.count for fault in faults if "kill -9" in fault.name)
    print(run.format_table(faults, kills))
    print(f"\n{time.monotonic() - started:.0f} s")
    return int(any(fault.lost for fault in faults))


if __name__ == "__main__":
    sys.exit(main())
