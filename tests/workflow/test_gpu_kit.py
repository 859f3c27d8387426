"""The kit that measures a GPU (benchmarks/gpu): its steps at tiny sizes."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import shapes
from gpu import checks, report, speed, steps
from gpu.settings import Settings
from helpers.models import ROOT

# What a machine with torch and transformers alone does not have.
ABSENT = ("snakemake", "evaluate", "datasets", "pandas")
WITHOUT = f"""
from importlib.machinery import PathFinder

find = PathFinder.find_spec


def find_spec(cls, name, path=None, target=None):
    return None if name.partition(".")[0] in {ABSENT} else find(name, path, target)


PathFinder.find_spec = classmethod(find_spec)
"""


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(tmp_path / "work", "cpu", True, tmp_path / "no", tmp_path / "no")


@pytest.fixture
def without_libraries(tmp_path) -> dict[str, str]:
    """An environment in which Python cannot import ABSENT."""
    folder = tmp_path / "absent"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(WITHOUT)
    path = os.pathsep.join(map(str, (folder, ROOT / "benchmarks", ROOT)))
    return os.environ | dict(PYTHONPATH=path, OMP_NUM_THREADS="1")


def run_kit(environment: dict[str, str], *arguments: object) -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", "gpu", *map(str, arguments)]
    return subprocess.run(words, env=environment, capture_output=True, text=True)


def test_without_a_gpu_it_stops_in_one_sentence(without_libraries, tmp_path):
    done = run_kit(without_libraries, "--work", tmp_path / "work", "--output", tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "torch sees no GPU on this machine, so nothing was measured.\n"
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("name", ["packed", pytest.param("resume", marks=pytest.mark.slow)])
def test_training_steps_work_without_the_libraries_of_the_workflow(
    without_libraries, settings, name
):
    """The libraries are absent in the step's process and in the jobs that it starts."""
    request = json.dumps(
        dict(folder=str(settings.folder), device="cpu", tiny=True, model_dir="no", tokens_dir="no")
    )
    done = run_kit(without_libraries, "--step", name, "--settings", request)
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["status"] == "ok", result
    if name == "packed":  # on a CPU to the bit
        assert result["values"]["largest_difference"] == dict(fp32=0.0, bf16=0.0)
    else:
        assert result["values"]["same_bits"] and result["values"]["largest_difference"] == 0


@pytest.mark.slow
def test_all_steps_run_once_and_give_a_report(without_libraries, tmp_path):
    """The second call skips what is done, and runs again what was skipped."""
    options = ["--tiny", "--work", tmp_path / "work", "--output", tmp_path / "out"]
    options += ["--model-dir", tmp_path, "--tokens-dir", tmp_path]
    first, second = run_kit(without_libraries, *options), run_kit(without_libraries, *options)
    assert first.returncode == second.returncode == 0, first.stdout + first.stderr
    assert second.stdout.count("done before") == len(steps.STEPS) - 1
    assert "learning: skipped (no" in second.stdout
    (path,) = (tmp_path / "out").glob("*.json")
    results = json.loads(path.read_text())
    assert list(results) == list(steps.STEPS)
    rows = report.speed_rows(results)
    assert [row["status"] for row in rows] == ["ok"] * 12
    assert all(row["predicted_gib"] > 0 for row in rows if row["way"] == "ours")
    text = path.with_suffix(".md").read_text()
    assert "| Kill and resume | ok |" in text and "roberta-large, mnli, peft_grouped" in text


@pytest.fixture
def counted(monkeypatch):
    """Three steps in this process; the list has the names of those that were run."""
    ran = []

    def fails(settings):
        raise RuntimeError("it broke\nand more")

    def skips(settings):
        raise checks.Skipped("no second GPU")

    made = {"machine": lambda settings: dict(value=1), "bad": fails, "other": skips}
    monkeypatch.setattr(steps, "STEPS", {name: (step, 60) for name, step in made.items()})

    def in_process(name, settings, limit_s):
        ran.append(name)
        return steps.run_step(name, settings)

    monkeypatch.setattr(steps, "_run_in_process", in_process)
    return ran


def test_done_steps_are_not_run_again(settings, counted, capsys):
    """A failed step and a skipped one are; each has its reason."""
    results = steps.run_missing(settings)
    assert {name: result["status"] for name, result in results.items()} == dict(
        machine="ok", bad="failed", other="skipped"
    )
    assert results["bad"]["why"] == "RuntimeError: it broke\nand more"
    assert "bad: failed (RuntimeError: it broke)" in capsys.readouterr().out
    steps.run_missing(settings)
    assert counted == ["machine", "bad", "other", "bad", "other"]


def test_steps_that_have_no_time_left_are_for_the_next_call(settings, counted, capsys):
    assert steps.run_missing(settings, total_s=0) == {}
    assert counted == [] and capsys.readouterr().out.count("run the same command again") == 3


def test_step_beyond_its_limit_is_stopped(settings):
    result = steps._run_in_process("machine", settings, 0.1)
    assert result["status"] == "failed" and result["why"] == "no end within 0 s"


def test_settings_are_passed_on_to_a_step(settings):
    given = dict(
        folder=str(settings.folder),
        device="cpu",
        tiny=True,
        model_dir=str(settings.model_dir),
        tokens_dir=str(settings.tokens_dir),
    )
    assert steps.settings_from(json.dumps(given)) == settings


def test_limits_of_the_steps_are_those_of_ten_minutes():
    """All steps of a machine with one GPU fit, at the usual third of their limits."""
    assert sum(limit_s for _, limit_s in steps.STEPS.values()) / 3 < steps.TOTAL_S == 600


def test_learning_is_compared_within_the_spread_of_the_cpu(settings):
    """Three standard errors of the difference of two means, by hand: 3 * .01 * sqrt(1/5 + 1/3)."""
    theirs = [0.70, 0.71, 0.72]
    found = checks.compared_with([0.705] * 5, theirs)
    assert found["difference"] == pytest.approx(-0.005)
    assert found["allowed"] == pytest.approx(0.0219, abs=1e-4)
    for wrong in ([0.60] * 5, [float("nan")] * 5):
        with pytest.raises(AssertionError, match="learning differs"):
            checks.compared_with(wrong, theirs)
    with pytest.raises(checks.Skipped, match="run `make demo` first"):
        checks.learning(settings)


def test_learning_trains_seeds_of_the_demo_and_reads_the_reference(settings, monkeypatch):
    """On random tokens with the demo's three classes; three seeds are tracked in the checkout."""
    model_dir, tokens_dir = settings.folder / "model", settings.folder / "tokens"
    shapes.write_model(model_dir, dataclasses.replace(speed.TINY, family="bert", types=2))
    shapes.write_tokens(tokens_dir, shapes.LENGTHS["mnli"], 3, 100, checks.TASK)
    monkeypatch.setattr(checks, "compared_with", lambda ours, theirs: dict(gpu=ours, cpu=theirs))
    found = checks.learning(
        dataclasses.replace(settings, model_dir=model_dir, tokens_dir=tokens_dir)
    )
    assert len(found["gpu"]) == settings.seeds and len(found["cpu"]) == 3
    assert all(0 <= value <= 1 for value in found["gpu"]) and min(found["cpu"]) > 0.5


def test_differences_of_losses():
    rows = [dict(train_loss="0.5", eval_loss="0.25"), dict(train_loss="0.4", eval_loss="0.2")]
    other = [rows[0], rows[1] | dict(eval_loss="0.35")]
    assert checks.largest_difference(rows, rows) == 0
    assert checks.largest_difference(rows, other) == pytest.approx(0.15)
    assert checks.largest_difference(rows, [rows[0], rows[1] | dict(eval_loss="nan")]) == float(
        "inf"
    )


def test_packed_runs_that_differ_fail(settings, monkeypatch):
    losses = iter([0.5, 0.5, 0.5, 0.6])
    monkeypatch.setattr(
        checks,
        "train",
        lambda settings, seeds, *_: dict.fromkeys(
            seeds, [dict(train_loss=next(losses, 0.5), eval_loss=0.5)]
        ),
    )
    with pytest.raises(AssertionError, match="packed runs differ from single runs: {'fp32': 0.0"):
        checks.packed(settings)


def test_locked_gpu_is_read_from_the_log():
    log = "a\n12:00:00 GPU GPU-aaaa-1, the first free one of GPU-aaaa-1, GPU-bbbb-2\nb\n"
    assert checks.locked_gpu(log) == "GPU-aaaa-1"
    assert checks.locked_gpu("nothing") is None


def test_a_way_that_fails_leaves_the_others(settings, monkeypatch):
    import ways

    def measure(request):
        if request["way"] == "peft":
            raise ImportError("no accelerate\nand more")
        return dict(train_s=1.0)

    monkeypatch.setattr(ways, "measure", measure)
    monkeypatch.setattr(ways, "CPU_GEMM", 64)
    rows = speed.throughput(settings, "roberta-base", "sst2")["rows"]
    assert [(row["way"], row["pack"]) for row in rows] == [
        ("ours", 1),
        ("ours", 2),
        ("peft", 1),
        ("peft_grouped", 1),
    ]
    assert [row["status"] for row in rows] == [
        "ok",
        "ok",
        "failed: ImportError: no accelerate",
        "ok",
    ]
    assert not Path(rows[0]["model_dir"]).with_name("roberta-base.part").exists()
