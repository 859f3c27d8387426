"""Told to stop, killed, or cut off at any step: what is saved lies between two steps, and going on from it gives the bits of
a run that nobody disturbed."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from helpers.training import adapter_of, asked, go, rows_of

from lora.errors import Interrupted
from lora.training import checkpoint_schedule, evaluation, loop, run_state, signals

STEPS = 3 * 6  # three epochs of 42 examples in steps of 8


@pytest.fixture(scope="module")
def whole(bert_dir, tokens_dir, tmp_path_factory):
    """Two runs of other length that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    wanted = [asked(folder, 0), asked(folder, 1, "qkvo", 2, epochs=2)]
    go(wanted, bert_dir, tokens_dir, folder / "state")
    return [(rows_of(one), adapter_of(one)) for one in wanted]


def after(count: int, what):
    """A step that does `what` once `count` steps are done."""
    step, done = loop._step, []

    def stepped(*arguments):
        examples = step(*arguments)
        done.append(1)
        if len(done) == count:
            what()
        return examples

    return stepped


@pytest.mark.parametrize("number", signals.SIGNALS)
@pytest.mark.parametrize("count", [1, 5, 6, 12, 14])
def test_told_to_stop_it_saves_and_goes_on_to_the_same_bits(
    bert_dir, tokens_dir, tmp_path, monkeypatch, whole, count, number
):
    """In mid-epoch and at epochs' ends; the runs go on apart, then together."""
    before = signal.getsignal(number)
    wanted = [asked(tmp_path, 0), asked(tmp_path, 1, "qkvo", 2, epochs=2)]
    with monkeypatch.context() as patched:
        patched.setattr(loop, "_step", after(count, lambda: os.kill(os.getpid(), number)))
        with pytest.raises(Interrupted, match="the same command goes on"):
            go(wanted, bert_dir, tokens_dir, tmp_path / "state")
    assert signal.getsignal(number) == before
    monkeypatch.setattr(loop, "_step", after(10**6, None))
    if count % 2:
        go(wanted[1:], bert_dir, tokens_dir, tmp_path / "state")
    go(wanted, bert_dir, tokens_dir, tmp_path / "state")
    assert [(rows_of(one), adapter_of(one)) for one in wanted] == whole


def test_a_stop_in_an_evaluation_keeps_the_epoch(
    bert_dir, tokens_dir, tmp_path, monkeypatch, whole
):
    """The signal comes while the evaluation set is gone through: the epoch's steps are not made again."""
    wanted, steps, told = [asked(tmp_path, 0)], [], []
    predict = evaluation.predict

    def slow(*arguments):
        if len(steps) == 6 and not told:
            told.append(1)
            os.kill(os.getpid(), signal.SIGTERM)
        return predict(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(evaluation, "predict", slow)
        patched.setattr(
            loop, "_step", lambda *arguments, step=loop._step: steps.append(1) or step(*arguments)
        )
        with pytest.raises(Interrupted):
            go(wanted, bert_dir, tokens_dir, tmp_path / "state")
        steps.clear()
        go(wanted, bert_dir, tokens_dir, tmp_path / "state")
    assert len(steps) == STEPS - 6
    assert (rows_of(wanted[0]), adapter_of(wanted[0])) == whole[0]


def test_state_is_saved_by_the_clock(bert_dir, tokens_dir, tmp_path, monkeypatch):
    """Each second of a stand-in clock that moves 0.4 s a look; a cut-off then loses no more than that."""
    saved, now = [], iter(range(10**6))
    monkeypatch.setattr(checkpoint_schedule.time, "monotonic", lambda: 0.4 * next(now))
    monkeypatch.setattr(
        run_state,
        "save",
        lambda run, *rest, save=run_state.save: saved.append(run.step) or save(run, *rest),
    )
    go([asked(tmp_path, 0)], bert_dir, tokens_dir, tmp_path / "state", checkpoint_every_s=1.0)
    assert 18 in saved and len(set(saved)) > 6


@pytest.mark.parametrize(
    "cost_s, epochs", [(0.0, [6, 12, 18]), (0.1, [6, 12, 18]), (0.15, [6, 18]), (100.0, [6, 18])]
)
def test_state_at_the_end_of_an_epoch_is_saved_if_that_costs_little(
    bert_dir, tokens_dir, tmp_path, monkeypatch, cost_s, epochs
):
    """On a stand-in clock an epoch takes 3 s: the second one is not saved where the first one's state took more than 2 % of
    the 6 s and its own time. What is finished always is."""
    saved, now = [], [0.0]

    def step(*arguments, step=loop._step):
        now[0] += 0.5
        return step(*arguments)

    def save(run, *rest, save=run_state.save):
        now[0] += cost_s
        saved.append(run.step)
        save(run, *rest)

    monkeypatch.setattr(checkpoint_schedule.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(loop, "_step", step)
    monkeypatch.setattr(run_state, "save", save)
    go([asked(tmp_path, 0)], bert_dir, tokens_dir, tmp_path / "state", checkpoint_every_s=1e9)
    assert saved == epochs


JOB = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {root!r}]
import torch
torch.set_num_threads(1)
from helpers.training import asked, go
from lora.training import loop
step = loop._step
def slow(*arguments):
    import time
    time.sleep(0.02)
    return step(*arguments)
loop._step = slow
folder = Path(sys.argv[1])
go([asked(folder, 0), asked(folder, 1, "qkvo", 2, epochs=2)], Path(sys.argv[2]), Path(sys.argv[3]), folder / "state",
   checkpoint_every_s=0.05)
"""


def test_killed_at_any_instant_it_goes_on_to_the_same_bits(bert_dir, tokens_dir, tmp_path, whole):
    """kill -9 again and again, each a little later after the first step, until the job is through."""
    from helpers.models import ROOT

    command = [
        sys.executable,
        "-c",
        JOB.format(tests=str(ROOT / "tests"), root=str(ROOT)),
        *map(str, (tmp_path, bert_dir, tokens_dir)),
    ]
    kills = 0
    for attempt in range(40):
        job = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        state = tmp_path / "state"
        before = {path: path.stat().st_mtime_ns for path in state.rglob("state.json")}
        while job.poll() is None:
            changed = {
                path: path.stat().st_mtime_ns for path in state.rglob("state.json") if path.exists()
            } != before
            if changed and attempt < 3:
                time.sleep(0.013 * attempt)
                job.kill()
                kills += 1
                break
            time.sleep(0.005)
        _, errors = job.communicate()
        if job.returncode == 0:
            break
        assert job.returncode == -signal.SIGKILL, errors
    assert kills >= 2
    wanted = [asked(tmp_path, 0), asked(tmp_path, 1, "qkvo", 2, epochs=2)]
    assert [(rows_of(one), adapter_of(one)) for one in wanted] == whole


def test_the_command_says_so_and_exits_as_a_stopped_process_does(monkeypatch, capsys, tmp_path):
    from lora.__main__ import main

    def stopped(*_):
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr("lora.tables.collect.collect", stopped)
    arguments = [
        "collect",
        "--config",
        json.dumps(_default()),
        "--runs-dir",
        str(tmp_path),
        "--output",
        str(tmp_path / "out"),
    ]
    assert main(arguments) == 128 + signal.SIGTERM
    assert "stopped by SIGTERM" in capsys.readouterr().err


def _default() -> dict:
    import yaml
    from helpers.models import ROOT

    return yaml.safe_load((ROOT / "config/config.yaml").read_text())
