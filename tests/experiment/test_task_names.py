"""Names of tasks as people write them: the registered name, or one message.

What belongs to the kind: case, hyphens, underscores and spaces; names of GLUE's page, of papers and
of the hub; on the command line, and in a config's tables, `subspace` and `start`; one task given
twice in two spellings; two registered names that differ in spelling only; unknown names.
"""

import pytest
from helpers import synthetic

from lora.errors import ConfigError
from lora.experiment import registry, task_names

TASKS = registry.read_tasks()


@pytest.mark.parametrize(
    "name, task",
    [
        *((name, "stsb") for name in ("stsb", "sts-b", "STS-B", "STSB", "sts_b", "Sts B")),
        *((name, "sst2") for name in ("sst-2", "SST-2", "SST2", "sst_2")),
        *((name, "mnli") for name in ("MNLI", "MNLI-m", "mnli_m", "mnli-matched", "MNLI_matched")),
        ("QQP", "qqp"),
        ("CoLA", "cola"),
        ("same_article", "same-article"),
    ],
)
def test_a_name_is_read_as_the_registered_one(name, task):
    assert task_names.registered(name, TASKS) == task
    assert registry.task(name) == TASKS[task]


def test_titles_are_names_too():
    for name, task in TASKS.items():
        assert registry.task(task.title).name == name


@pytest.mark.parametrize("name", ["sst", "sts-c", "mnlimm2", "", "pretrained", "a/b", "*"])
def test_an_unknown_name_lists_the_nearest_and_all(name):
    with pytest.raises(ValueError, match="allowed: cola, .*tweet-intensity") as error:
        registry.task(name)
    assert ("did you mean 'sst2'?" in str(error.value)) == (name == "sst")


@pytest.mark.parametrize("name", ["mnli-mm", "MNLI-mm", "mnli_mismatched", "MNLI-mismatched"])
def test_mnlis_mismatched_split_is_part_of_mnli(name):
    with pytest.raises(ValueError, match="records validation_mismatched too. Use mnli"):
        registry.task(name)
    with pytest.raises(ConfigError, match="records validation_mismatched too. Use mnli"):
        grid([name])


def test_an_exact_name_comes_first_and_an_ambiguous_one_is_unknown():
    tasks = ["my-task", "mytask"]
    assert task_names.registered("mytask", tasks) == "mytask"
    assert task_names.registered("my_task", tasks) == "my_task"


def grid(tasks, **changes):
    table = synthetic.table(["roberta-base"], tasks)
    return synthetic.load(seeds=[0], **dict(tables=dict(table2=table, table6=None)) | changes)


def test_a_config_has_registered_names_in_every_path():
    usual, written = grid(["stsb", "mrpc"]), grid(["STS-B", "mrpc"])
    assert written.cells == usual.cells and written.config == usual.config
    assert [written.settings(cell, 0) for cell in written.cells] == [
        usual.settings(cell, 0) for cell in usual.cells
    ]


def test_start_is_a_task_name_too():
    usual, written = (
        grid(["rte", "mnli"], overrides=dict(start=start)) for start in ("mnli", "MNLI")
    )
    cell = next(cell for cell in usual.cells if cell.task == "rte")
    assert written.hparams(cell) == usual.hparams(cell)


def test_one_task_in_two_spellings_is_refused():
    with pytest.raises(ConfigError, match=r"tables\.table2\.tasks: got 'STS-B'; allowed"):
        grid(["STS-B", "stsb"])
