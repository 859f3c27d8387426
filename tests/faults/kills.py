"""Kill or stop jobs anywhere: the same command resumes from saved state, to the same bytes."""

import signal
import time
from functools import partial
from random import Random

from faults.bench import Bench, Lost, check_not_lost, saved_states

SITES = {  # call sites of hooks, by activity
    "training": ("plan", "step", "gradients", "pass", "optimizer"),
    "an evaluation": ("evaluation", "end of epoch"),
    "saving state": (
        "state",
        "tensors",
        "write state tensors",
        "rename state tensors",
        "write state.json",
        "rename state.json",
        "rename before.json",
        "old state",
    ),
    "writing an adapter": (
        "adapter",
        "write adapter_model.safetensors",
        "rename adapter_model.safetensors",
        "write adapter_config.json",
        "rename adapter_config.json",
    ),
    "writing run.json and metrics.csv": (
        "outputs",
        "write run.json",
        "rename run.json",
        "write metrics.csv",
        "rename metrics.csv",
    ),
}
TRIES = 20  # attempts until a job is killed before it ends


def _act(bench: Bench, random: Random, sites) -> dict:
    """Return a kill at a random call of a site; half of the files being written are also torn."""
    site = random.choice([site for site in sites if bench.calls.get(site)])
    when = random.choice(("before", "after"))
    torn = site.startswith("write ") and when == "before" and random.random() < 0.5
    return dict(
        site=site,
        when=when,
        call=random.randint(1, bench.calls[site]),
        do="tear" if torn else "kill",
    )


def at_a_site(bench: Bench, random: Random, doing: str) -> str:
    for _ in range(TRIES):  # states are saved by the clock, so the number of calls varies
        folder = bench.new()
        ended = bench.start(folder, [_act(bench, random, SITES[doing])]).end()
        if ended.status == -signal.SIGKILL:
            bench.finish(folder)
            return ""
        if ended.status:
            raise Lost(f"status {ended.status} instead of a kill: {ended.errors[-1500:]}")
        bench.check(folder)
    raise Lost(f"no kill in {TRIES} tries in {doing}")


def three_times(bench: Bench, random: Random) -> str:
    """Kill a job, and twice more the job that resumes it."""
    sites = SITES["training"] + SITES["an evaluation"] + SITES["saving state"]
    folder, kills = bench.new(), 0
    for _ in range(TRIES):
        injection = _act(bench, random, sites)
        before = saved_states(folder)
        # Calls are counted from the start of a process, so each attempt has fewer of them.
        ended = bench.start(
            folder, [injection | dict(call=1 + injection["call"] // (kills + 2))]
        ).end()
        check_not_lost(before, folder)
        if ended.status not in (0, -signal.SIGKILL):
            raise Lost(f"status {ended.status} instead of a kill: {ended.errors[-1500:]}")
        kills += ended.status != 0
        if ended.status == 0 or kills == 3:
            bench.finish(folder)
            if kills == 3:
                return ""
            folder, kills = bench.new(), 0
    raise Lost(f"no three kills in {TRIES} tries")


def at_a_time(bench: Bench, random: Random, forked: bool) -> str:
    for _ in range(TRIES):
        folder = bench.new()
        job = bench.start(folder, forked=forked)
        while not forked and job.running and not states_begun(folder):
            time.sleep(0.002)
        time.sleep(random.random() * bench.took_s)
        job.kill()
        if job.end().status == -signal.SIGKILL:
            bench.finish(folder)
            return ""
    raise Lost(f"no job was still running in {TRIES} tries")


def states_begun(folder) -> bool:
    return any((folder / "state").glob("*/*"))


def stopped_by_signal(bench: Bench, random: Random, name: str) -> str:
    """Send a signal in a step, an evaluation or a save: the job saves, logs it and exits."""
    folder, number = bench.new(), signal.Signals[name]
    injection = _act(bench, random, ("step", "pass", "evaluation", "tensors")) | dict(do=name)
    ended = bench.start(folder, [injection]).end()
    if ended.status == 0:  # the signal came in the last call
        bench.check(folder)
    elif (
        ended.status != 128 + number
        or f"stopped by {name}; everything trained so far is saved" not in ended.message
    ):
        raise Lost(f"status {ended.status}, {ended.errors[-1500:]}")
    bench.finish(folder)
    return ended.message


KILLS = {  # fault: (function, least kills per call, share of all kills)
    "kill -9 at a random time (subprocess)": (partial(at_a_time, forked=False), 1, 0.1),
    "kill -9 at a random time (fork)": (partial(at_a_time, forked=True), 1, 0.25),
    **{f"kill -9 in {doing}": (partial(at_a_site, doing=doing), 1, 0.1) for doing in SITES},
    "kill -9 three times in a row": (three_times, 3, 0.15),
}
STOPS = {name: partial(stopped_by_signal, name=name) for name in ("SIGTERM", "SIGUSR1")}
