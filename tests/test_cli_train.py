"""`lora train`: arguments become RunSpecs and JobOptions, or one message."""

import logging
from pathlib import Path

import pytest
from helpers.models import ROOT

from lora import cli_train
from lora.cli import parser
from lora.data import fetch, hub, prepare
from lora.experiment import config_files, grid
from lora.experiment.cell import Cell
from lora.experiment.jobs import cell_entry, to_json
from lora.experiment.run_spec import JobOptions
from lora.model import model_files

SAME_ARTICLE = Cell("minilm", "same-article", "lora", "qv", 8, "demo")
HPARAMS = grid.load(config_files.read(str(ROOT / "config/demo.yaml"))).hparams(SAME_ARTICLE)
JSON = to_json([cell_entry(SAME_ARTICLE, HPARAMS, "tokens")])
JOB = ("--cells", JSON, "--seeds", 0, "--model-dir", "m", "--output-dir", "out")
ONE = ("--task", "sst2", "--weights", "qv", "--rank", 2, "--seed", 3, "--output-dir", "out")


def resolve(*arguments):
    return cli_train.resolve(parser().parse_args(["train", *map(str, arguments)]))


@pytest.fixture
def brought(monkeypatch):
    """What would be fetched and prepared: (source or task, folder), in order."""
    found = []
    monkeypatch.setattr(model_files, "check", lambda folder: None)
    monkeypatch.setattr(fetch, "fetch", lambda source, to: found.append((source.name, to)))
    monkeypatch.setattr(
        prepare, "prepare", lambda task, data, model, length, to: found.append((task.name, to))
    )
    return found


def test_cells_become_runs_with_the_hyperparameters_of_the_json(monkeypatch, tmp_path):
    """Runs of two tasks go to the folders that the workflow waits for, without the network."""
    offline = []
    monkeypatch.setattr(hub, "go_offline", lambda: offline.append(True))
    cells = [SAME_ARTICLE, Cell("minilm", "tweet-intensity", "lora", "q", 1, "demo")]
    text = to_json([cell_entry(cell, HPARAMS, f"tokens/{cell.task}", ["a/b"]) for cell in cells])
    specs, options = resolve(
        *("--cells", text, "--seeds", 5, 0, "--model-dir", "m", "--output-dir", tmp_path),
        *("--state-dir", "s", "--device", "cpu", "--micro-batch", 7, "--precision", "fp32"),
        *("--checkpoint-every-s", 60),
    )
    assert offline and options == JobOptions(Path("m"), Path("s"), "cpu", 7, "fp32", 60)
    expected = [(cell, seed) for cell in cells for seed in (5, 0)]
    assert [(spec.cell, spec.seed) for spec in specs] == expected
    for spec in specs:
        assert spec.hparams == HPARAMS and spec.task.name == spec.cell.task
        assert spec.tokens_dir == Path("tokens", spec.cell.task)
        assert spec.start_dirs == (tmp_path / "a/b",)
        assert spec.output_dir == tmp_path / spec.cell.path / f"seed{spec.seed}"


def test_missing_inputs_are_fetched_and_prepared(brought):
    (spec,), options = resolve(*ONE, "--cache-dir", "cache", "--max-tokens", 20, "--alpha", "2r")
    model, tokens = Path("cache/sources/roberta-base"), Path("cache/tokens/roberta-base/sst2/t20")
    data = Path("cache/sources", spec.task.dataset)
    assert brought == [("roberta-base", model), (spec.task.dataset, data), ("sst2", tokens)]
    assert (spec.tokens_dir, options.model_dir) == (tokens, model)
    assert (spec.output_dir, options.state_dir) == (Path("out"), Path("out/.state"))
    assert (spec.hparams.max_tokens, spec.hparams.alpha) == (20, 4.0)


def test_given_inputs_are_taken_as_they_are(brought, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "mt":
        Path(name).mkdir()
    several = [*ONE[:6], "--seeds", 1, 2, *ONE[8:]]
    specs, options = resolve(*several, "--model-dir", "m", "--tokens-dir", "t")
    assert brought == [] and options.model_dir == Path("m")
    assert [spec.output_dir for spec in specs] == [Path("out/seed1"), Path("out/seed2")]
    assert {spec.tokens_dir for spec in specs} == {Path("t")}
    resolve(*ONE, "--tokens-dir", "t")
    assert [name for name, _ in brought] == ["roberta-base"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            (*JOB, "--rank", 8, "--learning-rate", "1e-3"),
            "--cells includes --rank, --learning-rate",
        ),
        ((*JOB, "--model", "minilm", "--cache-dir", "c"), "--cells includes --model, --cache-dir"),
        (("--cells", JSON, "--seed", 0, "--output-dir", "out"), "--cells includes --seed"),
        (("--cells", JSON, "--seeds", 0, "--output-dir", "o"), "needs --seeds and --model-dir"),
        (("--cells", "", *JOB[2:]), "a JSON list of objects"),
        (("--cells", JSON.replace("same-article", "same"), *JOB[2:]), "no task 'same'; allowed"),
        (ONE[:2] + ONE[6:], "--weights and --rank are required.\nExample: lora train --task"),
        (ONE[2:], "--task is required.\nExample: "),
        (ONE[6:], "--task, --weights and --rank are required"),
        ((*ONE[:6], "--seeds", 1, 1, "--output-dir", "o"), "--seeds is 1 1; allowed: each seed"),
        (
            ("--task", "mrpc", *ONE[2:], "--protocol", "paper"),
            "starts mrpc from the best run of mnli. Give --start pretrained",
        ),
        (
            (*ONE, "--model", "unknown"),
            "no model 'unknown' in config/sources.csv; allowed: roberta-base",
        ),
    ],
)
def test_incomplete_and_contradictory_arguments_are_refused(brought, arguments, message):
    with pytest.raises(ValueError) as caught:
        resolve(*arguments)
    assert message in str(caught.value)


def test_the_example_of_the_message_is_complete(brought):
    (spec,), _ = resolve(*cli_train.EXAMPLE.split()[2:], "--start", "pretrained")
    assert spec.cell.task == "mrpc" and spec.output_dir == Path("out")


@pytest.mark.parametrize("name", ["SST-2", "sst_2", "sst-2"])
def test_a_task_in_another_spelling_has_the_registered_name_everywhere(brought, name):
    (usual,), model_dir = resolve(*ONE)
    (spec,), other_dir = resolve("--task", name, *ONE[2:])
    assert (spec, other_dir) == (usual, model_dir) and spec.cell.task == "sst2"


def test_gpu_is_locked_before_the_training_code_is_imported(monkeypatch):
    calls = []
    monkeypatch.setattr(cli_train.gpu_lock, "lock_free_gpu", lambda device: calls.append(device))
    monkeypatch.setattr("lora.training.loop.train", lambda *given: calls.append(given))
    arguments = parser().parse_args(["train", *map(str, JOB), "--device", "cpu"])
    arguments.run(arguments)
    assert calls == ["cpu", cli_train.resolve(arguments)]


@pytest.mark.parametrize(
    "threads, requested, on_gpu, warns",
    [("1", 2, False, True), ("2", 2, False, False), ("1", 2, True, False), ("", 2, False, False)],
)
def test_fewer_threads_than_requested_are_a_warning(
    monkeypatch, caplog, threads, requested, on_gpu, warns
):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    with caplog.at_level(logging.WARNING):
        cli_train._warn_about_threads(requested, on_gpu)
    assert ("2 were requested" in caplog.text) == warns
