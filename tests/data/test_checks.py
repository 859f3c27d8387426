"""Checks of texts and labels, the same for every format: refused, or kept, counted and logged.

What belongs to the kind: texts that are not text, empty texts, wrong and missing labels, several
problems in several splits, no examples, equal labels, repeated texts, swapped files.
"""

import dataclasses
import math

import pytest

from lora.data import checks
from lora.data.examples import RawSplit
from lora.errors import ConfigError
from lora.experiment import registry

TASKS = registry.read_tasks()
SST2, RTE = TASKS["sst2"], TASKS["rte"]


def split(name, texts, labels, second=None, **more):
    columns = {"sentence": texts} | ({} if second is None else {"second": second})
    return RawSplit(name, columns, labels, rows=range(2, len(labels) + 2), **more)


def run(train, validation, task=SST2):
    return checks.to_examples(task, {"train": train, "validation": validation})


GOOD = split("train.tsv", ["a", "b", "c"], [0, 1, 1])
DEV = split("dev.tsv", ["d", "e"], [0, 1])


def test_what_is_right_is_kept_without_a_warning(caplog):
    splits = run(GOOD, DEV)
    assert (splits["train"].first, splits["train"].labels) == (["a", "b", "c"], [0, 1, 1])
    assert caplog.text == ""


@pytest.mark.parametrize("text", [None, 3, 2.5, math.nan, b"bytes", True, ["a"], {"a": 1}])
def test_what_is_not_text_is_refused(text):
    with pytest.raises(ValueError, match=r"^dev.tsv, line 3: column sentence: .*; expected text"):
        run(GOOD, split("dev.tsv", ["d", text], [0, 1]))


def test_all_problems_of_all_splits_are_in_one_message():
    train = split("train.tsv", ["a", None, *["c"] * 28], [0, 1, *["x"] * 28])
    dev = split("dev.tsv", ["d", "e"], [-1, math.nan])
    with pytest.raises(ConfigError) as error:
        run(train, dev)
    problems = error.value.problems
    assert problems[0] == "train.tsv, line 3: column sentence: None; expected text"
    assert problems[1].startswith("train.tsv, line 4: label 'x'; allowed: ")
    assert problems[checks.LISTED] == "train.tsv: and 19 more lines like these"
    assert [one[:15] for one in problems[-2:]] == ["dev.tsv, line 2", "dev.tsv, line 3"]
    assert str(error.value).startswith("task sst2: the data cannot be used:")


def test_a_split_that_cannot_be_read_does_not_hide_the_others():
    with pytest.raises(ConfigError) as error:
        run(RawSplit("train.tsv", problems=["train.tsv is empty"]), split("dev.tsv", ["a"], [7]))
    assert error.value.problems[0] == "train.tsv is empty"
    assert error.value.problems[1].startswith("dev.tsv, line 2: label 7")


@pytest.mark.parametrize(
    "task, labels",
    [("sst2", [1, 1, 1]), ("sst2", [0]), ("stsb", [2.5, 2.5])],
)
def test_equal_training_labels_are_refused(task, labels):
    train = split("train.tsv", [str(n) for n in range(len(labels))], labels)
    with pytest.raises(ValueError, match=f"train.tsv: the label of all {len(labels)} examples is"):
        run(train, DEV, TASKS[task])


def test_equal_evaluation_labels_are_a_warning(caplog):
    run(GOOD, split("dev.tsv", ["d", "e"], [1, 1]))
    assert "dev.tsv: the label of all 2 examples is the same" in caplog.text


def test_a_class_without_training_examples_is_a_warning(caplog):
    columns = {"premise": ["a", "b"], "hypothesis": ["c", "d"]}
    train = RawSplit("train.tsv", columns, [0, 1], rows=[2, 3])
    checks.to_examples(TASKS["mnli"], {"train": train, "validation_matched": train})
    assert "train.tsv has no example of class 2" in caplog.text


def test_an_empty_split_and_a_column_of_empty_texts_are_refused():
    with pytest.raises(ValueError, match=r"^dev.tsv holds no example"):
        run(GOOD, split("dev.tsv", [], []))
    with pytest.raises(ValueError, match=r"^dev.tsv: column second has only empty texts"):
        run(
            split("train.tsv", ["a", "b"], [0, 1], ["c", "d"]),
            split("dev.tsv", ["a", "b"], [0, 1], ["", " "]),
            RTE,
        )


def test_empty_texts_are_counted(caplog):
    """As in QQP's official files. Blank texts too, in either column."""
    train = split("train.tsv", ["a", "", "c", "d"], [0, 1, 1, 1], ["w", "x", " \u00a0", ""])
    splits = run(train, split("dev.tsv", ["d"], [0], ["y"]), RTE)
    assert splits["train"].counts.empty_texts == 3
    assert "train.tsv: 3 of 4 examples have an empty text; the first is line 3" in caplog.text
    assert splits["train"].first == ["a", "", "c", "d"]


def test_repeated_texts_are_counted(caplog):
    """A pair is repeated only if both texts are; a label does not matter."""
    train = split("train.tsv", ["a", "b", "a"], [0, 1, 1], ["x", "y", "x"])
    dev = split("dev.tsv", ["a", "a", "b", "b"], [0, 1, 1, 1], ["y", "x", "y", "y"])
    counts = run(train, dev, RTE)["validation"].counts
    assert (counts.repeated, counts.in_train) == (1, 3)
    assert "dev.tsv: 1 of 4 examples have the texts of an earlier example; the first is line 5" in (
        caplog.text
    )
    assert (
        "dev.tsv: 3 of 4 examples have texts that are in train too (train.tsv, line 2); the first "
        "is line 3" in caplog.text
    )


def test_more_evaluation_than_training_examples_are_a_warning(caplog):
    run(GOOD, split("dev.tsv", list("defg"), [0, 1, 1, 0]))
    assert "dev.tsv has 4 examples, more than the 3 of train" in caplog.text


def test_splits_with_different_class_lists_need_the_tasks_names():
    nameless = dataclasses.replace(SST2, label_names=())
    train = split("train", ["a", "b"], [0, 1], label_names=("neg", "pos"))
    dev = split("dev", ["c", "d"], [0, 1], label_names=("pos", "neg"))
    with pytest.raises(ValueError, match="the splits have different lists of classes"):
        run(train, dev, nameless)
    named = dataclasses.replace(SST2, label_names=("neg", "pos"))
    assert run(train, dev, named)["validation"].labels == [1, 0]


@pytest.mark.parametrize(
    "found, problem",
    [
        (["sentence"], r"here: no column \['label'\]; it has: \['sentence'\]"),
        (["sentence", "label", "label"], "column label is in its header more than once"),
        ([], "no column"),
    ],
)
def test_columns(found, problem):
    with pytest.raises(ValueError, match=problem):
        raise ValueError(*checks.check_columns(("sentence", "label"), found, "here"))
    assert checks.check_columns(("sentence", "label"), ["label", "x", "sentence"], "here") == []
