"""Tasks of a config, from their files to examples: classes, missing values, made splits."""

import json
import math

import pandas as pd
import pytest
from helpers.own_tasks import ROWS, own_task, write_csv

from lora.data import formats
from lora.errors import ConfigError


def read(path, **keys):
    return formats.read_with_task(own_task(path, **keys), path)


def refused(path, **keys) -> str:
    with pytest.raises(ValueError) as caught:
        read(path, **keys)
    return str(caught.value)


def table(folder, labels, texts=None, kind=".jsonl"):
    """Write a table of these labels, each value with its type."""
    texts = texts or [f"text {at}" for at in range(len(labels))]
    rows = [dict(text=text, label=label) for text, label in zip(texts, labels, strict=True)]
    path = folder / f"table{kind}"
    if kind == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    "labels, names",
    [
        (["b", "a", " a ", "B"], ("B", "a", "b")),
        ([10, 9, 1], ("1", "9", "10")),
        (["10", "9", "-1"], ("-1", "9", "10")),
        ([1.0, 0.0, 0.0], ("0", "1")),
        (["1.0", "0.0", "1"], ("0", "1")),
        ([True, False], ("False", "True")),
        (["😀", "سيء", "bon"], ("bon", "سيء", "😀")),
        ([f"c{at:04}" for at in range(1000)], tuple(f"c{at:04}" for at in range(1000))),
    ],
)
def test_classes_are_the_labels_by_name_and_whole_numbers_by_value(tmp_path, labels, names):
    task, splits = read(table(tmp_path, labels * 3))
    assert task.label_names == names and task.num_labels == len(names)
    for examples in splits.values():
        for text, label in zip(examples.first, examples.labels, strict=True):
            written = labels[int(text.split()[1]) % len(labels)]
            name = str(int(written)) if type(written) is float else str(written).strip()
            assert names[int(label)] == name.removesuffix(".0")


def test_given_classes_keep_their_order(tmp_path):
    task, splits = read(table(tmp_path, [3, 1, 2] * 4), labels=[3, 2, 1])
    assert task.label_names == ("3", "2", "1")
    for text, label in zip(splits["train"].first, splits["train"].labels, strict=True):
        assert label == [0, 2, 1][int(text.split()[1]) % 3]


@pytest.mark.parametrize(
    "labels, keys, part",
    [
        ([], {}, "holds no example; expected at least one"),
        (["a", "a", "a"], {}, "the label of all 3 examples is 'a', so there is nothing to learn"),
        ([0.5, 1.0, 2.0], {}, "labels are numbers such as '0.5'; for scores set labels: regress"),
        ([1, 2, "a"], {}, "labels are numbers ('1' in line 1) and words ('a' in line 3); list all"),
        ([f"x{at}" for at in range(1001)], {}, "there are 1001 different labels; allowed: up to"),
        ([["a"], "b", "c"], {}, "line 1: label ['a']; expected text or a number"),
        (["a", None, "b"], {}, "line 2: the label is missing; to leave such rows out, set missing"),
        (["a", "", "b"], {}, "line 2: the label is missing"),
        (["a", math.nan, "b"], {}, "line 2: the label is missing"),
        (["a", "b", "goood"], dict(labels=["a", "b", "good"]), "(did you mean 'good'?)"),
        (["a", "b", "0"], dict(labels=["a", "b"]), "label '0'; allowed: 'a', 'b'"),
        (["a", 1.5], dict(labels="regression"), "label 'a'; allowed: a finite number"),
        (["3,5", "1,0"], dict(labels="regression"), 'for decimal commas set decimal: ","'),
        ([1.5, 1.5, 1.5], dict(labels="regression"), "the label of all 2 examples is 1.5"),
        ([True, 2.5, 1], dict(labels="regression"), "label True; allowed: a finite number"),
        (["a", "b", "c"], {}, "3 examples of 3 classes are too few to make an evaluation split"),
    ],
)
def test_wrong_labels_are_named(tmp_path, labels, keys, part):
    text = refused(table(tmp_path, labels), **keys)
    assert part in text and "table.jsonl" in text


@pytest.mark.parametrize(
    "text, part",
    [
        ("", "column text: the text is missing; to leave such rows out, set missing: drop"),
        (" \t", "column text: the text is missing"),
        (None, "column text: the text is missing"),
        (math.nan, "column text: the text is missing"),
        (7, "column text: 7; expected text"),
        (["a"], "column text: ['a']; expected text"),
    ],
)
def test_wrong_texts_are_named(tmp_path, text, part):
    texts = ["a", "b", text, "d", "e", "f"]
    assert part in refused(table(tmp_path, ["x", "y"] * 3, texts))
    if "missing" in part:
        path = table(tmp_path, ["x", "y"] * 3, texts)
        _, splits = read(path, missing="drop")
        assert sum(map(len, splits.values())) == 5
        assert splits["train"].counts.skipped_lines == 1


def test_nan_texts_of_pandas(tmp_path):
    path = table(tmp_path, ["x", "y", None], ["a", None, "c"], ".parquet")
    text = refused(path)
    assert "row 2: column text: the text is missing" in text and "row 3: the label is" in text


def test_all_problems_of_both_splits_are_listed(tmp_path):
    write_csv(tmp_path / "train.csv", ["a,x", ",y", "c,x", "d,y"])
    write_csv(tmp_path / "dev.csv", ["e,x", "f,z", "g"])
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, labels=["x", "y"])
    places = [problem.split(":")[0].rpartition("/")[2] for problem in caught.value.problems]
    assert places == ["train.csv, line 3", "dev.csv, line 4", "dev.csv, line 3"]


def test_an_unseen_label_of_dev_is_refused_with_its_line(tmp_path):
    write_csv(tmp_path / "train.csv", ["a,1", "b,2"])
    write_csv(tmp_path / "dev.csv", ["e,1", "f,0"])
    text = refused(tmp_path)
    assert "dev.csv, line 3: label '0'; allowed: '1', '2', the labels of train" in text


def test_rows_in_train_and_dev_are_logged_with_file_and_line(tmp_path, caplog):
    write_csv(tmp_path / "train.csv", ["a,1", "b,2"])
    write_csv(tmp_path / "dev.csv", ["c,1", "b,2", "c,1"])
    _, splits = read(tmp_path)
    train, dev = tmp_path / "train.csv", tmp_path / "dev.csv"
    assert (
        f"{dev}: 1 of 3 examples have texts that are in train too ({train}, line 3); the first is "
        "line 3" in caplog.text
    )
    assert (splits["validation"].counts.in_train, splits["validation"].counts.repeated) == (1, 1)


def test_a_made_split_is_recorded_and_names_its_lines(tmp_path):
    path = write_csv(tmp_path / "mine.csv")
    task, splits = read(path, dev_fraction=0.3, split_seed=4)
    assert splits["validation"].made == "0.3 of the rows of train, seed 4"
    assert splits["train"].made == "" and task.label_names == ("bad", "good")
    assert sorted([*splits["train"].first, *splits["validation"].first]) == sorted(dict(ROWS))
    assert sum(splits["validation"].labels) == 6 and len(splits["validation"]) == 9
    again = read(path, dev_fraction=0.3, split_seed=4)[1]
    assert list(again["train"].first) == list(splits["train"].first)


def test_scores_with_decimal_commas(tmp_path):
    path = write_csv(tmp_path / "scores.csv", [f"t{at};{at},5" for at in range(9)], "text;label")
    task, splits = read(path, labels="regression", decimal=",")
    assert task.is_regression and not task.label_names
    for examples in splits.values():
        assert [float(text[1:]) + 0.5 for text in examples.first] == list(examples.labels)


def test_parts_of_a_file_are_numbered_on(tmp_path):
    for at in range(2):
        part = tmp_path / f"train-0000{at}-of-00002.csv"
        write_csv(part, [f"a{at},x", f"b{at},{'' if at else 'y'}"])
    text = refused(tmp_path)
    assert f"{tmp_path}, split train, row 4: the label is missing" in text
