"""Tasks: which descriptions are refused."""

from dataclasses import replace

import pytest

from lora.errors import ConfigError
from lora.experiment import registry

SST2 = registry.task("sst2")


def test_regression_is_one_label():
    assert registry.task("stsb").is_regression and not SST2.is_regression


def test_classes_of_glue_have_the_names_of_the_data_set():
    """The names of `ClassLabel` in nyu-mll/glue@bcdcba7, in its order; regression has none."""
    equivalent = {"mrpc": "equivalent", "qqp": "duplicate"}
    entailed = ("entailment", "not_entailment")
    expected = {
        "cola": ("unacceptable", "acceptable"),
        "sst2": ("negative", "positive"),
        "mnli": ("entailment", "neutral", "contradiction"),
        "stsb": (),
        **{name: (f"not_{word}", word) for name, word in equivalent.items()},
        **dict.fromkeys(("qnli", "rte"), entailed),
    }
    tasks = registry.read_tasks()
    assert {name: tasks[name].label_names for name in expected} == expected
    assert all(
        len(task.label_names) == (0 if task.is_regression else task.num_labels)
        for task in tasks.values()
    )


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(num_labels=0), "num_labels is 0; allowed: 1 .regression. or the number of classes"),
        (dict(metric="acuracy"), "metric is 'acuracy'; allowed: accuracy"),
        (dict(metric="pearson"), "metric 'pearson' does not fit num_labels 2"),
        (dict(text_columns=()), "text_columns has 0 names; allowed: 1"),
        (dict(text_columns=("a", "a")), "text_columns is 'a a'; allowed: each only once"),
        (dict(eval_splits=("train",)), "eval_splits has 'train'"),
        (dict(eval_splits=("a", "b", "c")), "eval_splits has 3 names"),
        (dict(label_names=("a",)), "label_names has 1 names; allowed: 2, the number of classes"),
        (dict(label_names=("a", "b", "c")), "label_names has 3 names; allowed: 2"),
        (dict(label_names=("a", "a")), "label_names is 'a a'; allowed: each only once"),
        (dict(label_names=("a", "")), "label_names has ''; allowed: printable text"),
        (dict(label_names=("a", " ")), "label_names has ' '; allowed: printable text"),
        (dict(label_names=("a", "b\n")), "label_names has .* allowed: printable text"),
        (
            dict(num_labels=1, metric="pearson", label_names=("a",)),
            "label_names is 'a'; allowed: nothing, for regression",
        ),
        (dict(name="a/b"), "task is 'a/b'"),
    ],
)
def test_a_task_that_cannot_be_evaluated_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(SST2, **changes)
