"""Compare the speed of ways to train LoRA, and write the tables to benchmarks/results.

Each measurement runs in a separate process. Repeats are interleaved (A B C, A B C, ...), so a drift
of the machine's speed affects all ways equally. The rate of matrix products is measured before each
repeat. A failed measurement is recorded as failed and the others continue. This process imports no
torch, because a child's peak memory starts from its parent's.
"""

import argparse
import csv
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from report import COLUMNS, WAYS, markdown
from shapes import EXAMPLES_PER_STEP, LENGTHS, MODELS, training_flops, write_tokens

from lora.experiment.names import DEVICE_KINDS

HERE = Path(__file__).resolve().parent
CACHE = HERE / ".cache"
# (runs in the pack, rank) of the scaling table
SCALING = ((1, 8), (2, 8), (5, 8), (10, 8), (20, 8), (5, 1), (5, 64))
LIMIT_S = 3600  # time limit of one measurement
PACKAGES = ("torch", "transformers", "peft", "accelerate")


def call(request: dict) -> dict:
    """Run ways.py on `request` and return its answer; `status` is ok or `failed: <its last line>`.

    GOMP_SPINCOUNT has the value that the command line of `lora` sets, so that waiting threads use
    the machine in the same way.
    """
    threads = str(request["threads"])
    fixed = dict(OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads, HF_HUB_OFFLINE="1")
    environment = dict(GOMP_SPINCOUNT="10000") | os.environ | fixed
    command = [sys.executable, str(HERE / "ways.py")]
    command.append(json.dumps(request | dict(started=time.time())))
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return dict(status=f"failed: no answer in {LIMIT_S} s")
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        reason = lines[-1].strip() if lines else f"exit status {done.returncode}"
        return dict(status=f"failed: {reason}")
    return dict(status="ok") | json.loads(done.stdout.splitlines()[-1])


def comparison(arguments: argparse.Namespace) -> list[list[dict]]:
    """Return the measurements that compare ways: one list for each model and kind of lengths."""
    return [
        [
            dict(
                table="ways",
                model=model,
                lengths=lengths,
                way=way,
                pack=5 if way == "ours_pack5" else 1,
                rank=8,
                steps=arguments.steps,
            )
            for way in arguments.ways
        ]
        for model in arguments.models
        for lengths in arguments.lengths
    ]


def scaling(arguments: argparse.Namespace) -> list[list[dict]]:
    """Return the measurements of the scaling table, with half the steps, by model."""
    steps = max(3, arguments.steps // 2)
    fixed = dict(table="scaling", lengths="sst2", way="ours", steps=steps)
    return [
        [fixed | dict(model=model, pack=pack, rank=rank) for pack, rank in SCALING]
        for model in arguments.models
    ]


def measure_group(
    group: list[dict], common: dict, repeats: int, folder: Path
) -> Iterator[dict[str, object]]:
    """Yield the rows of one group, repeat by repeat; the machine's speed is measured first."""
    for repeat in range(repeats):
        speed = call(common | dict(way="machine"))
        for job in group:
            facts, shape = LENGTHS[job["lengths"]], MODELS[job["model"]]
            tokens = folder / f"{job['lengths']}-{job['steps']}-{shape.vocabulary}"
            lengths = write_tokens(tokens, facts, job["steps"], shape.vocabulary)
            request = job | dict(
                tokens_dir=str(tokens), model_dir=str(CACHE / job["model"]), classes=facts.classes
            )
            print(
                f"{time.strftime('%H:%M:%S')} repeat {repeat + 1}/{repeats}",
                *job.values(),
                file=sys.stderr,
                flush=True,
            )
            answer = call(common | request | dict(seed=repeat * 100))
            flops = training_flops(shape, lengths, job["rank"], facts.classes) / int(lengths.sum())
            row = (
                job
                | dict(repeat=repeat, flops_per_token=round(flops), threads=common["threads"])
                | answer
            )
            yield row | {name: speed.get(name) for name in ("gemm_fp32", "gemm_bf16")}


def versions() -> str:
    """Return the versions of the packages that are compared."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)


def commit() -> str:
    """Return the commit of this checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def write(path: Path, rows: list[dict], header: list[str]) -> str:
    """Write the tables to `path`.md and the rows to `path`.csv; return the tables."""
    text = markdown(rows, header)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    with open(path.with_suffix(".csv"), "w", encoding="utf-8", newline="") as handle:
        handle.writelines(f"# {line}\n" for line in header)
        writer = csv.DictWriter(handle, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {
                name: f"{value:.6g}" if isinstance(value, float) else value
                for name, value in row.items()
            }
            for row in rows
        )
    return text


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description="Compare ways of training LoRA; see benchmarks/README.md."
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["demo", "roberta-base"])
    parser.add_argument("--lengths", nargs="+", choices=LENGTHS, default=list(LENGTHS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument(
        "--tables", nargs="+", choices=["ways", "scaling"], default=["ways", "scaling"]
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=20,
        help=f"steps of {EXAMPLES_PER_STEP} examples; the first is not timed",
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: every core"
    )
    parser.add_argument("--device", choices=["auto", *DEVICE_KINDS], default="auto")
    parser.add_argument(
        "--output",
        type=Path,
        default=HERE / "results",
        help="folder for the tables and the raw numbers",
    )
    arguments = parser.parse_args(argv)
    if arguments.steps < 3 or arguments.repeats < 1 or arguments.threads < 1:
        parser.error("--steps must be at least 3, --repeats and --threads at least 1")
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Run the measurements; return 1 if one failed, otherwise 0."""
    arguments = parse(argv)
    common = dict(threads=arguments.threads, device=arguments.device)
    machine = call(common | dict(way="machine"))
    if machine["status"] != "ok":
        sys.exit(f"The machine cannot be measured: {machine['status']}")
    common |= dict(device=machine["device"], precision=machine["precision"])
    for model in arguments.models:
        if not (CACHE / model / "config.json").is_file():
            request = dict(way="model", model_dir=str(CACHE / model), shape=asdict(MODELS[model]))
            answer = call(common | request)
            if answer["status"] != "ok":
                sys.exit(f"Model {model} cannot be written: {answer['status']}")
    started = time.time()
    header = [
        f"Device: {machine['device_name']}, {arguments.threads} CPU threads",
        f"Date: {datetime.now(UTC):%Y-%m-%d}, commit {commit()}",
        f"Versions: Python {sys.version.split()[0]}, {versions()}",
        f"Settings: {arguments.steps} steps of {EXAMPLES_PER_STEP} examples, "
        f"{arguments.repeats} interleaved repeats",
    ]
    kinds = dict(ways=comparison, scaling=scaling)
    groups = [group for kind in arguments.tables for group in kinds[kind](arguments)]
    slug = re.sub(
        r"[^a-z0-9]+", "-", f"{machine['device_name']} {arguments.threads} threads".lower()
    ).strip("-")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for group in groups:
            for row in measure_group(group, common, arguments.repeats, Path(folder)):
                rows.append(row)
                write(arguments.output / slug, rows, header)
    after = call(common | dict(way="machine"))
    rates = "; ".join(
        f"{name} {machine[key]:.0f} before, {after.get(key, float('nan')):.0f} after"
        for name, key in (("fp32", "gemm_fp32"), ("bf16", "gemm_bf16"))
    )
    minutes = (time.time() - started) / 60
    header.append(f"Matrix products, GFLOP/s: {rates}. Whole comparison: {minutes:.0f} minutes")
    print(write(arguments.output / slug, rows, header))
    print(f"Written to {arguments.output / slug}.md and .csv")
    return int(any(row["status"] != "ok" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
