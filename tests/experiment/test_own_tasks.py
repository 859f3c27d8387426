"""`tasks` of a config: the tasks and sources they become, and what is refused."""

import hashlib
import json

import pytest
from helpers.configs import changed
from helpers.own_tasks import ROWS, own_task, write_csv

from lora.errors import ConfigError
from lora.experiment import grid
from lora.experiment.source import Source

HUB = dict(hub="owner/data", config="plain", revision="a" * 40, text="text")


def problems(tasks, **changes) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        grid.load(changed(tasks=tasks, **changes))
    return caught.value.problems


def test_a_task_of_the_config_is_used_like_one_of_the_table(tmp_path):
    path = write_csv(tmp_path / "mine.csv")
    keys = dict(text=["text", "other"], labels=["bad", "good"], metric="matthews", title="Mine")
    config = changed(tasks={"mine": {"path": str(path)} | keys}, tables__table2__tasks=["mine"])
    loaded = grid.load(config)
    task = loaded.tasks["mine"]
    assert (task.num_labels, task.label_names, task.metric) == (2, ("bad", "good"), "matthews")
    assert (task.title, task.text_columns) == ("Mine", ("text", "other"))
    assert [cell.task for cell in loaded.tables["table2"].cells] == ["mine"]
    # The pin, computed by hand: the hash of the line "name hash".
    inner = hashlib.sha256(path.read_bytes()).hexdigest()
    pin = hashlib.sha256(f"mine.csv {inner}\n".encode()).hexdigest()
    source = loaded.sources["task-mine"]
    assert source == Source("task-mine", "data", "file", str(path), "", pin, "")


def test_an_edited_file_is_another_source(tmp_path):
    path = write_csv(tmp_path / "mine.csv")
    config = changed(tasks={"mine": dict(path=str(path), text="text")})
    before = grid.load(config).sources["task-mine"].identity
    write_csv(path, ROWS[1:])
    assert grid.load(config).sources["task-mine"].identity != before


def test_a_data_set_of_the_hub_and_scores():
    loaded = grid.load(changed(tasks={"mine": HUB | dict(labels="regression")}))
    task, source = loaded.tasks["mine"], loaded.sources["task-mine"]
    assert task.is_regression and task.metric == "pearson"
    assert (source.kind, source.locator) == ("hub", "owner/data:plain")


def test_classes_of_the_data_are_known_from_earlier_tokens_and_runs(tmp_path):
    """Tables can be made again without the data and the tokens."""
    assert own_task("gone.csv", tmp_path).num_labels == 0
    run = tmp_path / "runs/demo/minilm/mine/lora/qv/r8/seed0/run.json"
    run.parent.mkdir(parents=True)
    run.write_text(json.dumps(dict(data=dict(label_names=["a", "b", "c"]))))
    assert own_task("gone.csv", tmp_path).label_names == ("a", "b", "c")
    tokens = tmp_path / "tokens/minilm/mine/t128/tokens.json"
    tokens.parent.mkdir(parents=True)
    tokens.write_text(json.dumps(dict(label_names=["d", "e"])))
    assert own_task("gone.csv", tmp_path).label_names == ("d", "e")
    assert own_task("gone.csv", tmp_path, labels=["x", "y"]).label_names == ("x", "y")
    tokens.write_text("damaged")
    assert own_task("gone.csv", tmp_path).label_names == ("a", "b", "c")


def test_without_the_file_the_fetched_copy_pins_the_content(tmp_path):
    path = write_csv(tmp_path / "mine.csv")
    config = changed(tasks={"mine": dict(path=str(path), text="text")}, results=str(tmp_path))
    pin = grid.load(config).sources["task-mine"].sha256
    manifest = tmp_path / "sources/task-mine/fetched.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps(dict(sha256=pin)))
    path.unlink()
    assert grid.load(config).sources["task-mine"].sha256 == pin


@pytest.mark.parametrize("name", ["sst2", "SST-2", "movie_polarity", "mnli-mm"])
def test_names_of_built_in_tasks_are_refused(name):
    (problem,) = problems({name: dict(path="x.csv", text="text")})
    assert problem.startswith(f"tasks.{name}: the name is that of the task ")


def test_two_tasks_whose_names_are_read_alike_are_refused():
    task = dict(path="x.csv", text="text")
    found = problems({"my-task": task, "MyTask": task})
    assert "tasks.my-task: the name is that of the task MyTask; use another name" in found


@pytest.mark.parametrize(
    "task, part",
    [
        (dict(text="text"), "tasks.mine: give either path, for local files, or hub"),
        (HUB | dict(path="x.csv"), "tasks.mine: give either path, for local files, or hub"),
        (dict(path="x.csv", text="text", revision="1"), "revision is for a data set of the hub"),
        (HUB | dict(revision="main"), "tasks.mine: revision is 'main'; a hub source is pinned"),
        (HUB | dict(hub="a b"), "tasks.mine: hub is 'a b'; allowed: owner/name"),
        (dict(path="x.csv"), "tasks.mine: missing key 'text'"),
        (dict(path="x.csv", text=[]), "tasks.mine.text: got []; allowed: text, or a list of texts"),
        (dict(path="x.csv", text=["a", "b", "c"]), "tasks.mine: text_columns has 3 names"),
        (dict(path="x.csv", text=["a", "a"]), 'tasks.mine.text: got ["a", "a"]; allowed: each'),
        (dict(path="x.csv", text="label"), "tasks.mine: label and text are the same column"),
        (dict(path="x.csv", text="a", labels=[True, False]), "write yes, no and numbers in quotes"),
        (dict(path="x.csv", text="a", labels=["x"]), "labels has only 'x'; allowed: two classes"),
        (dict(path="x.csv", text="a", labels=["x", "x"]), "allowed: each only once"),
        (dict(path="x.csv", text="a", metric="bleu"), 'tasks.mine.metric: got "bleu"; allowed:'),
        (dict(path="x.csv", text="a", metric="pearson"), "metric is 'pearson'; allowed for these"),
        (
            dict(path="x.csv", text="a", labels="regression", metric="f1"),
            "metric is 'f1'; allowed for these labels: pearson, spearman",
        ),
        (dict(path="x.csv", text="a", dev_fraction=1.0), "tasks.mine.dev_fraction: got 1.0"),
        (dict(path="x.csv", text="a", decimal=","), 'decimal: "," is for scores'),
        (dict(path="x.csv", text="a", separator="x"), 'tasks.mine.separator: got "x"; allowed:'),
        (dict(path="x.csv", text="a", colour="red"), "tasks.mine: unknown key 'colour'"),
        (dict(path="$NO_SUCH_VARIABLE/x", text="a"), "tasks.mine.path: got '$NO_SUCH_VARIABLE/x'"),
    ],
)
def test_wrong_tasks_are_named_once(task, part):
    """A table that uses such a task gets no further line."""
    found = problems({"mine": task}, tables__table2__tasks=["mine"])
    assert len(found) == 1 and part in found[0], found


def test_labels_may_be_numbers():
    assert own_task("x.csv", labels=[1, 2, 10]).label_names == ("1", "2", "10")


def test_only_the_given_keys_are_passed_to_jobs():
    config = changed(tasks={"mine": dict(path="x.csv", text="text")})
    loaded = grid.load(config)
    assert loaded.own_tasks(["mine", "sst2"]) == {"mine": dict(path="x.csv", text=["text"])}
    again = grid.load(changed(tasks=loaded.own_tasks(["mine"])))
    assert again.tasks["mine"] == loaded.tasks["mine"]
