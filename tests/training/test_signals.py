"""Stop or kill a training at any step: it resumes to the same bits as an undisturbed run."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from helpers.training import adapter_of, make_spec, rows_of, train

from lora.errors import Interrupted
from lora.training import checkpoint_schedule, evaluation, loop, run_state, signals

STEPS = 3 * 6  # three epochs of 42 examples in steps of 8


@pytest.fixture(scope="module")
def expected(bert_dir, tokens_dir, tmp_path_factory):
    """Rows and adapters of two undisturbed runs of different length."""
    folder = tmp_path_factory.mktemp("whole")
    specs = [make_spec(folder, 0), make_spec(folder, 1, "qkvo", 2, epochs=2)]
    train(specs, bert_dir, tokens_dir, folder / "state")
    return [(rows_of(one), adapter_of(one)) for one in specs]


def after(count: int, action):
    """Return an optimizer step that calls `action` after `count` steps."""
    step, done = loop._optimizer_step, []

    def stepped(*arguments):
        examples = step(*arguments)
        done.append(1)
        if len(done) == count:
            action()
        return examples

    return stepped


@pytest.mark.parametrize("number", signals.SIGNALS)
@pytest.mark.parametrize("count", [1, 5, 6, 12, 14])
def test_a_stopped_training_resumes_to_the_same_bits(
    bert_dir, tokens_dir, tmp_path, monkeypatch, expected, count, number
):
    """Within and at the end of an epoch; the runs resume separately or together."""
    before = signal.getsignal(number)
    specs = [make_spec(tmp_path, 0), make_spec(tmp_path, 1, "qkvo", 2, epochs=2)]
    with monkeypatch.context() as patched:
        patched.setattr(loop, "_optimizer_step", after(count, lambda: os.kill(os.getpid(), number)))
        with pytest.raises(Interrupted, match="run the same command again"):
            train(specs, bert_dir, tokens_dir, tmp_path / "state")
    assert signal.getsignal(number) == before
    monkeypatch.setattr(loop, "_optimizer_step", after(10**6, None))
    if count % 2:
        train(specs[1:], bert_dir, tokens_dir, tmp_path / "state")
    train(specs, bert_dir, tokens_dir, tmp_path / "state")
    assert [(rows_of(one), adapter_of(one)) for one in specs] == expected


def test_a_stop_in_an_evaluation_keeps_the_steps_of_the_epoch(
    bert_dir, tokens_dir, tmp_path, monkeypatch, expected
):
    """A signal during the evaluation: the epoch's steps are not repeated."""
    specs, steps, sent = [make_spec(tmp_path, 0)], [], []
    predict = evaluation.predict

    def slow(*arguments):
        if len(steps) == 6 and not sent:
            sent.append(1)
            os.kill(os.getpid(), signal.SIGTERM)
        return predict(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(evaluation, "predict", slow)
        patched.setattr(
            loop,
            "_optimizer_step",
            lambda *arguments, step=loop._optimizer_step: steps.append(1) or step(*arguments),
        )
        with pytest.raises(Interrupted):
            train(specs, bert_dir, tokens_dir, tmp_path / "state")
        steps.clear()
        train(specs, bert_dir, tokens_dir, tmp_path / "state")
    assert len(steps) == STEPS - 6
    assert (rows_of(specs[0]), adapter_of(specs[0])) == expected[0]


def test_state_is_saved_at_intervals(bert_dir, tokens_dir, tmp_path, monkeypatch):
    """Every second of a fake clock that moves 0.4 s at each reading."""
    saved, now = [], iter(range(10**6))
    monkeypatch.setattr(checkpoint_schedule.time, "monotonic", lambda: 0.4 * next(now))
    monkeypatch.setattr(
        run_state,
        "save",
        lambda run, *rest, save=run_state.save: saved.append(run.step) or save(run, *rest),
    )
    train(
        [make_spec(tmp_path, 0)], bert_dir, tokens_dir, tmp_path / "state", checkpoint_every_s=1.0
    )
    assert 18 in saved and len(set(saved)) > 6


@pytest.mark.parametrize(
    "cost_s, epochs", [(0.0, [6, 12, 18]), (0.1, [6, 12, 18]), (0.15, [6, 18]), (100.0, [6, 18])]
)
def test_state_is_saved_at_the_end_of_an_epoch_if_that_is_cheap(
    bert_dir, tokens_dir, tmp_path, monkeypatch, cost_s, epochs
):
    """On a fake clock an epoch takes 3 s.

    The second epoch is not saved if saving the first took more than 2 % of 6 s plus its own time. A
    finished run is always saved.
    """
    saved, now = [], [0.0]

    def step(*arguments, step=loop._optimizer_step):
        now[0] += 0.5
        return step(*arguments)

    def save(run, *rest, save=run_state.save):
        now[0] += cost_s
        saved.append(run.step)
        save(run, *rest)

    monkeypatch.setattr(checkpoint_schedule.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(loop, "_optimizer_step", step)
    monkeypatch.setattr(run_state, "save", save)
    train(
        [make_spec(tmp_path, 0)], bert_dir, tokens_dir, tmp_path / "state", checkpoint_every_s=1e9
    )
    assert saved == epochs


JOB = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {root!r}]
import torch
torch.set_num_threads(1)
from helpers.training import make_spec, train
from lora.training import loop
step = loop._optimizer_step
def slow(*arguments):
    import time
    time.sleep(0.02)
    return step(*arguments)
loop._optimizer_step = slow
folder = Path(sys.argv[1])
specs = [make_spec(folder, 0), make_spec(folder, 1, "qkvo", 2, epochs=2)]
model_dir, tokens_dir = map(Path, sys.argv[2:4])
train(specs, model_dir, tokens_dir, folder / "state", checkpoint_every_s=0.05)
"""


def test_a_training_killed_at_any_time_resumes_to_the_same_bits(
    bert_dir, tokens_dir, tmp_path, expected
):
    """kill -9 several times, each a little later after a state is saved."""
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
    specs = [make_spec(tmp_path, 0), make_spec(tmp_path, 1, "qkvo", 2, epochs=2)]
    assert [(rows_of(one), adapter_of(one)) for one in specs] == expected


def test_the_command_reports_the_signal_and_exits_with_128_plus_its_number(
    monkeypatch, capsys, tmp_path
):
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
