"""Killed or told to stop, anywhere: the same command goes on from what was saved, to the same bytes."""

import signal
import time
from functools import partial
from random import Random

from faults.bench import Bench, Lost, not_behind, states

PLACES = {  # of hooks, by what the job is doing there
    "training": ("plan", "step", "gradients", "pass", "optimiser"),
    "an evaluation": ("evaluation", "end of epoch"),
    "saving state": ("state", "tensors", "write state tensors", "rename state tensors", "write state.json",
                     "rename state.json", "rename before.json", "old state"),
    "writing an adapter": ("adapter", "write adapter_model.safetensors", "rename adapter_model.safetensors",
                           "write adapter_config.json", "rename adapter_config.json"),
    "writing run.json and metrics.csv": ("outputs", "write run.json", "rename run.json", "write metrics.csv",
                                         "rename metrics.csv"),
}  # fmt: skip
TRIES = 20  # how often a place is not reached, or a job is through, before a kill finds it


def _act(bench: Bench, random: Random, places) -> dict:
    """A blow at a random call of one of these places; files under way are also torn."""
    place = random.choice([place for place in places if bench.calls.get(place)])
    when = random.choice(("before", "after"))
    torn = place.startswith("write ") and when == "before" and random.random() < 0.5
    return dict(
        place=place,
        when=when,
        call=random.randint(1, bench.calls[place]),
        do="tear" if torn else "kill",
    )


def at_a_place(bench: Bench, random: Random, doing: str) -> str:
    for _ in range(TRIES):  # states are saved by the clock: not every call comes every time
        folder = bench.new()
        ended = bench.start(folder, [_act(bench, random, PLACES[doing])]).end()
        if ended.status == -signal.SIGKILL:
            bench.finish(folder)
            return ""
        if ended.status:
            raise Lost(f"status {ended.status} in place of a kill: {ended.errors[-1500:]}")
        bench.check(folder)
    raise Lost(f"no kill in {TRIES} tries in {doing}")


def three_times(bench: Bench, random: Random) -> str:
    """In the first go, and twice in what goes on from there."""
    places = PLACES["training"] + PLACES["an evaluation"] + PLACES["saving state"]
    folder, kills = bench.new(), 0
    for _ in range(TRIES):
        act = _act(bench, random, places)
        before = states(folder)
        # Calls count from the start of a process, so each go has fewer of them than the one before.
        ended = bench.start(folder, [act | dict(call=1 + act["call"] // (kills + 2))]).end()
        not_behind(before, folder)
        if ended.status not in (0, -signal.SIGKILL):
            raise Lost(f"status {ended.status} in place of a kill: {ended.errors[-1500:]}")
        kills += ended.status != 0
        if ended.status == 0 or kills == 3:
            bench.finish(folder)
            if kills == 3:
                return ""
            folder, kills = bench.new(), 0
    raise Lost(f"no three kills in {TRIES} tries")


def at_an_instant(bench: Bench, random: Random, forked: bool) -> str:
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


def told_to_stop(bench: Bench, random: Random, name: str) -> str:
    """In a step, in an evaluation or while state is saved: told once the job is at work it saves, says so and leaves."""
    folder, number = bench.new(), signal.Signals[name]
    act = _act(bench, random, ("step", "pass", "evaluation", "tensors")) | dict(do=name)
    ended = bench.start(folder, [act]).end()
    if ended.status == 0:  # in its very last call
        bench.check(folder)
    elif (
        ended.status != 128 + number
        or f"stopped by {name}; all that was trained is saved" not in ended.message
    ):
        raise Lost(f"status {ended.status}, {ended.errors[-1500:]}")
    bench.finish(folder)
    return ended.message


KILLS = {  # fault: (what it does, kills in one go at least, share of all kills)
    "kill -9 at a random instant of a process": (partial(at_an_instant, forked=False), 1, 0.1),
    "kill -9 at a random instant of a fork": (partial(at_an_instant, forked=True), 1, 0.25),
    **{f"kill -9 in {doing}": (partial(at_a_place, doing=doing), 1, 0.1) for doing in PLACES},
    "kill -9 three times in a row": (three_times, 3, 0.15),
}
STOPS = {name: partial(told_to_stop, name=name) for name in ("SIGTERM", "SIGUSR1")}
