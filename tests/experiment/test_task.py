"""Tasks: which descriptions are refused."""

from dataclasses import replace

import pytest

from lora.errors import ConfigError
from lora.experiment import registry

SST2 = registry.task("sst2")


def test_regression_is_one_label():
    assert registry.task("stsb").is_regression and not SST2.is_regression


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
        (dict(name="a/b"), "task is 'a/b'"),
    ],
)
def test_a_task_that_cannot_be_evaluated_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(SST2, **changes)
