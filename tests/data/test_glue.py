"""GLUE's own files if they are available, and small files with every known difficulty."""

import csv
import dataclasses
import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest
from helpers.glue import GLUE

from lora.data.examples import Examples
from lora.data.formats import read
from lora.data.glue import OFFICIAL
from lora.experiment import registry

TASKS = registry.read_tasks()
PAIR = "index\tsentence1\tsentence2\tlabel\n"


def write(folder: Path, **files) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.tsv").write_bytes(
            content if isinstance(content, bytes) else content.encode()
        )
    return folder


@pytest.mark.parametrize(
    "name, train, dev, counts",  # training labels, from the data sets' own statistics
    [
        ("sst2", 67349, 872, {0: 29780, 1: 37569}),
        ("cola", 8551, 1043, {0: 2528, 1: 6023}),
        ("rte", 2490, 277, {0: 1249, 1: 1241}),
        ("mrpc", 3668, 408, {0: 1194, 1: 2474}),
        ("stsb", 5749, 1500, None),
    ],
)
def test_official_files_give_every_example(name, train, dev, counts):
    folder = GLUE / OFFICIAL[name].folder
    if not folder.is_dir():
        pytest.skip(f"no official GLUE files in {GLUE}; set LORA_GLUE_DIR")
    if name == "mrpc" and (folder / "train.tsv").read_bytes().count(b"\n") == 3668:
        train, counts = (
            3667,
            {0: 1194, 1: 2473},
        )  # some copies lack one pair: 3,668 lines with the header
    splits = read(TASKS[name], GLUE)
    assert {split: len(examples) for split, examples in splits.items()} == {
        "train": train,
        "validation": dev,
    }
    assert counts is None or Counter(splits["train"].labels) == counts
    with open(
        folder / "dev.tsv", encoding="utf-8-sig", newline=""
    ) as handle:  # the csv module as a second reader
        rows = list(csv.reader(handle, delimiter="\t", quoting=csv.QUOTE_NONE))[
            0 if name == "cola" else 1 :
        ]
    columns = {"sst2": [0], "cola": [3], "rte": [1, 2], "mrpc": [3, 4], "stsb": [7, 8]}[name]
    examples = splits["validation"]
    assert examples.first == [row[columns[0]] for row in rows]
    assert examples.second == ([row[columns[1]] for row in rows] if len(columns) == 2 else None)
    assert read(TASKS[name], folder)["validation"] == examples


def test_quotes_byte_order_mark_and_crlf_are_read(tmp_path):
    header = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"
    content = f'\ufeff{header}\r\n1\t7\t8\t"He said\tit is " so\r\n0\t7\t9\t a\u2028b \tc\x0cd\r\n'
    got = read(TASKS["mrpc"], write(tmp_path, train=content, dev=content))["validation"]
    assert got.first == ['"He said', " a\u2028b "]
    assert got.second == ['it is " so', "c\x0cd"]
    assert got.labels == [1.0, 0.0]


def test_cola_without_a_header(tmp_path):
    write(tmp_path / "CoLA", train='gj04\t1\t\tA "b.\nbc71\t0\t*\tThe cat', dev="gj04\t1\t\tOh.\n")
    splits = read(TASKS["cola"], tmp_path)
    assert (splits["train"].first, splits["train"].labels) == (['A "b.', "The cat"], [1.0, 0.0])
    assert splits["train"].second is None


def test_mnli_labels_and_both_dev_files(tmp_path):
    header = "index\tsentence1\tsentence2\tlabel1\tgold_label\n"
    train = header + "0\ta\tb\tneutral\tentailment\n1\tc\td\tneutral\tcontradiction\n"
    dev = "index\tsentence1\tsentence2\tgold_label\n0\te\tf\tneutral\n"
    folder = write(
        tmp_path, train=train, dev_matched=dev, dev_mismatched=dev.replace("0\te", "0\tg")
    )
    splits = read(TASKS["mnli"], folder)
    assert splits["train"].labels == [0.0, 2.0]
    assert (splits["validation_matched"].first, splits["validation_mismatched"].first) == (
        ["e"],
        ["g"],
    )
    assert splits["validation_matched"].labels == [1.0]


def test_a_task_of_the_users_own_is_read_by_its_columns(tmp_path):
    own = dataclasses.replace(
        TASKS["sst2"],
        name="letters",
        text_columns=("letter", "reply"),
        num_labels=3,
        label_names=(),
    )
    content = "label\treply\tletter\n2\tb\ta\n0\td\tc\n"
    splits = read(own, write(tmp_path, train=content, dev=content))
    assert splits["train"] == Examples(["a", "c"], ["b", "d"], [2.0, 0.0])


GOOD = PAIR + "0\ta\tb\tentailment\n"
TRAIN = {
    "rte": GOOD + "1\tc\td\tnot_entailment\n",
    "sst2": "sentence\tlabel\na\t1\nb\t0\n",
    "stsb": "sentence1\tsentence2\tscore\na\tb\t5\nc\td\t0\n",
    "qqp": "question1\tquestion2\tis_duplicate\na\tb\t1\nc\td\t0\n",
}


@pytest.mark.parametrize(
    "name, dev, message",
    [
        ("rte", b"", r"dev\.tsv is empty"),
        ("rte", PAIR, r"dev\.tsv holds no example"),
        ("rte", GOOD + "1\ta\tb\n", r"dev\.tsv, line 3: 3 columns; expected 4"),
        ("rte", GOOD + "\n", r"dev\.tsv, line 3: 1 columns"),
        ("rte", GOOD + "1\ta\tb\tc\tentailment\n", r"line 3: 5 columns"),
        (
            "rte",
            GOOD + "1\ta\tb\tneutral\n",
            r"line 3: label 'neutral'; allowed: entailment, not_entailment",
        ),
        ("rte", GOOD.encode() + b"1\t\xe9\tb\tentailment\n", r"line 3: byte 0xe9 is not UTF-8"),
        ("rte", GOOD.encode() + b"1\t\0\tb\tentailment\n", r"line 3: a NUL byte"),
        ("rte", "index\tsentence1\tlabel\n0\ta\tentailment\n", r"no column \['sentence2'\]"),
        (
            "sst2",
            "sentence\tlabel\na\t2\n",
            r"line 2: label '2'; allowed: the whole numbers 0 to 1",
        ),
        ("sst2", "sentence\tlabel\na\t-1\n", r"label '-1'"),
        ("sst2", "sentence\tlabel\na\t0.5\n", r"label '0.5'"),
        ("sst2", "sentence\tlabel\na\tnan\n", r"label 'nan'"),
        (
            "stsb",
            "sentence1\tsentence2\tscore\na\tb\t5.1\n",
            r"label '5.1'; allowed: a number from 0 to 5",
        ),
        ("stsb", "sentence1\tsentence2\tscore\na\tb\tnan\n", r"label 'nan'"),
        (
            "qqp",
            "question1\tquestion2\tis_duplicate\na\tb\n",
            r"line 2: 2 columns.*1 of 2 lines is more than 0.1%: download the file again",
        ),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path, name, dev, message):
    train = TRAIN[name]
    assert len(read(TASKS[name], write(tmp_path, train=train, dev=train))["validation"]) == 2
    with pytest.raises(ValueError, match=message):
        read(TASKS[name], write(tmp_path, train=train, dev=dev))


def test_a_folder_without_data_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"allowed: a folder with dataset_dict.json.*RTE/train.tsv"
    ):
        read(TASKS["rte"], tmp_path)
    with pytest.raises(ValueError, match=r"there is no file .*dev\.tsv"):
        read(TASKS["rte"], write(tmp_path, train=TRAIN["rte"]))


def saved(folder: Path, **splits) -> Path:
    from datasets import Dataset, DatasetDict

    DatasetDict(
        {name: Dataset.from_dict(columns) for name, columns in splits.items()}
    ).save_to_disk(str(folder))
    return folder


def test_a_saved_data_set_is_read_without_its_test_split(tmp_path):
    good = {"sentence1": ["a", "c"], "sentence2": ["b", ""], "label": [0, 1], "idx": [0, 1]}
    folder = saved(tmp_path / "good", train=good, validation=good, test={**good, "label": [-1, -1]})
    splits = read(TASKS["rte"], folder)
    assert set(splits) == {"train", "validation"}
    assert splits["train"] == Examples(["a", "c"], ["b", ""], [0.0, 1.0])
    for number, (wrong, message) in enumerate(
        [
            (
                {**good, "label": [0, -1]},
                r"split validation, row 1: label -1; allowed: the whole numbers 0 to 1",
            ),
            ({**good, "sentence2": ["b", None]}, r"row 1: column sentence2: None; expected text"),
            ({"sentence1": ["a"], "label": [0]}, r"no column \['sentence2'\]"),
            ({name: [] for name in good}, "datasets cannot load this data set"),
        ]
    ):
        with pytest.raises(ValueError, match=message):
            read(TASKS["rte"], saved(tmp_path / f"wrong{number}", train=good, validation=wrong))
    for path in (folder / "train").glob("*.arrow"):
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match="datasets cannot load this data set"):
        read(TASKS["rte"], folder)
    with pytest.raises(ValueError, match="no split 'validation'; it has: train"):
        read(TASKS["rte"], saved(tmp_path / "half", train=good))


def qqp(lines: int, changed: dict[int, str]) -> str:
    """Return a file with the columns of QQP's official files, some lines of it replaced."""
    header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    return header + "".join(
        changed.get(number, f"{number}\t1\t2\tIs {number} odd?\tOdd?\t{number % 2}") + "\n"
        for number in range(2, lines + 1)
    )


def hub_rows(path: Path) -> list[tuple[str, str, int]]:
    """Return the rows that the script of the hub's copy keeps of QQP's file.

    It is csv.DictReader without quoting; a row with a missing value is left out.
    """
    with open(path, encoding="utf8", newline="") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE))
    values = [(row["question1"], row["question2"], row["is_duplicate"]) for row in rows]
    return [(*row[:2], int(row[2])) for row in values if None not in row and row[2]]


def test_broken_lines_of_an_official_file_are_skipped_as_in_the_hubs_copy(tmp_path, caplog):
    """The kind: too short (a cut line, an empty line), without label, longer than the header."""
    changed = {
        40: "40\t1\t2\tcut",
        41: "",
        900: "900\t1\t2\tno\tlabel\t",
        901: "901\t1\t2\tlonger\tthan the header\t1\tx",
    }
    train = qqp(5000, changed)
    folder = write(tmp_path, train=train, dev=qqp(2000, {7: "7"}))
    splits = read(TASKS["qqp"], folder)
    for split, file in (("train", "train.tsv"), ("validation", "dev.tsv")):
        one = splits[split]
        assert list(zip(one.first, one.second, one.labels, strict=True)) == hub_rows(folder / file)
    assert (splits["train"].counts.skipped_lines, splits["train"].counts.long_lines) == (3, 1)
    assert splits["validation"].counts.skipped_lines == 1
    assert "train.tsv: 3 lines lack a column or their label and are skipped" in caplog.text
    assert "train.tsv: 1 lines have more columns than the header" in caplog.text


def test_many_broken_lines_of_an_official_file_are_listed_at_once(tmp_path):
    broken = dict.fromkeys([5, 6, 7, 99, 100], "1\t2")
    folder = write(tmp_path, train=qqp(4000, broken), dev=qqp(1000, {1: ""}))
    with pytest.raises(ValueError) as error:
        read(TASKS["qqp"], folder)
    message = str(error.value)
    for number in (5, 6, 7):
        assert f"train.tsv, line {number}: 2 columns; expected 6" in message
    assert "line 99:" not in message
    assert "5 of 4000 lines are like this: 5-7, 99-100" in message and "download" in message


def test_every_ragged_line_of_an_own_file_is_listed(tmp_path):
    own = dataclasses.replace(TASKS["sst2"], name="mine")
    content = "sentence\tlabel\n" + "good\t1\nbad\t0\n" * 3000
    folder = write(tmp_path, train=content + "a\nb\n", dev=content)
    with pytest.raises(ValueError) as error:
        read(own, folder)
    for part in ("line 6002: 1 columns", "line 6003", "2 of 6003 lines are like this: 6002-6003"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    "name, counts",  # of validation: repeated, in_train
    [("sst2", (0, 0)), ("cola", (4, 16)), ("rte", (0, 0)), ("mrpc", (0, 0)), ("stsb", (2, 6))],
)
def test_counts_of_the_official_files(name, counts, caplog):
    """Repeated evaluation texts are counted and logged, as GLUE itself has some."""
    folder = GLUE / OFFICIAL[name].folder
    if not folder.is_dir():
        pytest.skip(f"no official GLUE files in {GLUE}; set LORA_GLUE_DIR")
    splits = read(TASKS[name], GLUE)
    found = splits["validation"].counts
    assert (found.repeated, found.in_train) == counts
    texts = splits["validation"].texts
    assert found.repeated == len(texts) - len(set(texts))  # counted in another way
    train = set(splits["train"].texts)
    assert found.in_train == sum(row in train for row in texts)
    for one in splits.values():
        assert (one.counts.skipped_lines, one.counts.long_lines, one.counts.empty_texts) == (0,) * 3
    assert ("train too" in caplog.text) == bool(counts[1])


UNCHANGED = {  # sha256 of texts and labels as an earlier version read them
    "sst2": "8d72bdb6db20308df3754a42193d6177b8febe0171cb70d38b519e08d62e044e",
    "mrpc": "95e5f4c9398944d923f0d16589d9e4273e27fc02a8f538d51bfe2d1f41e6eb79",
    "rte": "fde3c5e89eca4c26b0987a69bacf000263b2b78ef7c0f2381a779987b112de40",
    "cola": "ade405c9d4c570817e2874657ee69bf7fe1dea47a06e6afa421ae8786336d9e5",
    "stsb": "84f0b58039763712ef96430fd94e4a8d2e35d53583102d8d5d0d38bb9c73a511",
}


@pytest.mark.parametrize("name", UNCHANGED)
def test_official_files_are_read_as_by_earlier_versions(name):
    """So digests of finished runs stay. It needs the copy of GLUE that the hashes were made of."""
    if not (GLUE / OFFICIAL[name].folder).is_dir():
        pytest.skip(f"no official GLUE files in {GLUE}; set LORA_GLUE_DIR")
    splits = read(TASKS[name], GLUE)
    if name == "mrpc" and len(splits["train"]) != 3667:
        pytest.skip("another copy of MRPC")
    digest = hashlib.sha256()
    for split in sorted(splits):
        one = splits[split]
        digest.update(json.dumps([split, one.first, one.second, one.labels]).encode())
    assert digest.hexdigest() == UNCHANGED[name]
