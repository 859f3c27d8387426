"""Measure how many rows of a CSV file are tokenised a second, and how much memory that takes.

    python benchmarks/tokenise.py --model-dir results/demo/sources/minilm --rows 200000 1000000

Each size is measured in a new process, with a task of a config on short made-up sentences. Memory
is given without and with the pages of mapped files, which the system can drop at any time.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORDS = (
    "the a this film book phone battery screen is was really not very good bad great poor slow "
    "fast and but because I we you they bought returned loved hated it again yesterday"
).split()


def write_rows(path: Path, rows: int) -> None:
    """Write a CSV file of `rows` different sentences of 5 to 20 words, with two classes."""
    draw = random.Random(0)
    with open(path, "w", encoding="utf-8") as handle:
        handle.write("text,label\n")
        for at in range(rows):
            words = " ".join(draw.choices(WORDS, k=draw.randint(5, 20)))
            handle.write(f"{words} {at},{'good' if at % 3 else 'bad'}\n")


def measure(rows: int, model_dir: Path, folder: Path) -> dict[str, float]:
    """Tokenise a file with this many rows in this process; return what it took."""
    from lora.data import prepare
    from lora.experiment import config_files, grid

    path = folder / "rows.csv"
    write_rows(path, rows)
    tasks = {"rows": {"path": str(path), "text": "text"}}
    config = config_files.with_defaults({"tasks": tasks, "results": str(folder)})
    task = grid.load(config).tasks["rows"]
    start = time.perf_counter()
    facts = prepare.prepare(task, path, model_dir, 128, folder / "tokens")
    seconds = time.perf_counter() - start
    return {
        "rows": rows,
        "tokens": sum(split.tokens for split in facts.splits.values()),
        "seconds": seconds,
        "peak_mib": _anonymous_peak_mib(),
        "peak_with_files_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _anonymous_peak_mib() -> float:
    """Return the memory of the process that is no file's, in MiB, at its end.

    The allocator rarely gives memory back, so this is close to the peak.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def main() -> None:
    """Measure each size in its own process; print and write the table."""
    parser = argparse.ArgumentParser(description="Measure the tokenising of a large table.")
    parser.add_argument("--model-dir", type=Path, required=True)
    parser.add_argument("--rows", type=int, nargs="+", default=[200_000, 1_000_000])
    parser.add_argument("--output", type=Path, default=HERE / "results/tokenise.md")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(arguments.rows[0], arguments.model_dir, Path(folder))))
        return
    lines = [
        "# Tokenising a large table",
        "",
        f"- Date: {datetime.now(UTC):%Y-%m-%d}, {len(os.sched_getaffinity(0))} CPU cores",
        "- Command: `python benchmarks/tokenise.py`; short sentences, a made evaluation split",
        "",
        "| Rows | Tokens | Seconds | Rows/s | Own memory, MiB | With mapped files, MiB |",
        "| --: | --: | --: | --: | --: | --: |",
    ]
    for rows in arguments.rows:
        command = [sys.executable, __file__, "--measure", "--rows", str(rows)]
        command += ["--model-dir", str(arguments.model_dir)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        lines.append(
            f"| {rows:,} | {found['tokens']:,} | {found['seconds']:.0f} | "
            f"{rows / found['seconds']:,.0f} | {found['peak_mib']:,.0f} | "
            f"{found['peak_with_files_mib']:,.0f} |"
        )
        print(lines[-1], flush=True)
    arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
