"""`lora train` never replaces another run in its output folder, unless --overwrite is given.

Of the kind "a command writes over other work" are: every setting that may differ (cell, seed,
hyperparameters, version of the method, precision), the same settings with other data or another
model, folders of --seeds, a damaged or edited run.json, a metrics.csv or adapter/ without run.json,
and runs that were imported. The same run continues, also after a job was killed while it wrote.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.models import make_glue, make_model, make_tokenizer

from lora import paths
from lora.__main__ import main
from lora.experiment.cell import Cell
from lora.experiment.hparams import Hparams
from lora.experiment.jobs import cell_entry, to_json

pytestmark = pytest.mark.usefixtures("logging_as_before")
NUMBERS = ("--max-tokens", 16, "--epochs", 1)
CELL = ("--task", "sst2", "--weights", "q", "--rank", 2)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    for name, changes in (("tiny", {}), ("other", dict(num_hidden_layers=1))):
        make_tokenizer(make_model("bert", folder / name, **changes))
    make_glue(folder / "glue")
    return folder


def command(inputs: Path, out: Path, *more, cell=CELL, seeds=("--seed", 0), model="tiny") -> list:
    given = ["--model-dir", inputs / model, "--data-dir", inputs / "glue", "--device", "cpu"]
    given += ["--precision", "fp32"]
    given += ["--cache-dir", out.parent / f"cache-{model}", "--output-dir", out]
    return [str(part) for part in ("train", *cell, *seeds, *NUMBERS, *given, *more)]


@pytest.fixture(scope="module")
def trained(inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "out"
    assert main(command(inputs, out)) == 0
    return out


@pytest.fixture
def out(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "out")


def content(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and ".state" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(seeds=("--seed", 1)), "seed is 0, now 1"),
        (dict(cell=(*CELL[:4], "--rank", 1)), "rank is 2, now 1"),
        (dict(cell=("--task", "stsb", *CELL[2:])), "task is 'sst2', now 'stsb'"),
        (dict(cell=("--task", "sst2", "--weights", "qv", *CELL[4:])), "weights is 'q', now 'qv'"),
        (dict(more=("--learning-rate", "0.1")), "hparams.learning_rate is 0.0005, now 0.1"),
        (dict(more=("--alpha", "4r")), "hparams.alpha is "),
        (dict(more=("--model", "minilm")), "model is 'roberta-base', now 'minilm'"),
        (dict(more=("--precision", "bf16")), "precision is 'fp32', now 'bf16'"),
    ],
)
def test_another_setting_is_refused_before_anything_is_fetched(
    refused, monkeypatch, inputs, out, changes, message
):
    monkeypatch.setattr("lora.data.prepare.prepare", lambda *given: pytest.fail("prepared"))
    before = content(out)
    more = changes.get("more", ())
    chosen = {key: value for key, value in changes.items() if key != "more"}
    text = refused(*command(inputs, out, *more, **chosen))
    assert f"{out}/run.json: {message}" in text and "add --overwrite" in text
    assert content(out) == before


def test_several_differences_and_folders_are_in_one_message(refused, inputs, trained, tmp_path):
    for seed in (0, 3):
        shutil.copytree(trained, tmp_path / f"out/seed{seed}")
    text = refused(*command(inputs, tmp_path / "out", "--alpha", "7", seeds=("--seeds", 0, 3)))
    assert text.count("hparams.alpha is 16.0, now 7.0") == 2
    assert "seed3/run.json: seed is 0, now 3" in text


def test_overwrite_replaces_the_run(inputs, out):
    assert main(command(inputs, out, "--overwrite", seeds=("--seed", 5))) == 0
    assert json.loads((out / "run.json").read_text())["settings"]["seed"] == 5


def test_the_same_run_is_finished_from_its_checkpoint(inputs, out):
    """Also where a job was killed between adapter/, run.json and metrics.csv."""
    before = content(out)
    for lost in ((), (paths.METRICS,), (paths.METRICS, paths.RUN_JSON)):
        for name in lost:
            (out / name).unlink()
        assert main(command(inputs, out)) == 0
        assert content(out) == before


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda out: (out / "run.json").write_text("{"), "run.json is damaged, so it is unknown"),
        (lambda out: (out / "run.json").write_text("[]"), "run.json is damaged"),
        (lambda out: (out / "run.json").write_text("{}"), "settings.seed is missing"),
        (lambda out: (out / "run.json").write_bytes(b"\0"), "run.json is damaged"),
        (
            lambda out: (out / "run.json").write_text(
                (out / "run.json").read_text().replace('"status": "ok"', '"status": "x"')
            ),
            "its checksum does not fit",
        ),
        (lambda out: (out / "run.json").unlink(), "metrics.csv without run.json"),
    ],
)
def test_a_damaged_record_is_refused(refused, inputs, out, damage, message):
    damage(out)
    before = content(out)
    assert message in refused(*command(inputs, out))
    assert content(out) == before


def test_another_model_or_other_data_under_the_same_settings_is_refused(refused, inputs, out):
    """Only the digest tells, so the message names the hash that differs."""
    before = content(out)
    text = refused(*command(inputs, out, model="other"))
    assert "run.json: base.base_sha256 is " in text and "data.tokens_sha256" not in text
    assert content(out) == before


def test_an_adapter_without_a_record_is_kept(refused, inputs, out):
    """A PEFT folder of the user's, or what is left of a run whose run.json was deleted."""
    for name in (paths.METRICS, paths.RUN_JSON):
        (out / name).unlink()
    shutil.rmtree(out / ".state")
    assert "is not of this run: there is no run.json" in refused(*command(inputs, out))
    kept = {paths.ADAPTER, paths.ADAPTER_CONFIG, paths.ADAPTER_LABELS, paths.ADAPTER_CARD}
    assert set(content(out)) == kept


def test_a_run_of_an_older_version_of_the_method_is_refused(refused, monkeypatch, inputs, out):
    monkeypatch.setattr("lora.RESULTS_VERSION", 99)
    assert "run.json: results_version is 3, now 99" in refused(*command(inputs, out))


def test_a_job_of_the_workflow_trains_again(inputs, trained, tmp_path):
    """Snakemake deletes the outputs of a job first, and a changed setting trains again."""
    cell = Cell("roberta-base", "sst2", "lora", "q", 2, "course")
    run = shutil.copytree(trained, tmp_path / f"runs/{cell.path}/seed0")
    hparams = Hparams(**json.loads((run / "run.json").read_text())["settings"]["hparams"])
    tokens = trained.parent / "cache-tiny/tokens/roberta-base/sst2/t16"
    changed = replace(hparams, learning_rate=0.1)
    job = ["train", "--cells", to_json([cell_entry(cell, changed, str(tokens))]), "--seeds", "0"]
    job += ["--model-dir", inputs / "tiny", "--output-dir", tmp_path / "runs", "--device", "cpu"]
    assert main([str(part) for part in job]) == 0
    settings = json.loads((run / "run.json").read_text())["settings"]
    assert settings["hparams"]["learning_rate"] == 0.1
    assert main([str(part) for part in (*job, "--overwrite")]) == 2  # it is for one cell
