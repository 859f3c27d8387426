"""Config keys of data sets, models and own tasks: closed, typed, with the stated defaults."""

import pytest
from pydantic import ValidationError

from lora.experiment.config_data import SourceConfig, TaskConfig


def test_defaults_of_an_own_task_are_those_of_its_descriptions():
    task = TaskConfig.model_validate(dict(path="mine.csv", text="text"))
    assert (task.text, task.label, task.labels, task.metric) == (("text",), "label", (), None)
    stated = {name: field.description for name, field in TaskConfig.model_fields.items()}
    assert f"{task.dev_fraction} if left out" in stated["dev_fraction"]
    assert f"{task.split_seed} if left out" in stated["split_seed"]
    assert task.missing == "error" and "error (if left out)" in stated["missing"]
    assert task.decimal == "." and "a point if left out" in stated["decimal"]


@pytest.mark.parametrize(
    "change",
    [
        dict(text=[]),
        dict(text=True),
        dict(dev_fraction=0.0),
        dict(dev_fraction=1.0),
        dict(dev_fraction="0.2"),
        dict(split_seed=-1),
        dict(missing="keep"),
        dict(separator=":"),
        dict(decimal=";"),
        dict(metric="auc"),
        dict(label=""),
        dict(splits=dict(test="test")),
        dict(unknown=1),
    ],
    ids=str,
)
def test_a_task_with_a_wrong_value_is_refused(change):
    with pytest.raises(ValidationError) as caught:
        TaskConfig.model_validate(dict(path="mine.csv", text="text") | change)
    assert caught.value.error_count() == 1
    assert caught.value.errors()[0]["loc"][0] in change


@pytest.mark.parametrize(
    "change", [dict(kind="ftp"), dict(locator=""), dict(role="table"), dict(unknown=1)], ids=str
)
def test_a_source_with_a_wrong_value_is_refused(change):
    with pytest.raises(ValidationError):
        SourceConfig.model_validate(dict(kind="file", locator="folder") | change)
    assert SourceConfig.model_validate(dict(kind="file", locator="folder")).role is None
