"""Trainings that are stopped or killed at any step resume to the bits of an uninterrupted run."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from helpers.models import ROOT
from helpers.training import adapter_of, make_spec, rows_of, train

from lora.__main__ import main
from lora.errors import Interrupted
from lora.experiment.run_spec import RunSpec
from lora.training import checkpoint_schedule, evaluation, pack_step, run_state, signals

STEPS = 3 * 6  # three epochs of 42 examples in steps of 8


@pytest.fixture(scope="module")
def expected(bert_dir, tokens_dir, tmp_path_factory):
    """Rows and adapters of two uninterrupted runs of different length."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    specs = make_specs(folder)
    train(specs, bert_dir, tokens_dir, folder / "state")
    return [(rows_of(spec), adapter_of(spec)) for spec in specs]


def make_specs(folder: Path) -> list[RunSpec]:
    """Return two runs, of three and of two epochs."""
    return [make_spec(folder, 0), make_spec(folder, 1, "qkvo", 2, epochs=2)]


@pytest.mark.parametrize("number", signals.SIGNALS)
@pytest.mark.parametrize("count", [1, 5, 6, 12, 14])
def test_stopped_training_resumes_to_the_same_bits(
    bert_dir, tokens_dir, tmp_path, monkeypatch, expected, count, number
):
    """The signal comes after `count` steps, in or at the end of an epoch.

    The runs are resumed one after the other or together.
    """
    before = signal.getsignal(number)
    specs = make_specs(tmp_path)
    optimizer_step, calls = pack_step.optimizer_step, []

    def step_and_send_signal(*arguments):
        examples = optimizer_step(*arguments)
        calls.append(arguments)
        if len(calls) == count:
            os.kill(os.getpid(), number)
        return examples

    monkeypatch.setattr(pack_step, "optimizer_step", step_and_send_signal)
    with pytest.raises(Interrupted, match="run the same command again"):
        train(specs, bert_dir, tokens_dir, tmp_path / "state")
    monkeypatch.setattr(pack_step, "optimizer_step", optimizer_step)
    assert signal.getsignal(number) == before
    if count % 2:
        train(specs[1:], bert_dir, tokens_dir, tmp_path / "state")
    train(specs, bert_dir, tokens_dir, tmp_path / "state")
    assert [(rows_of(spec), adapter_of(spec)) for spec in specs] == expected


def test_training_stops_before_its_time_limit_and_resumes_to_the_same_bits(
    bert_dir, tokens_dir, tmp_path, monkeypatch, expected
):
    """As often as needed. Limits below 40 s save at half of their time."""
    specs, attempts = make_specs(tmp_path), 0
    optimizer_step = pack_step.optimizer_step

    def slow_step(*arguments):
        time.sleep(0.25)
        return optimizer_step(*arguments)

    monkeypatch.setattr(pack_step, "optimizer_step", slow_step)
    while attempts < 20:
        try:
            train(specs, bert_dir, tokens_dir, tmp_path / "state", limit_s=4)
            break
        except Interrupted as stopped:
            assert "stopped by its time limit" in str(stopped)
            attempts += 1
    assert 1 <= attempts < 20
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert [(rows_of(spec), adapter_of(spec)) for spec in specs] == expected


def test_margin_before_a_time_limit():
    """A twentieth, at least 20 s and at most 5 minutes, and never more than half."""
    limits = [10, 60, 600, 3600, 24 * 3600]
    assert [signals.margin(limit) for limit in limits] == [5, 20, 30, 180, 300]


def test_stop_in_an_evaluation_keeps_the_steps_of_the_epoch(
    bert_dir, tokens_dir, tmp_path, monkeypatch, expected
):
    """The resumed run evaluates the epoch without repeating its steps."""
    spec, steps, sent = make_spec(tmp_path, 0), [], []
    predict, optimizer_step = evaluation.predict, pack_step.optimizer_step

    def predict_and_send_signal(*arguments):
        if len(steps) == 6 and not sent:
            sent.append(signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
        return predict(*arguments)

    def count_step(*arguments):
        steps.append(arguments)
        return optimizer_step(*arguments)

    monkeypatch.setattr(evaluation, "predict", predict_and_send_signal)
    monkeypatch.setattr(pack_step, "optimizer_step", count_step)
    with pytest.raises(Interrupted):
        train([spec], bert_dir, tokens_dir, tmp_path / "state")
    steps.clear()
    train([spec], bert_dir, tokens_dir, tmp_path / "state")
    assert len(steps) == STEPS - 6
    assert (rows_of(spec), adapter_of(spec)) == expected[0]


def test_checkpoint_is_saved_at_intervals(bert_dir, tokens_dir, tmp_path, monkeypatch):
    """Every second of a fake clock that advances 0.4 s at each reading."""
    saved_steps, readings, save = [], itertools.count(), run_state.save

    def record_save(run, *rest):
        saved_steps.append(run.step)
        save(run, *rest)

    monkeypatch.setattr(checkpoint_schedule.time, "monotonic", lambda: 0.4 * next(readings))
    monkeypatch.setattr(run_state, "save", record_save)
    spec = make_spec(tmp_path, 0)
    train([spec], bert_dir, tokens_dir, tmp_path / "state", checkpoint_every_s=1.0)
    assert 18 in saved_steps and len(set(saved_steps)) > 6


@pytest.mark.parametrize(
    "save_s, expected_steps",
    [(0.0, [6, 12, 18]), (0.1, [6, 12, 18]), (0.15, [6, 18]), (100.0, [6, 18])],
)
def test_checkpoint_is_saved_after_an_epoch_if_saving_is_cheap(
    bert_dir, tokens_dir, tmp_path, monkeypatch, save_s, expected_steps
):
    """On a fake clock an epoch takes 3 s.

    The second epoch is not saved if saving the first took more than 2 % of 6 s plus its own time. A
    finished run is always saved.
    """
    saved_steps, now = [], [0.0]
    optimizer_step, save = pack_step.optimizer_step, run_state.save

    def timed_step(*arguments):
        now[0] += 0.5
        return optimizer_step(*arguments)

    def timed_save(run, *rest):
        now[0] += save_s
        saved_steps.append(run.step)
        save(run, *rest)

    monkeypatch.setattr(checkpoint_schedule.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(pack_step, "optimizer_step", timed_step)
    monkeypatch.setattr(run_state, "save", timed_save)
    spec = make_spec(tmp_path, 0)
    train([spec], bert_dir, tokens_dir, tmp_path / "state", checkpoint_every_s=1e9)
    assert saved_steps == expected_steps


JOB = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {root!r}]
import torch
torch.set_num_threads(1)
from helpers.training import make_spec, train
from lora.training import pack_step
step = pack_step.optimizer_step
def slow(*arguments):
    import time
    time.sleep(0.02)
    return step(*arguments)
pack_step.optimizer_step = slow
folder = Path(sys.argv[1])
specs = [make_spec(folder, 0), make_spec(folder, 1, "qkvo", 2, epochs=2)]
model_dir, tokens_dir = map(Path, sys.argv[2:4])
train(specs, model_dir, tokens_dir, folder / "state", checkpoint_every_s=0.05)
"""


def test_killed_training_resumes_to_the_same_bits(bert_dir, tokens_dir, tmp_path, expected):
    """Three times kill -9, each a little later after a checkpoint was saved."""
    program = JOB.format(tests=str(ROOT / "tests"), root=str(ROOT))
    command = [sys.executable, "-c", program, *map(str, (tmp_path, bert_dir, tokens_dir))]
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
    assert [(rows_of(spec), adapter_of(spec)) for spec in make_specs(tmp_path)] == expected


def test_stopped_command_reports_the_signal_and_exits_with_128_plus_its_number(
    monkeypatch, capsys, tmp_path
):
    def collect(*_):
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr("lora.tables.collect.collect", collect)
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    arguments = [
        "collect",
        *("--config", json.dumps(config)),
        *("--runs-dir", str(tmp_path)),
        *("--output-dir", str(tmp_path / "out")),
    ]
    assert main(arguments) == 128 + signal.SIGTERM
    assert "stopped by SIGTERM" in capsys.readouterr().err
