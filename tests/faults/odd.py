"""A clock that jumps, values that are not finite, and two jobs on one state directory."""

import json
import math
import time
from functools import partial
from random import Random

from faults.bench import CELLS, Bench, Lost, cell_of, outputs

from lora import files
from lora.columns import METRICS_COLUMNS

RUNS = [f"runs/{cell_of(method, weights, rank).path}/seed0" for method, weights, rank, _ in CELLS]


def clock_moved(bench: Bench, random: Random, sign: int) -> str:
    """Move the clock by up to a day at every reading, from the start and after a kill."""
    folder = bench.new()
    moved = dict(site="", do="move the clock", by_s=sign * random.uniform(1, 86400))
    kill = dict(
        site="step", call=random.randint(1, bench.calls["step"] - 1), when="after", do="kill"
    )
    bench.start(folder, [moved, kill]).end()
    bench.end_well(bench.start(folder, [moved]))
    bench.check(folder)
    return ""


def not_finite(bench: Bench, random: Random, do: str) -> str:
    """One run of a pack stops with status non_finite; the other runs are not affected."""
    folder = bench.new()
    if do == "learning rate":
        options, epoch = dict(changed=dict(learning_rate=1e30)), 1
        ended = bench.end_well(bench.start(folder, **options))
    else:
        call = random.randint(1, 18)
        options, epoch = {}, math.ceil(call / 6)
        ended = bench.end_well(
            bench.start(folder, [dict(site="gradients", call=call, when="after", do=do)])
        )
    hit, others = RUNS[0], RUNS[1:]
    found = outputs(folder)
    for name, content in bench.expected.items():
        if name.startswith(tuple(others)) and found.get(name) != content:
            raise Lost(f"another run has other outputs than undisturbed: {name}")
    rows = files.read_csv(folder / hit / "metrics.csv", METRICS_COLUMNS)
    if [row["status"] for row in rows] != ["ok"] * (epoch - 1) + ["non_finite"] or not math.isnan(
        rows[-1]["train_loss"]
    ):
        raise Lost(
            f"rows {[(row['epoch'], row['status']) for row in rows]}; "
            f"expected non_finite in epoch {epoch}"
        )
    if json.loads((folder / hit / "run.json").read_text())["status"] != "non_finite":
        raise Lost("run.json does not say non_finite")
    again = bench.end_well(bench.start(folder, **options))
    if again.resumed != len(RUNS) or outputs(folder) != found or "Traceback" in ended.errors:
        raise Lost("the failed run was not restored from its state")
    return ""


def two_jobs(bench: Bench, random: Random, killed: bool) -> str:
    """Start the same command twice on one state directory: the second one waits."""
    folder = bench.new()
    first = bench.start(folder)
    time.sleep(random.random() * bench.took_s / 2)
    second = bench.start(folder)
    if killed:
        time.sleep(random.random() * bench.took_s / 2)
        random.choice((first, second)).kill()
    ended = [first.end(), second.end()]
    wrong = [one for one in ended if one.status not in (0, *([-9] if killed else []))]
    if wrong:
        raise Lost(f"status {wrong[0].status}: {wrong[0].errors[-1500:]}")
    bench.finish(folder)
    return ""


ODD = {
    "clock moved forwards": partial(clock_moved, sign=1),
    "clock moved backwards": partial(clock_moved, sign=-1),
    "loss not finite (learning_rate 1e30)": partial(not_finite, do="learning rate"),
    "loss not finite (one gradient NaN)": partial(not_finite, do="nan"),
    "loss not finite (one gradient infinite)": partial(not_finite, do="inf"),
    "two jobs on one state directory": partial(two_jobs, killed=False),
    "two jobs on one state directory, one killed": partial(two_jobs, killed=True),
}
