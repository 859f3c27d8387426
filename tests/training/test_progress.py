"""The progress bar on a terminal, and the lines in the log."""

import io
import logging
from types import SimpleNamespace

import pytest

from lora.experiment import job_progress
from lora.training import progress
from lora.training.progress import Progress


class Stream(io.StringIO):
    """A stream that is a terminal or not."""

    def __init__(self, terminal: bool):
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
def elapsed(monkeypatch) -> list[float]:
    """The time in seconds on a fake clock; the test sets item 0."""
    seconds = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds[0])
    return seconds


@pytest.mark.parametrize(
    "seconds, text", [(0, "0:00:00"), (59.6, "0:01:00"), (3725, "1:02:05"), (360000, "100:00:00")]
)
def test_clock_shows_hours_minutes_and_seconds(seconds, text):
    assert progress.clock(seconds) == text


def test_bar_shows_epoch_step_rate_and_time_left(monkeypatch):
    monkeypatch.setattr(progress, "BAR_EVERY_S", 0.0)
    stream = Stream(terminal=True)
    bar = Progress("SST-2, 2 runs", 100, stream)
    bar.show(25, "epoch 1/3  step 4/12")
    line = stream.getvalue().rpartition("\r")[2]
    assert line.startswith("SST-2, 2 runs  epoch 1/3  step 4/12   25%|")
    assert " examples/s  " in line and line.rstrip().endswith(" left")
    bar.clear()
    assert stream.getvalue().rpartition("\r")[0].rpartition("\r")[2].isspace()


def test_without_a_terminal_progress_is_in_the_log_only(elapsed, caplog):
    """At most one line a minute."""
    stream = Stream(terminal=False)
    bar = Progress("SST-2", 1000, stream)
    with caplog.at_level(logging.INFO):
        for elapsed[0] in (30.0, 61.0, 62.0):
            bar.show(100, "epoch 1/3  step 4/12")
        bar.clear()
    assert stream.getvalue() == ""
    assert caplog.messages == ["SST-2  epoch 1/3  step 4/12  3 examples/s  0:04:04 left"]
    assert bar.rate() == 300 / 62


def test_progress_file_while_the_job_runs(elapsed, tmp_path):
    """Written at the first step and every few seconds, and deleted at the end."""
    path = tmp_path / job_progress.NAME
    bar = Progress("SST-2", 1000, Stream(terminal=False), path)
    assert not path.exists()
    for elapsed[0], done in ((1.0, 100), (2.0, 100), (4.0, 300)):
        bar.show(100, "epoch 1/3")
        assert job_progress.read(path).done == done
    found = job_progress.read(path)
    assert (found.label, found.position, found.total) == ("SST-2", "epoch 1/3", 1000)
    assert (found.rate, found.left_s) == (75.0, pytest.approx(700 / 75))
    bar.close()
    assert not path.exists()
    bar.close()


def state(metric="accuracy", rows=(), **axes):
    """Return what `position` and `of_pack` read of a run."""
    cell = SimpleNamespace(**dict(model="minilm", task="sst2", weights="q", rank=8) | axes)
    hparams, task = SimpleNamespace(epochs=3), SimpleNamespace(metric=metric)
    spec = SimpleNamespace(cell=cell, hparams=hparams, task=task)
    numbers = dict(epoch=len(rows), step=4, total_steps=12, done=False)
    return SimpleNamespace(spec=spec, rows=list(rows), tokens=dict(train=range(50)), **numbers)


def test_position_has_epoch_step_loss_and_metric():
    """The means of the runs of a pack; no metric where the runs have several."""
    assert progress.position([state()]) == "epoch 1/3  step 4/12"
    rows = [dict(train_loss=0.5, accuracy=0.8), dict(train_loss=0.7, accuracy=0.9)]
    runs = [state(rows=[row]) for row in rows]
    assert progress.position(runs) == "epoch 2/3  step 4/12  loss 0.600  accuracy 0.850"
    other = state("pearson", rows=[dict(train_loss=0.6, pearson=0.1)])
    assert progress.position([*runs, other]) == "epoch 2/3  step 4/12  loss 0.600"


def test_progress_of_a_pack_counts_the_epochs_that_are_left():
    done = state()
    done.done = True
    one = progress.of_pack([state(), state(rows=[{}, {}], rank=64), done], None)
    assert (one.label, one.total) == ("minilm sst2 q 2 ranks", 3 * 50 + 50)
