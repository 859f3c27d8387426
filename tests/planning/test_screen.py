"""The screen of the workflow: start, trained cells, errors, tables and claims."""

import io
import logging
from pathlib import Path

import pytest
from helpers.synthetic import load, make_runs, table

from lora.experiment.job_progress import JobProgress
from lora.planning import screen as screen_module
from lora.planning.screen import Screen
from lora.tables import collect


class Stream(io.StringIO):
    """A stream that is a terminal or not."""

    def __init__(self, terminal=False):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.fixture
def grid(tmp_path):
    six = table(["minilm"], ["sst2"], ["q", "qv"], [1, 8])
    return load(
        seeds=[0, 1],
        results=str(tmp_path),
        overrides=dict(epochs=2),
        tables=dict(table2=None, table6=six),
    )


def message(screen, text="", level=logging.INFO, **facts):
    record = logging.LogRecord("snakemake", level, "", 0, text, None, None)
    vars(record).update(facts)
    screen.emit(record)


def job(screen, cell, tmp_path, jobid=1, **facts):
    wildcards = {name: str(value) for name, value in vars(cell).items()}
    facts |= dict(rule_name="train", wildcards=wildcards, log=[str(tmp_path / "train.log")])
    message(screen, event="job_info", jobid=jobid, **facts)


def test_a_whole_run(grid, tmp_path):
    stream = Stream()
    screen = Screen(stream)
    message(screen, "Building DAG of jobs...")
    screen.start(grid, training=4, log_files=["all.log"])
    cell = grid.cells[0]
    job(screen, cell, tmp_path)
    make_runs(grid, tmp_path / "runs")
    message(screen, event="job_finished", job_id=1)
    collect.collect(grid, tmp_path / "runs", tmp_path / "tables/runs.csv")
    screen.end(success=True)
    screen.close()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "Trains    MiniLM on SST-2: 4 cells, 2 seeds"
    assert lines[1] == "To do     8 runs, in 4 jobs; then tables and figures"
    assert lines[2].startswith("Time      about ") and lines[4] == "Log       all.log"
    assert lines[5].startswith("[1/4] SST-2, LoRA r=1 on q: accuracy 90.0±.0")
    text = stream.getvalue()
    assert "LoRA by rank and weight type" in text and "Claims of the paper" in text
    assert "a small rank is enough" in text and "Building DAG" not in text
    assert not {"\r", "\x1b"} & set(text) and max(map(len, lines)) <= 80


def test_a_failed_job_is_named_with_its_log(grid, tmp_path):
    (tmp_path / "train.log").write_text("1 lora train: error: no space left on device\n")
    stream = Stream()
    screen = Screen(stream)
    screen.start(grid, 4, [], local=False)
    job(screen, grid.cells[0], tmp_path)
    facts = dict(rule_name="train", jobid=1, log=[str(tmp_path / "train.log")], event="job_error")
    message(screen, "Error in rule train", logging.ERROR, **facts)
    command = "CalledProcessError: a long command"
    message(screen, command, logging.ERROR, event="error", exception="CalledProcessError")
    screen.end(success=False)
    text = stream.getvalue()
    assert "FAILED    train minilm sst2 lora q 1" in text and "long command" not in text
    assert "  no space left on device" in text and f"  log: {tmp_path}/train.log" in text
    assert "run the same command again" in text


def test_messages_are_held_back_until_it_is_known_whether_jobs_run(grid):
    """Without jobs they are shown at the end; an error shows alone; warnings show at once."""
    stream = Stream()
    screen = Screen(stream)
    message(screen, "Nothing to be done")
    message(screen, "careful", logging.WARNING)
    assert stream.getvalue() == "careful\n"
    screen.close()
    assert stream.getvalue() == "careful\nNothing to be done\n"

    stream = Stream()
    screen = Screen(stream)
    message(screen, "Building DAG")
    message(screen, "The config is not valid", logging.ERROR)
    screen.close()
    assert stream.getvalue() == "The config is not valid\n"


def test_quiet_shows_warnings_and_errors_only(grid, tmp_path):
    stream = Stream()
    screen = Screen(stream, quiet=True)
    message(screen, "Building DAG")
    screen.start(grid, 4, ["all.log"])
    make_runs(grid, tmp_path / "runs")
    job(screen, grid.cells[0], tmp_path)
    message(screen, event="job_finished", job_id=1)
    message(screen, "careful", logging.WARNING)
    screen.end(success=True)
    screen.close()
    assert stream.getvalue() == "careful\n"


def test_jobs_of_other_rules(grid):
    stream = Stream()
    screen = Screen(stream)
    screen.start(grid, 4, [])
    before = stream.getvalue()
    for jobid, rule, wildcards in (
        (1, "fetch", dict(source="minilm")),
        (2, "prepare", dict(model="minilm", task="sst2", max_tokens="128")),
        (3, "table", dict(table="table2")),
    ):
        facts = dict(rule_name=rule, wildcards=wildcards, log=[])
        message(screen, event="job_info", jobid=jobid, **facts)
        message(screen, event="job_finished", job_id=jobid)
    message(screen, event="job_finished", job_id=99)
    screen.close()
    assert stream.getvalue().removeprefix(before) == (
        "Fetch     minilm  (0 s)\nPrepare   sst2 for minilm, at most 128 tokens  (0 s)\n"
    )


def test_errors_are_shown_without_places_in_the_rules():
    """What was wrong and what to do stays, also a file of the user's."""
    stream = Stream()
    text = (
        'WorkflowError in file "/a b/environment.smk", line 61:\nseeds is -1\n'
        '  File "/a b/environment.smk", line 61, in <module>'
    )
    message(Screen(stream), text, logging.ERROR)
    message(Screen(stream), 'File "mine.csv", line 3: no label', logging.ERROR)
    assert stream.getvalue() == ('WorkflowError:\nseeds is -1\nFile "mine.csv", line 3: no label\n')


@pytest.mark.parametrize("width", [20, 40, 79, 119])
def test_the_live_line_fits_and_keeps_its_first_parts(width):
    position = "epoch 2/3  step 39/114  loss 0.706  accuracy 0.812"
    one = JobProgress("minilm product-sentiment qkvo r64", position, 50, 100, 10.0, 0.0)
    text = screen_module._live_text([one], width)
    whole = screen_module._live_text([one], 1000)
    assert len(text) <= width and whole.startswith(text)
    assert whole.endswith("  50%  5 s left  10 examples/s  " + position)
    assert ("left" in text) == (width >= 79)


def test_the_line_of_the_longest_cell_fits_80_columns(tmp_path):
    """The demo's longest task, four weight types and a rank of two digits."""
    six = table(["minilm"], ["product-sentiment"], ["q", "qkvo"], [8, 64])
    tables = dict(table2=None, table6=six)
    grid = load(seeds=[0, 1], results=str(tmp_path), overrides=dict(epochs=2), tables=tables)
    stream = Stream()
    screen = Screen(stream)
    screen.start(grid, 4, [str(Path.cwd() / "logs/all.log")])
    make_runs(grid, tmp_path / "runs")
    (tmp_path / "runs" / grid.cells[0].path / "seed0/metrics.csv").unlink()  # time is left
    job(screen, grid.cells[-1], tmp_path)
    message(screen, event="job_finished", job_id=1)
    lines = stream.getvalue().splitlines()
    assert lines[-2] == "Log       logs/all.log"
    assert lines[-1].startswith("[1/4] Product sentiment, LoRA r=64 on qkvo: accuracy")
    assert lines[-1].endswith(" left") and len(lines[-1]) <= 80


def test_a_line_after_the_live_line_was_removed_starts_at_the_left():
    """The live line is removed while nothing trains, before the next line is written."""
    stream = Stream(terminal=True)
    screen = Screen(stream)
    screen._show_live("Training  2 jobs")
    screen._show_live("")
    screen._print("done")
    assert stream.getvalue() == f"\rTraining  2 jobs\r{16 * ' '}\rdone\n"
