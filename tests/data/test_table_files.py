"""Which files are the splits of a task of the config."""

import pytest
from helpers.own_tasks import own_task, write_csv

from lora.data import table_files


def make(folder, *names):
    for name in names:
        write_csv(folder / name)
    return folder


@pytest.mark.parametrize(
    "names, splits, expected",
    [
        (["train.csv", "dev.csv"], {}, ("train", "dev")),
        (["train.tsv", "validation.csv.gz", "test.csv"], {}, ("train", "validation")),
        (["train.csv", "test.csv", ".hidden.csv", "notes.txt"], {}, ("train", "")),
        (["all.jsonl"], {}, ("all", "")),
        (["a.csv", "b.csv"], dict(train="b", dev="a.csv"), ("b", "a")),
        (["train.csv", "val.csv", "dev.csv"], dict(dev="val"), ("train", "val")),
    ],
)
def test_usual_names_are_found_and_others_are_given(tmp_path, names, splits, expected):
    found = table_files.find(own_task(tmp_path, splits=splits), make(tmp_path, *names))
    assert (found.train, found.dev) == expected


def test_a_single_file_is_train_whatever_its_name(tmp_path):
    path = write_csv(tmp_path / "dev.CSV")
    found = table_files.find(own_task(path), path)
    assert (found.train, found.dev, found.splits) == ("dev", "", {"dev": [path]})


def test_parts_of_a_split_are_in_order(tmp_path):
    names = [f"train-0000{at}-of-00003.parquet" for at in (2, 0, 1)]
    found = table_files.find(own_task(tmp_path), make(tmp_path, *names))
    assert [path.name for path in found.splits["train"]] == sorted(names)


@pytest.mark.parametrize(
    "names, splits, part",
    [
        ([], {}, "has no table; allowed: files that end in .csv, .tsv, .jsonl"),
        (["notes.txt", "data.xlsx"], {}, "It has: ['data.xlsx', 'notes.txt']"),
        (["a.csv", "b.csv"], {}, "has a, b; say which is which: splits: {train: ..., dev: ...}"),
        (["train.csv", "val.csv", "dev.csv"], {}, "say which one is evaluated"),
        (["train.csv"], dict(train="tain"), "splits.train is 'tain', but"),
        (["train.csv"], dict(dev="dev.csv"), "splits.dev is 'dev.csv', but"),
        (["train.csv", "dev.csv"], dict(dev="train"), "splits has 'train' as train and as dev"),
        (["train.csv", "train.jsonl"], {}, "has train.csv and train.jsonl; keep one of them"),
    ],
)
def test_what_is_not_clear_is_refused(tmp_path, names, splits, part):
    folder = tmp_path / "data.csv"  # a folder with the name of a file
    folder.mkdir()
    with pytest.raises(ValueError) as caught:
        table_files.find(own_task(folder, splits=splits), make(folder, *names))
    assert part in str(caught.value) and str(folder) in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="there is no file or folder .*gone.csv; correct path"):
        table_files.find(own_task("gone.csv"), tmp_path / "gone.csv")
