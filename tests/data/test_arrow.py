"""Data sets of `datasets`: saved folders and parquet snapshots, as `datasets` itself writes them.

What belongs to the kind: class lists in the task's order, in another one, with other names, absent;
names in the parquet's metadata and in the card; one shard and several; a snapshot of many
configurations and the folder of one; missing, repeated and damaged shards; missing splits.
"""

import json
import math
from pathlib import Path

import pytest
import yaml

from lora.data import arrow
from lora.data.examples import Examples
from lora.data.formats import read
from lora.experiment import registry

TASKS = registry.read_tasks()
NAMES = ("entailment", "not_entailment")
SWAPPED = ("not_entailment", "entailment")
ROWS = dict(sentence1=list("abcd"), sentence2=list("wxyz"), label=[0, 1, 1, 0])
EXPECTED = Examples(list("abcd"), list("wxyz"), [0.0, 1.0, 1.0, 0.0])


def data_set(names=NAMES, rows=ROWS, **types):
    """Return the same pairs, whatever the order of the classes in `names`."""
    from datasets import ClassLabel, Dataset, Features, Value

    label = ClassLabel(names=list(names)) if names else Value("int64")
    features = dict(sentence1=Value("string"), sentence2=Value("string"), label=label) | types
    if names == SWAPPED:
        rows = rows | dict(label=[1 - label for label in rows["label"]])
    return Dataset.from_dict(rows, features=Features(features))


def save(folder: Path, train, validation=None, **splits) -> Path:
    from datasets import DatasetDict

    splits = dict(train=train, validation=validation or train, **splits)
    DatasetDict({name: one for name, one in splits.items() if one}).save_to_disk(str(folder))
    return folder


def write_parquet(folder: Path, one, split: str, shards: int = 1, keep=None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(shards) if keep is None else keep:
        path = folder / f"{split}-{index:05}-of-{shards:05}.parquet"
        one.shard(shards, index, contiguous=True).to_parquet(str(path))


def write_converted(folder: Path, one, split: str, shards: int = 1, keep=None) -> None:
    """Write files as the hub's branch refs/convert/parquet has them, the last shard first."""
    (folder / split).mkdir(parents=True, exist_ok=True)
    for index in reversed(range(shards) if keep is None else keep):
        one.shard(shards, index, contiguous=True).to_parquet(
            str(folder / split / f"{index:04}.parquet")
        )


def without_metadata(folder: Path) -> None:
    """Rewrite parquet files without the features that `datasets` stored in them."""
    import pyarrow.parquet as pq

    for path in folder.rglob("*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.replace_schema_metadata(None), path)


@pytest.mark.parametrize("names", [NAMES, SWAPPED, None])
def test_a_saved_folder_is_read_by_the_names_of_its_classes(tmp_path, names):
    folder = save(tmp_path / "rte", data_set(names), data_set(names and NAMES))
    splits = read(TASKS["rte"], folder)
    assert splits == dict(train=EXPECTED, validation=EXPECTED)


def test_names_in_one_split_and_numbers_in_the_other_are_refused(tmp_path):
    folder = save(tmp_path / "rte", data_set(SWAPPED), data_set(None))
    with pytest.raises(ValueError, match="split train has names of classes, .*has numbers"):
        read(TASKS["rte"], folder)


def test_text_labels_of_a_saved_folder_are_names(tmp_path):
    from datasets import Value

    rows = ROWS | dict(label=["entailment", "Not_Entailment", " not_entailment", "0"][:3] + [""])
    with pytest.raises(ValueError, match="row 3: label ''; allowed: .*the label is missing"):
        read(TASKS["rte"], save(tmp_path / "a", data_set((), rows, label=Value("string"))))
    rows["label"][3] = "ENTAILMENT"
    one = data_set((), rows, label=Value("string"))
    assert read(TASKS["rte"], save(tmp_path / "b", one))["train"] == EXPECTED


@pytest.mark.parametrize(
    "kind, labels, message",
    [
        ("float64", [0.0, 1.0, math.nan, 0.0], "row 2: label nan; .*the label is missing"),
        ("int64", [0, None, 1, 0], "row 1: label None; .*the label is missing"),
        ("bool", [True, False, True, False], "row 0: label True; allowed"),
        ("string", ["0", "entailment", "1", "1"], "labels are names and numbers"),
        ("int64", [-1, -1, -1, -1], "row 0: label -1; .*-1 marks examples without a label"),
    ],
)
def test_wrong_labels_of_a_saved_folder_are_refused(tmp_path, kind, labels, message):
    from datasets import Value

    wrong = data_set((), ROWS | dict(label=labels), label=Value(kind))
    with pytest.raises(ValueError, match=f"(?s)split validation.*{message}"):
        read(TASKS["rte"], save(tmp_path / "rte", data_set(), wrong))


def test_other_classes_of_a_saved_folder_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"(?s)the classes no, yes; task rte has entailment, not_"):
        read(TASKS["rte"], save(tmp_path / "rte", data_set(("no", "yes"))))


def test_an_unlabelled_test_split_is_no_validation_split(tmp_path):
    from datasets import DatasetDict

    DatasetDict(train=data_set(), test=data_set()).save_to_disk(str(tmp_path / "rte"))
    with pytest.raises(ValueError, match="no split 'validation'; it has: train, test. If test has"):
        read(TASKS["rte"], tmp_path / "rte")


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("names", [NAMES, SWAPPED, None])
@pytest.mark.parametrize("place", [".", "rte", "data"])
def test_parquet_files_are_read(tmp_path, place, names, shards):
    """The folder of one configuration, a snapshot with many, and the hub's default layout."""
    write_parquet(tmp_path / place, data_set(names), "train", shards)
    write_parquet(tmp_path / place, data_set(names), "validation")
    write_parquet(tmp_path / place, data_set(names), "test")
    write_parquet(tmp_path / "mnli", data_set(names), "train")
    assert read(TASKS["rte"], tmp_path) == dict(train=EXPECTED, validation=EXPECTED)


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("names", [NAMES, SWAPPED])
@pytest.mark.parametrize("place", [".", "rte"])
def test_converted_parquet_files_are_read(tmp_path, place, names, shards):
    """Other files beside the shards are not read."""
    write_converted(tmp_path / place, data_set(names), "train", shards)
    write_converted(tmp_path / place, data_set(names), "validation")
    write_converted(tmp_path / place, data_set(names), "test")
    write_converted(tmp_path / "mnli", data_set(names), "train")
    (tmp_path / place / "train/index.parquet").write_bytes(b"")
    assert read(TASKS["rte"], tmp_path) == dict(train=EXPECTED, validation=EXPECTED)


def test_more_than_10000_shards_are_ordered_by_number(tmp_path):
    """As text, 10000 is before 9999."""
    (tmp_path / "train").mkdir()
    for index in (9999, 10000):
        (tmp_path / f"train/{index:04}.parquet").touch()
    assert [one.index for one in arrow._shards(tmp_path)["train"]] == [9999, 10000]


@pytest.mark.parametrize("keep", [[0, 2], [1, 2], [3]])
def test_a_missing_converted_shard_is_refused(tmp_path, keep):
    write_converted(tmp_path / "rte", data_set(), "train", 4, keep)
    write_converted(tmp_path / "rte", data_set(), "validation")
    names = ", ".join(f"000{index}.parquet" for index in keep)
    with pytest.raises(ValueError, match=f"expected the files 0000.parquet, .*: {names}. Download"):
        read(TASKS["rte"], tmp_path)


def test_a_split_in_both_layouts_is_refused(tmp_path):
    write_converted(tmp_path / "rte", data_set(), "train")
    write_parquet(tmp_path / "rte", data_set(), "train")
    write_converted(tmp_path / "rte", data_set(), "validation")
    with pytest.raises(ValueError, match="there are 2: .*Download the data set again"):
        read(TASKS["rte"], tmp_path)


@pytest.mark.parametrize("write", [write_parquet, write_converted])
def test_both_evaluation_splits_of_mnli_are_read(tmp_path, write):
    from datasets import ClassLabel, Dataset, Features, Value

    names = ["entailment", "neutral", "contradiction"]
    kinds = dict(premise=Value("string"), hypothesis=Value("string"), label=ClassLabel(names=names))
    for split in ("train", "validation_matched", "validation_mismatched", "test_matched"):
        rows = dict(premise=[f"{split} {n}" for n in range(3)], hypothesis=["x"] * 3)
        rows["label"] = [-1] * 3 if split == "test_matched" else [0, 1, 2]
        write(tmp_path / "mnli", Dataset.from_dict(rows, Features(kinds)), split)
    splits = read(TASKS["mnli"], tmp_path)
    assert set(splits) == {"train", "validation_matched", "validation_mismatched"}
    for split, one in splits.items():
        assert one.first[0] == f"{split} 0" and one.labels == [0, 1, 2]


@pytest.mark.parametrize("where", ["snapshot", "configuration"])
@pytest.mark.parametrize("form", ["dict", "list"])
def test_names_of_classes_may_be_in_the_card(tmp_path, where, form):
    for split in ("train", "validation"):
        write_parquet(tmp_path / "rte", data_set(SWAPPED), split)
    without_metadata(tmp_path)
    swapped = read(TASKS["rte"], tmp_path)["train"].labels
    assert swapped == [1, 0, 0, 1]  # numbers without names are class numbers
    names = list(SWAPPED) if form == "list" else {str(n): one for n, one in enumerate(SWAPPED)}
    features = [
        dict(name="sentence1", dtype="string"),
        dict(name="label", dtype=dict(class_label=dict(names=names))),
    ]
    infos = [dict(config_name="mnli", features=[]), dict(config_name="rte", features=features)]
    (tmp_path / "README.md").write_text(f"---\n{yaml.safe_dump(dict(dataset_info=infos))}---\n")
    folder = tmp_path if where == "snapshot" else tmp_path / "rte"
    assert read(TASKS["rte"], folder) == dict(train=EXPECTED, validation=EXPECTED)


@pytest.mark.parametrize("keep", [[0, 2], [0], [1, 2]])
def test_a_missing_shard_is_refused(tmp_path, keep):
    write_parquet(tmp_path, data_set(), "train", 3, keep)
    write_parquet(tmp_path, data_set(), "validation")
    with pytest.raises(ValueError, match=f"expected each of 3 files once.*there are {len(keep)}"):
        read(TASKS["rte"], tmp_path)


def test_shards_of_two_downloads_are_refused(tmp_path):
    write_parquet(tmp_path, data_set(), "train", 2)
    write_parquet(tmp_path, data_set(), "train", 1)
    write_parquet(tmp_path, data_set(), "validation")
    with pytest.raises(ValueError, match="expected each of "):
        read(TASKS["rte"], tmp_path)


def test_other_problems_of_parquet_files_are_refused(tmp_path):
    write_parquet(tmp_path, data_set(), "train")
    with pytest.raises(ValueError, match="no split 'validation'; it has: train"):
        read(TASKS["rte"], tmp_path)
    write_parquet(tmp_path, data_set().rename_column("label", "labels"), "validation")
    with pytest.raises(ValueError, match=r"no column \['label'\]; it has: .*'labels'"):
        read(TASKS["rte"], tmp_path)
    path = tmp_path / "validation-00000-of-00001.parquet"
    for content in (b"", path.read_bytes()[:-100], b"PAR1" * 10):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"-of-00001\.parquet is damaged .*; download it"):
            read(TASKS["rte"], tmp_path)
    write_parquet(tmp_path, data_set(), "validation")
    save(tmp_path, data_set())
    with pytest.raises(ValueError, match=r"has dataset_dict\.json and \.; keep the data in one"):
        read(TASKS["rte"], tmp_path)


def test_damaged_metadata_of_a_parquet_file_is_refused(tmp_path):
    import pyarrow.parquet as pq

    write_parquet(tmp_path, data_set(), "train")
    write_parquet(tmp_path, data_set(), "validation")
    path = tmp_path / "train-00000-of-00001.parquet"
    table = pq.read_table(path)
    for content in ("{", json.dumps(dict(info=dict(features=dict(label=3))))):
        pq.write_table(table.replace_schema_metadata({"huggingface": content}), path)
        with pytest.raises(ValueError, match="train"):
            read(TASKS["rte"], tmp_path)
    card = tmp_path / "README.md"
    card.write_text("---\n: [\n---\n")
    with pytest.raises(ValueError, match=r"README\.md: the metadata of its card"):
        read(TASKS["rte"], tmp_path)
