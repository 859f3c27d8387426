"""Labels of any type and spelling: the right class number or score, or one clear message.

What belongs to the kind: numbers as integers, floats and text; names in the task's spelling and in
another case; True and False; missing labels (None, NaN, "", -1); numbers out of range; names and
numbers in one column; class lists in another order, with other names, with numbers as names.
"""

import dataclasses
import math

import pytest

from lora.data import labels
from lora.data.examples import RawSplit
from lora.experiment import registry

TASKS = registry.read_tasks()
NAMELESS = dataclasses.replace(TASKS["sst2"], name="mine", label_names=())


def read(task, values, names=None, **more):
    raw = RawSplit("here", labels=values, rows=range(1, len(values) + 1), label_names=names, **more)
    found, wrong, problems = labels.read(task, raw)
    return found, [f"{raw.place(at)}: {problem}" for at, problem in wrong] + problems


@pytest.mark.parametrize(
    "task, label, value",
    [
        ("sst2", "1", 1.0),
        ("sst2", " 0 ", 0.0),
        ("sst2", "1 ", 1.0),
        ("sst2", "0.0", 0.0),
        ("sst2", 1, 1.0),
        ("sst2", 1.0, 1.0),
        ("sst2", "positive", 1.0),
        ("sst2", "Positive", 1.0),
        ("rte", "entailment", 0.0),
        ("rte", " entailment", 0.0),
        ("rte", "NOT_ENTAILMENT", 1.0),
        ("rte", "not-entailment", 1.0),
        ("rte", "not entailment", 1.0),
        ("rte", "1", 1.0),
        ("mnli", "2", 2.0),
        ("mnli", "contradiction", 2.0),
        ("stsb", "4.75", 4.75),
        ("stsb", -3, -3.0),
    ],
)
def test_a_label_is_a_number_or_a_name(task, label, value):
    assert read(TASKS[task], [label]) == ([value], [])


@pytest.mark.parametrize(
    "task, label",
    [
        *(("sst2", label) for label in ("2", "-1", "0.5", "nan", "", " ", "1_0", "yes", "True")),
        *(("sst2", label) for label in (None, [1], 2, -1, 0.5, math.nan, True, False, 10**400)),
        *(("rte", label) for label in (True, "neutral", "entail", b"entailment", {})),
        *(("stsb", label) for label in ("inf", "nan", "x", "", None, math.inf, True, "1e400")),
    ],
)
def test_a_label_that_is_not_allowed_is_refused(task, label):
    _, problems = read(TASKS[task], [label])
    assert len(problems) == 1
    assert problems[0].startswith("here, line 1: label ") and "; allowed: " in problems[0]


def test_hints():
    for label in (None, math.nan, "", " "):
        assert "the label is missing" in read(TASKS["sst2"], [label])[1][0]
    for label in (-1, "-1", -1.0):
        assert "as in test splits" in read(TASKS["sst2"], [label])[1][0]
    assert "give label_names in config/tasks.csv" in read(NAMELESS, ["good"])[1][0]
    assert "from 0 to 5" in read(TASKS["stsb"], ["5.1"], limits=(0.0, 5.0))[1][0]


def test_names_and_numbers_in_one_column_are_refused():
    _, problems = read(TASKS["rte"], ["entailment", "0", "not_entailment"])
    assert problems == [
        "here: labels are names and numbers ('entailment' in line 1, '0' in line 2); use one of "
        "them"
    ]


@pytest.mark.parametrize(
    "task, names, numbers",  # the numbers that labels 0, 1, ... of the data set become
    [
        ("rte", ("entailment", "not_entailment"), [0, 1]),
        ("rte", ("not_entailment", "entailment"), [1, 0]),
        ("mnli", ("contradiction", "entailment", "neutral"), [2, 0, 1]),
        ("mnli", ("Contradiction", "ENTAILMENT", "neutral"), [2, 0, 1]),
        ("mnli", ("neutral", "entailment"), [1, 0]),  # fewer classes than the task
        ("sst2", ("0", "1"), [0, 1]),
        ("sst2", ("1", "0"), [1, 0]),
    ],
)
def test_classes_are_matched_by_name(task, names, numbers):
    assert read(TASKS[task], range(len(names)), names) == (numbers, [])


def test_a_task_without_names_takes_the_numbers():
    assert read(NAMELESS, [0, 1], ("neg", "pos")) == ([0, 1], [])
    _, problems = read(NAMELESS, [0, 1], ("neg", "neutral", "pos"))
    assert "has the classes neg, neutral, pos; task mine has 2 classes" in problems[0]


@pytest.mark.parametrize(
    "task, names",
    [
        ("sst2", ("neg", "pos")),
        ("rte", ("entailment", "neutral", "not_entailment")),
        ("rte", ("entailment", "Entailment")),
        ("sst2", ("1", "2")),
        ("sst2", ("-1", "0", "1")),
        ("stsb", ("low", "high")),
    ],
)
def test_other_classes_are_refused_with_both_lists(task, names):
    _, problems = read(TASKS[task], [0, 1], names)
    assert len(problems) == 1 and ", ".join(names) in problems[0]
    assert ", ".join(TASKS[task].label_names) in problems[0]


def test_a_class_number_outside_the_list_is_refused():
    _, problems = read(TASKS["rte"], [0, 2, -1, None], ("entailment", "not_entailment"))
    assert [problem.split(":")[0] for problem in problems] == [f"here, line {n}" for n in (2, 3, 4)]
