"""Facts, runs and adapters that somebody changed: told by file and row, and nothing in them left out without a word."""

import json
import logging
import re
import shutil

import pytest
import torch
from helpers import synthetic
from helpers.models import ROOT
from helpers.spoiling import check_told, tensors_of
from helpers.training import adapter_of, asked, go, make_tokens, rows_of
from safetensors.torch import load_file, save_file

from lora import files, run_record
from lora.adapters import peft_folder
from lora.columns import METRICS_COLUMNS
from lora.data import examples
from lora.errors import ConfigError
from lora.experiment import grid, registry
from lora.model import packed_model
from lora.tables import collect

CONFIG = synthetic.load().config


@pytest.mark.parametrize(
    "name, line, message",
    [
        (
            "hparams.csv",
            "course,lora,*,*,*,learning_rte,1e-3,me",
            "no hyperparameter 'learning_rte'; there are: epochs",
        ),
        (
            "hparams.csv",
            "course,lora,*,*,*,epochs,three,me",
            "epochs is 'three'; allowed: a whole number",
        ),
        ("hparams.csv", "course,loar,*,*,*,epochs,3,me", "method is 'loar'; allowed: *, lora, ft"),
        (
            "hparams.csv",
            "course,lora,*,*,eight,epochs,3,me",
            "rank is 'eight'; allowed: *, or a whole number",
        ),
        (
            "hparams.csv",
            "course,lora,*,mrcp,*,epochs,3,me",
            "task is 'mrcp' in 1 rows; allowed: *, mnli",
        ),
        (
            "hparams.csv",
            "course,lora,robert,*,*,epochs,3,me",
            "model is 'robert' in 1 rows; allowed: *, roberta-base",
        ),
        (
            "hparams.csv",
            "course,lora,*,*,*,learning_rate,5e-4,me",
            "course,lora,*,*,*,learning_rate' is there 2 times",
        ),
        (
            "published.csv",
            "table2,m,lora,0.3M,sst2,qv,8,,accuracy,95.1%,,,median,best,,me,",
            "value is '95.1%'; allowed",
        ),
        (
            "published.csv",
            "table2,m,lora,0.3M,sst2,qv,8,,accuracy,,,,median,best,,me,",
            "value is ''; allowed: a number",
        ),
        (
            "published.csv",
            "table2,m,lora,0.3M,sst2,qv,r8,,accuracy,95,,,median,best,,me,",
            "rank is 'r8'; allowed",
        ),
        (
            "published.csv",
            "table2,m,lora,few,sst2,qv,8,,accuracy,95,,,median,best,,me,",
            "trainable is 'few'; allowed",
        ),
        (
            "tasks.csv",
            "x,X,glue-rte,glue,a b,2,accuracy,train,,me",
            "eval_splits has 'train'; allowed: splits that",
        ),
        (
            "tasks.csv",
            "x,X,glue-rte,glue,a a,2,accuracy,validation,,me",
            "text_columns is 'a a'; allowed: each only once",
        ),
        (
            "tasks.csv",
            "../x,X,glue-rte,glue,a b,2,accuracy,validation,,me",
            "task is '../x'; allowed: letters, digits",
        ),
        (
            "sources.csv",
            "x,data,hub,a/b:c,main,,other,me",
            "revision is 'main'; a hub source is pinned by a 40-digit",
        ),
        (
            "sources.csv",
            "x,data,file,data,,abc,other,me",
            "sha256 is 'abc'; allowed: none, or a 64-digit sha256",
        ),
    ],
)
def test_a_fact_that_cannot_be_is_told_by_its_file(tmp_path, name, line, message):
    folder = shutil.copytree(ROOT / "config", tmp_path / "config")
    with open(folder / name, "a", encoding="utf-8") as handle:
        handle.write(f"{line}\n")
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        grid.load(CONFIG, folder)
    assert f"config/{name}" in str(caught.value)


def test_all_lines_of_a_foreign_table_are_one_message(tmp_path):
    folder = shutil.copytree(ROOT / "config", tmp_path / "config")
    path = folder / "published.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(",", ";"), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        registry.read_rows("published.csv", folder)
    assert len(caught.value.problems) > 100 and len(str(caught.value).splitlines()) < 40
    assert re.search(r"and \d+ more$", str(caught.value))


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
    def spoil(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return spoil


@pytest.mark.parametrize(
    "spoil, message",
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
        (replaced(",ok,", ",fine,"), "expected 1, 2, ..., ok up to the last"),
        (replaced(",accuracy_overall\n", "\n"), "the header is '"),
        (replaced(HEADER, f"{HEADER},perplexity"), "the header is '"),
        (replaced("\n2,", '\n"2,'), "line 3 is not CSV"),
        (lambda text: "", "the header is ''; expected 'epoch,"),
        (lambda text: f"{HEADER}\n", "ends with status 'missing'"),
    ],
)
def test_a_metrics_file_that_somebody_changed_is_told(tmp_path, spoil, message):
    path = runs(tmp_path / "runs")[1] / "metrics.csv"
    path.write_text(spoil(path.read_text()))
    with pytest.raises(ConfigError, match=re.escape(message)):
        collect.collect(GRID, tmp_path / "runs", tmp_path / "runs.csv")
    assert not (tmp_path / "runs.csv").exists()


@pytest.mark.parametrize(
    "place, value, message",
    [
        ("settings", [], "settings is []; expected dict"),
        ("settings.hparams", "course", "settings.hparams is 'course'; expected dict"),
        ("settings.seed", 1.0, "settings.seed is 1.0; expected int"),
        ("settings.rank", True, "settings.rank is True; expected int"),
        ("parameters", 3, "parameters is 3; expected dict"),
        ("parameters.trainable", "0.3M", "parameters.trainable is '0.3M'; expected int"),
        ("data.eval_examples", [408], "data.eval_examples is [408]; expected int"),
        ("precision", ["bf16"], "precision is ['bf16']; expected str"),
        ("results_version", "2", "results_version is '2'; expected int"),
        ("settings.hparams.epochs", 4, "hparams.epochs was trained as 4, asked for is 3"),
    ],
)
def test_a_run_json_that_somebody_changed_is_told_by_its_place(tmp_path, place, value, message):
    path = runs(tmp_path / "runs")[1] / "run.json"
    record = json.loads(path.read_text())
    *parents, last = place.split(".")
    inside = record
    for parent in parents:
        inside = inside[parent]
    inside[last] = value
    path.write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=re.escape(message)):
        collect.collect(GRID, tmp_path / "runs", tmp_path / "runs.csv")
    if "asked for" not in message:
        with pytest.raises(ConfigError, match=re.escape(message)):
            collect.write_provenance(GRID, GRID.config, tmp_path / "runs", tmp_path)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"[" * 100_000, b'{"best": NaN}'])
def test_every_run_json_that_cannot_be_read_is_told_at_once(tmp_path, content):
    folders = runs(tmp_path / "runs")
    for folder in folders:
        (folder / "run.json").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        collect.collect(GRID, tmp_path / "runs", tmp_path / "runs.csv")
    assert [
        str(folder / "run.json") in problem
        for folder, problem in zip(folders, caught.value.problems, strict=True)
    ]


def test_what_stands_in_a_record_is_found_and_what_is_needed_is_missed(tmp_path):
    (tmp_path / "run.json").write_text('{"base": {"family": ""}, "best": {}}')
    found = run_record.read(tmp_path / "run.json", "train it again", ("best",))
    assert (
        run_record.value_at(found, "base.family") == ""
        and run_record.value_at(found, "base.family.x") is None
    )
    with pytest.raises(
        ConfigError,
        match="(?s)run.json is not of a run here; train it again.*settings.seed is missing",
    ):
        run_record.read(tmp_path / "run.json", "train it again", run_record.IDENTITY)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A data set as `datasets` saves it."""
    from datasets import Dataset, DatasetDict

    rows = {"sentence1": ["a", "c"], "sentence2": ["b", ""], "label": [0, 1]}
    folder = tmp_path_factory.mktemp("saved") / "rte"
    DatasetDict({name: Dataset.from_dict(rows) for name in ("train", "validation")}).save_to_disk(
        str(folder)
    )
    return folder


@pytest.mark.parametrize(
    "name", ["dataset_dict.json", "train/state.json", "train/dataset_info.json"]
)
@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"3", b"\xff", b"[" * 100_000, b'{"splits": [1]}']
)
def test_a_saved_data_set_that_is_damaged_is_told(saved, tmp_path, name, content):
    folder = shutil.copytree(saved, tmp_path / "rte")
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match="is no data set that datasets can load") as caught:
        examples.read(registry.read_tasks()["rte"], folder)
    check_told(str(caught.value), folder)


@pytest.fixture
def adapter(tmp_path):
    peft_folder.write_adapter(tmp_path, tensors_of(), "bert", "tiny", "qv", 2, 4.0, 0.1)
    return tmp_path


@pytest.mark.parametrize(
    "modules, message",
    [
        (
            ["query"],
            "attention.self.value: adapter_config.json does not name it under target_modules, though there are",
        ),
        (
            ["query", "value", "key"],
            "attention.self.key: adapter_config.json names it under target_modules, but there is no",
        ),
    ],
)
def test_an_adapter_that_names_other_weights_than_it_has_is_told(adapter, modules, message):
    told = json.loads((adapter / peft_folder.CONFIG).read_text())
    (adapter / peft_folder.CONFIG).write_text(json.dumps(told | dict(target_modules=modules)))
    with pytest.raises(ConfigError, match=re.escape(message)):
        peft_folder.read_adapter(adapter, "bert")


@pytest.mark.parametrize(
    "modules", [["query", "value"], ["self.query", "attention.self.value"], r".*\.(query|value)"]
)
def test_other_ways_to_name_the_same_weights_are_read(adapter, modules):
    told = json.loads((adapter / peft_folder.CONFIG).read_text())
    (adapter / peft_folder.CONFIG).write_text(json.dumps(told | dict(target_modules=modules)))
    assert peft_folder.read_adapter(adapter, "bert")[1]["weights"] == "qv"


def test_a_head_without_a_shape_is_told(adapter):
    found = load_file(adapter / peft_folder.TENSORS)
    save_file(
        found | {"base_model.model.classifier.weight": torch.tensor(1.0)},
        adapter / peft_folder.TENSORS,
    )
    with pytest.raises(ConfigError, match=r"classifier.weight has shape \[\]"):
        peft_folder.read_adapter(adapter, "bert")


def test_an_adapter_of_another_model_is_started_from_with_a_warning(
    bert_dir, tokens_dir, tmp_path, caplog
):
    """Its pairs fit when the shapes do; only its configuration says that they are another model's."""
    first = asked(tmp_path, 0, epochs=1)
    go([first], bert_dir, tokens_dir, tmp_path / "state")
    folder = first.output_dir / "adapter"
    second = asked(tmp_path / "second", 1, epochs=1, start=str(folder))
    go([second], bert_dir, tokens_dir, tmp_path / "state")
    assert "was made for" not in caplog.text
    told = json.loads((folder / peft_folder.CONFIG).read_text())
    (folder / peft_folder.CONFIG).write_text(
        json.dumps(told | dict(base_model_name_or_path="hub/other"))
    )
    with caplog.at_level(logging.WARNING):
        go(
            [asked(tmp_path / "third", 2, epochs=1, start=str(folder))],
            bert_dir,
            tokens_dir,
            tmp_path / "state",
        )
    assert f"{folder} was made for other, not for tiny" in caplog.text


def test_a_bert_without_a_pooler_gives_the_same_run_twice(bert_dir, tokens_dir, tmp_path):
    """The head's dense layer then starts from the run's seed, not from whatever torch draws."""
    model = shutil.copytree(bert_dir, tmp_path / "model")
    found = {
        name: value
        for name, value in load_file(model / "model.safetensors").items()
        if "pooler" not in name
    }
    save_file(found, model / "model.safetensors", metadata={"format": "pt"})
    assert packed_model.load_base(model).pooler is None
    first, second = (asked(tmp_path / name, 0, epochs=1) for name in ("first", "second"))
    for one, state in ((first, "state"), (second, "other state")):
        torch.manual_seed(len(state))
        go([one], model, tokens_dir, tmp_path / state)
    assert rows_of(first) == rows_of(second) and adapter_of(first) == adapter_of(second)


def test_tokens_of_another_task_are_told(bert_dir, tmp_path):
    tokens = make_tokens(tmp_path / "tokens")
    told = json.loads((tokens / "tokens.json").read_text())
    for changes in (dict(task="other"), dict(num_labels=3)):
        files.write_json(tokens / "tokens.json", told | changes)
        with pytest.raises(ConfigError, match="task is toy, the tokens in .* are of"):
            go([asked(tmp_path, 0)], bert_dir, tokens, tmp_path / "state")
