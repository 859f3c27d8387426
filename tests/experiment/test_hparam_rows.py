"""Rows of config/hparams.csv: precedence, ties, and protocols of a config."""

import csv
import shutil

import pytest
from helpers.configs import DEFAULT, changed
from helpers.models import ROOT
from helpers.protocols import differences, hparams

from lora.errors import ConfigError
from lora.experiment import csv_tables, grid, hparam_rows
from lora.experiment.cell import Cell
from lora.experiment.config_files import read


def test_lora_without_a_row_for_its_model_is_refused():
    """Without a row for the model, alpha is missing; other methods' rows do not apply."""
    for protocol in ("paper", "paper-houlsby", "scripts"):
        with pytest.raises(
            ConfigError, match="alpha: no row" if protocol != "scripts" else "epochs: no row"
        ):
            hparams(protocol, "bert-base-uncased", "sst2")
    assert {hparams("course", "minilm", "sst2").alpha, hparams("demo", "minilm", "sst2").alpha} == {
        16,
        8,
    }


@pytest.fixture
def folder(tmp_path):
    """A copy of config/*.csv that a test may change."""
    for name in csv_tables.COLUMNS:
        shutil.copy(ROOT / "config" / name, tmp_path / name)
    return tmp_path


def add_row(folder, **row):
    with open(folder / "hparams.csv", "a", encoding="utf-8", newline="") as handle:
        blank = dict.fromkeys(csv_tables.COLUMNS["hparams.csv"], "*") | dict(
            source="made for a test"
        )
        csv.DictWriter(handle, csv_tables.COLUMNS["hparams.csv"], lineterminator="\n").writerow(
            blank | row
        )


def test_equally_specific_rows_with_different_values_are_refused(folder):
    """One row names a rank, one a task. A row that names both applies."""
    config = changed(tables__table6=None)
    add_row(folder, protocol="course", method="lora", rank="8", name="learning_rate", value="1e-4")
    with pytest.raises(ConfigError) as caught:
        grid.load(config, folder)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0] == (
        "protocol 'course', learning_rate: equally specific rows say 1e-4, 4e-4; make one "
        "more specific"
    )
    add_row(
        folder,
        protocol="course",
        method="lora",
        task="mrpc",
        rank="8",
        name="learning_rate",
        value="2e-4",
    )
    loaded = grid.load(config, folder)
    assert {cell.task: loaded.hparams(cell).learning_rate for cell in loaded.cells} == dict(
        sst2=1e-4, mrpc=2e-4, qqp=1e-4
    )


def test_a_row_of_one_rank_applies_to_that_rank_only(folder):
    add_row(folder, protocol="course", method="lora", rank="64", name="learning_rate", value="1e-4")
    loaded = grid.load(DEFAULT, folder)
    found = {
        cell.rank: loaded.hparams(cell).learning_rate for cell in loaded.tables["table6"].cells
    }
    assert found == {1: 5e-4, 2: 5e-4, 4: 5e-4, 8: 5e-4, 64: 1e-4}


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            dict(protocol="paper-houlsbi"),
            "protocol: got 'paper-houlsbi'; allowed: .*did you mean 'paper-houlsby'",
        ),
        (
            dict(tables__table2__protocols=["course", "script"]),
            r"tables\.table2\.protocols: got 'script'; allowed: .*did you mean 'scripts'",
        ),
        (
            dict(protocols={"mine": {"base": "cours", "head": "frozen"}}),
            r"protocols\.mine\.base: got 'cours'; allowed: .*did you mean 'course'",
        ),
        (
            dict(protocols={"mine": {"base": "course"}, "other": {"base": "mine"}}),
            r"protocols\.other\.base: got 'mine'; allowed: course, course-as-run, demo, paper, ",
        ),
        (
            dict(protocols={"paper": {"base": "course"}}),
            "'paper' is already a protocol of config/hparams.csv",
        ),
        (
            dict(protocols={"mine": {"base": "course", "hed": "frozen"}}),
            r"protocols\.mine: got 'hed'.*did you mean 'head'",
        ),
        (dict(protocols={"mine": {"head": "frozen"}}), r"protocols\.mine: missing key 'base'"),
        (
            dict(overrides={"start": "mnly"}),
            "start of sst2 is 'mnly'; allowed: pretrained, a task .*or a PEFT folder",
        ),
        (
            dict(
                protocol="paper",
                pack=["task", "seed"],
                tables__table6=None,
                tables__table2__tasks=["mnli", "mrpc"],
            ),
            "pack: mrpc starts from mnli, which the same job would train; leave task out of pack, "
            "or set start: pretrained",
        ),
        (
            dict(protocol="scripts", tables__table2__baselines=[{"method": "bitfit"}]),
            "protocol 'scripts', epochs: no row for protocol 'scripts'",
        ),
    ],
)
def test_wrong_protocols_and_starts_are_refused_with_what_is_allowed(changes, message):
    with pytest.raises(ConfigError, match=message):
        grid.load(changed(**changes))


def test_a_chain_of_warm_starts_is_refused(folder):
    add_row(folder, protocol="paper", method="lora", task="mnli", name="start", value="sst2")
    config = changed(protocol="paper", tables__table6=None, tables__table2__tasks=["mrpc"])
    with pytest.raises(
        ConfigError,
        match="mrpc starts from mnli, which starts from sst2; allowed: a task that starts",
    ):
        grid.load(config, folder)


def test_a_task_never_starts_from_itself():
    """If all runs start from MNLI, those of MNLI start from the pre-trained model."""
    loaded = grid.load(changed(overrides={"start": "mnli"}))
    starts = {
        (cell.task, cell.rank): loaded.start_of(cell)
        for cell in loaded.cells
        if cell.weights == "qv"
    }
    mnli = Cell("roberta-base", "mnli", "lora", "qv", 8, "course")
    assert starts == {(task, 8): mnli for task in ("sst2", "mrpc", "qqp")} | {
        ("mnli", r): None for r in (1, 2, 4, 8, 64)
    }


def test_the_fixes_for_a_start_in_the_same_pack_work():
    """Without task in pack, or with start: pretrained, the config loads."""
    config = dict(protocol="paper", tables__table6=None, tables__table2__tasks=["mrpc"])
    apart = grid.load(changed(**config))
    assert [cell.task for cell in apart.table_cells] == ["mrpc"] and [
        cell.task for cell in apart.cells
    ] == ["mrpc", "mnli"]
    assert (
        apart.start_of(apart.cells[0]) == apart.cells[1] and apart.start_of(apart.cells[1]) is None
    )
    plain = grid.load(changed(**config, pack=["task", "seed"], overrides={"start": "pretrained"}))
    assert [cell.task for cell in plain.cells] == ["mrpc"]


def test_a_protocol_of_the_config_is_its_base_with_changes():
    loaded = grid.load(read(str(ROOT / "config/ablation-head.yaml")))
    by_protocol = {}
    for cell in loaded.cells:
        by_protocol.setdefault(cell.protocol, {})[cell.weights, cell.rank] = loaded.hparams(cell)
    trained, frozen = by_protocol["demo"], by_protocol["demo-frozen-head"]
    assert trained.keys() == frozen.keys() and len(trained) == 15
    assert {frozenset(differences(trained[key], frozen[key])) for key in trained} == {
        frozenset({"head"})
    }


def test_the_most_specific_row_applies_and_a_tie_is_an_error():
    cell = Cell("m", "t", "lora", "q", 1, "p")

    def row(value, method="*", model="*", task="*"):
        return hparam_rows.HparamRow("p", method, model, task, "*", "epochs", value, "")

    others = hparams("demo", "minilm", "sst2").as_dict()
    del others["epochs"]
    assert (
        hparam_rows.resolve([row("3"), row("5", task="t"), row("9", task="u")], cell, others).epochs
        == 5
    )
    with pytest.raises(ConfigError, match="equally specific rows say 5, 6"):
        hparam_rows.resolve([row("5", task="t"), row("6", model="m")], cell, others)
