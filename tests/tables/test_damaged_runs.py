"""Runs whose metrics.csv or run.json was changed: the message names every file and key."""

import json
import re

import pytest
from helpers import synthetic

from lora.columns import METRICS_COLUMNS
from lora.errors import ConfigError
from lora.tables import collect
from lora.tables.provenance import write_provenance

GRID = synthetic.load(
    seeds=[0, 1], tables=dict(table2=synthetic.table(["roberta-base"], ["mrpc"]), table6=None)
)


def runs(folder):
    return [
        synthetic.write_run(GRID, GRID.cells[0], seed, folder, synthetic.epochs([0.8, 0.9, 0.85]))
        for seed in GRID.seeds
    ]


HEADER = ",".join(METRICS_COLUMNS)


def replaced(old: str, new: str):
    def damage(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return damage


@pytest.mark.parametrize(
    "damage, message",
    [
        (
            lambda text: text + text.splitlines()[-1] + "\n",
            "seed1: metrics.csv has epochs [1, 2, 3, 3]",
        ),
        (
            lambda text: "\n".join(text.splitlines()[:2] + text.splitlines()[3:]) + "\n",
            "has epochs [1, 3]",
        ),
        (replaced("\n2,", "\n,"), "has epochs [1, nan, 3]"),
        (replaced("\n2,", "\n2.0,"), "row 2, column epoch: '2.0' is not of type int"),
        (replaced(",0.9,", ",nan,"), "row 2, column accuracy: 'nan' is not of type float"),
        (replaced(",0.9,", ",0_9,"), "row 2, column accuracy: '0_9' is not of type float"),
        (
            replaced(",0.9,", ",90.0,"),
            "seed1: metrics.csv, epoch 2: accuracy is 90.0; allowed: 0 to 1",
        ),
        (replaced(",0.9,", ",-0.1,"), "epoch 2: accuracy is -0.1; allowed: 0 to 1"),
        (replaced(",ok,", ",fine,"), "expected 1, 2, ..., all ok but the last"),
        (replaced(",accuracy_overall\n", "\n"), "the header is '"),
        (replaced(HEADER, f"{HEADER},perplexity"), "the header is '"),
        (replaced("\n2,", '\n"2,'), "line 3 is not CSV"),
        (lambda text: "", "the header is ''; expected 'epoch,"),
        (lambda text: f"{HEADER}\n", "ends with status 'missing'"),
    ],
)
def test_a_changed_metrics_file_is_refused(tmp_path, damage, message):
    path = runs(tmp_path / "runs")[1] / "metrics.csv"
    path.write_text(damage(path.read_text()))
    with pytest.raises(ConfigError, match=re.escape(message)):
        collect.collect(GRID, tmp_path / "runs", tmp_path / "runs.csv")
    assert not (tmp_path / "runs.csv").exists()


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("settings", [], "settings is []; expected an object"),
        ("settings.hparams", "course", "settings.hparams is 'course'; expected an object"),
        ("settings.seed", 1.0, "settings.seed is 1.0; expected a whole number"),
        ("settings.rank", True, "settings.rank is True; expected a whole number"),
        ("parameters", 3, "parameters is 3; expected an object"),
        ("parameters.trainable", "0.3M", "parameters.trainable is '0.3M'; expected a whole number"),
        ("data.eval_examples", [408], "data.eval_examples is [408]; expected a whole number"),
        ("precision", ["bf16"], "precision is ['bf16']; expected text"),
        ("results_version", "2", "results_version is '2'; expected a whole number"),
        ("settings.hparams.epochs", 4, "hparams.epochs is 4 in run.json, but 3 in the config"),
    ],
)
def test_a_changed_run_json_is_refused_with_its_key(tmp_path, key, value, message):
    path = runs(tmp_path / "runs")[1] / "run.json"
    record = json.loads(path.read_text())
    *parents, last = key.split(".")
    inside = record
    for parent in parents:
        inside = inside[parent]
    inside[last] = value
    path.write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=re.escape(message)):
        collect.collect(GRID, tmp_path / "runs", tmp_path / "runs.csv")
    if "in the config" not in message:
        with pytest.raises(ConfigError, match=re.escape(message)):
            write_provenance(GRID, GRID.config.as_dict(), tmp_path / "runs", tmp_path)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"[" * 100_000, b'{"best": NaN}'])
def test_every_unreadable_run_json_is_named_at_once(tmp_path, content):
    folders = runs(tmp_path / "runs")
    for folder in folders:
        (folder / "run.json").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        collect.collect(GRID, tmp_path / "runs", tmp_path / "runs.csv")
    assert [
        str(folder / "run.json") in problem
        for folder, problem in zip(folders, caught.value.problems, strict=True)
    ]
