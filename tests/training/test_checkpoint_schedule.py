"""CheckpointSchedule on a fake clock: when runs are saved, and how long each was trained."""

import math
import types

import pytest

from lora.training import checkpoint_schedule, run_outputs, run_state
from lora.training.checkpoint_schedule import CheckpointSchedule


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the test and saving move; saving takes `save_s` seconds."""
    clock = types.SimpleNamespace(now=0.0, save_s=0.0, saved=[], written=[])

    def save(run, state_dir, record):
        clock.now += clock.save_s
        clock.saved.append((run, record))

    monkeypatch.setattr(checkpoint_schedule.time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(run_state, "save", save)
    monkeypatch.setattr(
        run_outputs, "write_outputs", lambda *arguments: clock.written.append(arguments)
    )
    return clock


def make_run(done=False):
    return types.SimpleNamespace(done=done, wall_s=0.0)


@pytest.mark.parametrize("save_s, saves", [(0.0, 2), (0.1, 2), (0.15, 1), (100.0, 1)])
def test_epoch_is_saved_if_saving_took_at_most_2_percent(clock, tmp_path, save_s, saves):
    """Epochs of 3 s: after the second one, the first save may have taken 2 % of 6 s."""
    clock.save_s, run = save_s, make_run()
    schedule = CheckpointSchedule(tmp_path, math.inf)
    for _ in range(2):
        clock.now += 3
        schedule.end_epoch([run], None)
    assert len(clock.saved) == saves


def test_finished_run_is_always_saved_and_written(clock, tmp_path):
    clock.save_s = 1000.0
    schedule, run = CheckpointSchedule(tmp_path, math.inf), make_run()
    schedule.end_epoch([run], None)
    run.done = True
    schedule.end_epoch([run], lambda run: "record")
    assert clock.saved[-1] == (run, "record") and clock.written == [(run, "record")]


def test_all_runs_are_saved_at_the_interval(clock, tmp_path):
    """Every 10 s: twice in 25 s."""
    schedule, runs = CheckpointSchedule(tmp_path, 10.0), [make_run(), make_run()]
    schedule.unfinished = runs
    for _ in range(25):
        clock.now += 1
        schedule.save_if_due()
    assert [run for run, _ in clock.saved] == runs * 2


def test_training_time_counts_for_unfinished_runs_only(clock, tmp_path):
    """The time of saving counts too."""
    schedule, first, second = CheckpointSchedule(tmp_path, math.inf), make_run(), make_run()
    schedule.unfinished = [first, second]
    clock.now += 5
    schedule.save_all()
    schedule.unfinished = [second]
    clock.now, clock.save_s = clock.now + 2, 0.5
    schedule.save_all()
    schedule.save_all()
    assert (first.wall_s, second.wall_s) == (5.0, 7.5)
