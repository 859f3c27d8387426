"""Kill or stop jobs at any point: the same command resumes from saved state to the same bytes."""

import dataclasses
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random

from faults.bench import Bench, check_not_lost, saved_states
from faults.injection import Injection
from faults.job import Lost

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
        "write labels.json",
        "rename labels.json",
        "write README.md",
        "rename README.md",
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


def _random_kill(bench: Bench, random: Random, sites: Sequence[str]) -> Injection:
    """Return a kill at a random call of a site; in half of the writes, the file is truncated."""
    site = random.choice([site for site in sites if bench.calls.get(site)])
    when = random.choice(("before", "after"))
    truncate = site.startswith("write ") and when == "before" and random.random() < 0.5
    call = random.randint(1, bench.calls[site])
    return Injection("truncate and kill" if truncate else "kill", site, call, when)


def kill_at_a_site(bench: Bench, random: Random, activity: str) -> str:
    """Kill a job at a random call of the sites of an activity."""
    for _ in range(TRIES):  # states are saved by the clock, so the number of calls varies
        folder = bench.new_folder()
        result = bench.start(folder, [_random_kill(bench, random, SITES[activity])]).wait()
        if result.status == -signal.SIGKILL:
            bench.resume_and_check(folder)
            return ""
        if result.status:
            raise Lost(f"status {result.status} instead of a kill: {result.errors[-1500:]}")
        bench.check(folder)
    raise Lost(f"no kill in {TRIES} tries in {activity}")


def kill_three_times(bench: Bench, random: Random) -> str:
    """Kill a job, and twice more the job that resumes it."""
    sites = SITES["training"] + SITES["an evaluation"] + SITES["saving state"]
    folder, kills = bench.new_folder(), 0
    for _ in range(TRIES):
        injection = _random_kill(bench, random, sites)
        before = saved_states(folder)
        # Calls are counted from the start of a process, so each attempt has fewer of them.
        call = 1 + injection.call // (kills + 2)
        result = bench.start(folder, [dataclasses.replace(injection, call=call)]).wait()
        check_not_lost(before, folder)
        if result.status not in (0, -signal.SIGKILL):
            raise Lost(f"status {result.status} instead of a kill: {result.errors[-1500:]}")
        kills += result.status != 0
        if result.status == 0 or kills == 3:
            bench.resume_and_check(folder)
            if kills == 3:
                return ""
            folder, kills = bench.new_folder(), 0
    raise Lost(f"no three kills in {TRIES} tries")


def kill_at_a_time(bench: Bench, random: Random, forked: bool) -> str:
    """Kill a job at a random time; a subprocess is given time to import torch first."""
    for _ in range(TRIES):
        folder = bench.new_folder()
        job = bench.start(folder, forked=forked)
        while not forked and job.running and not has_state(folder):
            time.sleep(0.002)
        time.sleep(random.random() * bench.duration_s)
        job.kill()
        if job.wait().status == -signal.SIGKILL:
            bench.resume_and_check(folder)
            return ""
    raise Lost(f"no job was still running in {TRIES} tries")


def has_state(folder: Path) -> bool:
    """Return whether the job has begun to save state."""
    return any((folder / "state").glob("*/*"))


def stop_by_signal(bench: Bench, random: Random, name: str) -> str:
    """Send a signal in a step, an evaluation or a save: the job saves, logs it and exits."""
    folder, number = bench.new_folder(), signal.Signals[name]
    kill = _random_kill(bench, random, ("step", "pass", "evaluation", "tensors"))
    result = bench.start(folder, [dataclasses.replace(kill, action=name)]).wait()
    if result.status == 0:  # the signal came in the last call
        bench.check(folder)
    elif (
        result.status != 128 + number
        or f"stopped by {name}; everything trained so far is saved" not in result.message
    ):
        raise Lost(f"status {result.status}, {result.errors[-1500:]}")
    bench.resume_and_check(folder)
    return result.message


# fault: (function, least kills per call, share of all kills)
KILLS: dict[str, tuple[Callable[[Bench, Random], str], int, float]] = {
    "kill -9 at a random time (subprocess)": (partial(kill_at_a_time, forked=False), 1, 0.1),
    "kill -9 at a random time (fork)": (partial(kill_at_a_time, forked=True), 1, 0.25),
    **{
        f"kill -9 in {activity}": (partial(kill_at_a_site, activity=activity), 1, 0.1)
        for activity in SITES
    },
    "kill -9 three times in a row": (kill_three_times, 3, 0.15),
}
STOPS: dict[str, Callable[[Bench, Random], str]] = {
    name: partial(stop_by_signal, name=name) for name in ("SIGTERM", "SIGUSR1")
}
