"""Train a grid three times, and check that the same settings give the same numbers.

    python tests/determinism.py                      # the demo, in three times its duration
    python tests/determinism.py --configfile my.yaml

First on one core, then on all cores, both with one thread per job: metrics.csv and adapters must be
equal to the byte, else the exit status is 1. Then with two threads per job, where sums are taken in
another order: the largest difference of each column is printed. Sources and tokens are shared.
"""

import argparse
import csv
import math
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {
    "one core": (1, 1),
    "all cores": (max(2, os.cpu_count() or 2), 1),
    "two threads a job": (2, 2),
}  # cores, threads
EXACT = ("epoch", "step", "status", "learning_rate")  # columns without rounding


def run(results: Path, configfile: Path, cores: int, threads: int, options: list[str]) -> None:
    """Train the grid of a config into `results`, which may hold sources and tokens."""
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "-s",
        str(ROOT / "Snakefile"),
        "--directory",
        str(results.parent),
    ]
    command += [
        "--cores",
        str(cores),
        "--until",
        "train",
        "--configfile",
        str(configfile),
        "--quiet",
    ]
    subprocess.run(
        [*command, "--config", f"results={results.name}", f"threads={threads}", *options],
        check=True,
    )


def outputs(results: Path) -> dict[str, Path]:
    """Return metrics.csv and adapter of each run, by path."""
    found = [
        *results.glob("runs/**/metrics.csv"),
        *results.glob("runs/**/adapter_model.safetensors"),
    ]
    return {str(path.relative_to(results)): path for path in sorted(found)}


def different(one: Path, other: Path) -> list[str]:
    """Return the files that differ or that only one folder has."""
    ours, theirs = outputs(one), outputs(other)
    return [
        name
        for name in sorted(ours.keys() | theirs.keys())
        if name not in ours
        or name not in theirs
        or ours[name].read_bytes() != theirs[name].read_bytes()
    ]


def largest_differences(one: Path, other: Path) -> dict[str, tuple[float, str]]:
    """Return the largest absolute difference of each column of metrics.csv, and its file."""
    largest: dict[str, tuple[float, str]] = {}
    for name, path in outputs(one).items():
        if path.suffix != ".csv":
            continue
        rows, others = (
            list(csv.DictReader((folder / name).read_text("utf-8").splitlines()))
            for folder in (one, other)
        )
        if len(rows) != len(others):
            raise ValueError(f"{name}: {len(rows)} epochs and {len(others)}")
        for row, theirs in zip(rows, others, strict=True):
            for column, value in row.items():
                if column in EXACT:
                    gap = 0.0 if value == theirs[column] else math.inf
                else:
                    gap = (
                        0.0
                        if value == theirs[column]
                        else abs(float(value or "nan") - float(theirs[column] or "nan"))
                    )
                if not gap <= largest.get(column, (-1.0, ""))[0]:
                    largest[column] = (gap, name)
    return largest


def compare(folders: list[Path]) -> int:
    """Print the differences; return 1 if the first two folders differ or nothing was trained."""
    one, all_cores, threads = folders
    changed, found = different(one, all_cores), outputs(one)
    print(
        f"one core and all cores: {len(found) - len(changed)} of {len(found)} files are the same "
        "bytes"
    )
    print("".join(f"  differs: {name}\n" for name in changed), end="")
    print(
        f"one thread and two threads a job: {len(found) - len(different(one, threads))} of "
        f"{len(found)} files"
    )
    for column, (gap, name) in largest_differences(one, threads).items():
        print(f"  {column}: " + (f"differs by up to {gap:.2g} ({name})" if gap else "the same"))
    return int(bool(changed) or not found)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--configfile", type=Path, default=ROOT / "config/demo.yaml")
    parser.add_argument(
        "--config",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="further settings, as Snakemake takes them",
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="determinism-") as folder:
        folders = [Path(folder) / f"{name.replace(' ', '-')}" / "results" for name in SETTINGS]
        for results, (cores, threads) in zip(folders, SETTINGS.values(), strict=True):
            results.mkdir(parents=True)
            for part in ("sources", "tokens"):
                if (folders[0] / part).exists() and results != folders[0]:
                    shutil.copytree(folders[0] / part, results / part)
            run(results, arguments.configfile.resolve(), cores, threads, arguments.config)
        return compare(folders)


if __name__ == "__main__":
    sys.exit(main())
