"""A clock that jumps, values that are not finite, and two jobs on one state directory."""

import json
import math
import time
from collections.abc import Callable
from functools import partial
from random import Random

from faults.bench import CELLS, Bench, cell_of, outputs
from faults.injection import Injection
from faults.job import Lost

from lora import files
from lora.columns import METRICS_COLUMNS

RUNS = [f"runs/{cell_of(method, weights, rank).path}/seed0" for method, weights, rank, _ in CELLS]
STEPS = 18  # of the first run, in three epochs


def clock_moved(bench: Bench, random: Random, sign: int) -> str:
    """Move the clock by up to a day at every reading, from the start and after a kill."""
    folder = bench.new_folder()
    move = Injection("move the clock", seconds=sign * random.uniform(1, 86400))
    kill = Injection("kill", "step", random.randint(1, bench.calls["step"] - 1))
    bench.start(folder, [move, kill]).wait()
    bench.wait_for_success(bench.start(folder, [move]))
    bench.check(folder)
    return ""


def not_finite(bench: Bench, random: Random, cause: str) -> str:
    """One run of a pack stops with status non_finite; the other runs are not affected.

    Args:
        bench: Inputs and jobs.
        random: Source of the step in which a gradient is set.
        cause: "learning rate", or the action of an injection.
    """
    folder = bench.new_folder()
    if cause == "learning rate":
        options, epoch = dict(overrides=dict(learning_rate=1e30)), 1
        result = bench.wait_for_success(bench.start(folder, **options))
    else:
        call = random.randint(1, STEPS)
        options, epoch = {}, math.ceil(call / 6)
        injection = Injection(cause, "gradients", call)
        result = bench.wait_for_success(bench.start(folder, [injection]))
    failed, others = RUNS[0], RUNS[1:]
    found = outputs(folder)
    for name, content in bench.expected.items():
        if name.startswith(tuple(others)) and found.get(name) != content:
            raise Lost(f"another run has other outputs than undisturbed: {name}")
    rows = files.read_csv(folder / failed / "metrics.csv", METRICS_COLUMNS)
    expected = ["ok"] * (epoch - 1) + ["non_finite"]
    if [row["status"] for row in rows] != expected or not math.isnan(rows[-1]["train_loss"]):
        raise Lost(
            f"rows {[(row['epoch'], row['status']) for row in rows]}; "
            f"expected non_finite in epoch {epoch}"
        )
    if json.loads((folder / failed / "run.json").read_text())["status"] != "non_finite":
        raise Lost("run.json does not say non_finite")
    again = bench.wait_for_success(bench.start(folder, **options))
    if again.resumed != len(RUNS) or outputs(folder) != found or "Traceback" in result.errors:
        raise Lost("the failed run was not restored from its state")
    return ""


def two_jobs(bench: Bench, random: Random, killed: bool) -> str:
    """Start the same command twice on one state directory: the second one waits."""
    folder = bench.new_folder()
    first = bench.start(folder)
    time.sleep(random.random() * bench.duration_s / 2)
    second = bench.start(folder)
    if killed:
        time.sleep(random.random() * bench.duration_s / 2)
        random.choice((first, second)).kill()
    allowed = (0, -9) if killed else (0,)
    failed = [result for result in (first.wait(), second.wait()) if result.status not in allowed]
    if failed:
        raise Lost(f"status {failed[0].status}: {failed[0].errors[-1500:]}")
    bench.resume_and_check(folder)
    return ""


OTHER_FAULTS: dict[str, Callable[[Bench, Random], str]] = {
    "clock moved forwards": partial(clock_moved, sign=1),
    "clock moved backwards": partial(clock_moved, sign=-1),
    "loss not finite (learning_rate 1e30)": partial(not_finite, cause="learning rate"),
    "loss not finite (one gradient NaN)": partial(not_finite, cause="nan"),
    "loss not finite (one gradient infinite)": partial(not_finite, cause="inf"),
    "two jobs on one state directory": partial(two_jobs, killed=False),
    "two jobs on one state directory, one killed": partial(two_jobs, killed=True),
}
