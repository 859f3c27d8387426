"""Rows of every kind of table, compared with pandas, and wrong tables with file and line."""

import gzip
import json

import datasets
import pandas as pd
import pytest
from helpers.own_tasks import own_task

from lora.data import table_rows

FRAME = pd.DataFrame(
    {
        "id": [1, 2, 3, 4],
        "text": ['a "quoted" word', "two\nlines, and a comma", "😀 emoji\ttab", "שלום עולם"],
        "label": ["good", "bad", "good", "very bad"],
    }
)


def read(path, **keys):
    problems: list[str] = []
    rows = list(table_rows.read(own_task(path, **keys), path, problems.append))
    return rows, problems


def written(folder, kind, frame=FRAME):
    path = folder / f"table{kind}"
    if kind.startswith((".csv", ".tsv")):
        frame.to_csv(path, index=False, sep="\t" if ".tsv" in kind else ",")
    elif kind.startswith((".jsonl", ".ndjson")):
        frame.to_json(path, orient="records", lines=True, force_ascii=False)
    else:
        frame.to_parquet(path)
    return path


@pytest.mark.parametrize(
    "kind", [".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".csv.gz", ".tsv.gz", ".jsonl.gz"]
)
def test_what_pandas_writes_is_read(tmp_path, kind):
    rows, problems = read(written(tmp_path, kind))
    assert [row.texts[0] for row in rows] == list(FRAME["text"]) and not problems
    assert [row.label for row in rows] == list(FRAME["label"])
    lines = [2, 3, 5, 6] if kind.startswith((".csv", ".tsv")) else [1, 2, 3, 4]
    assert [row.number for row in rows] == lines


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("given", [True, False])
def test_the_separator_is_that_of_the_header(tmp_path, separator, given):
    path = tmp_path / "table.csv"
    FRAME.to_csv(path, index=False, sep=separator, encoding="utf-8-sig", lineterminator="\r\n")
    keys = dict(separator=separator) if given else {}
    assert [row.texts[0] for row in read(path, **keys)[0]] == list(FRAME["text"])


def test_a_pair_in_any_order_of_columns(tmp_path):
    path = written(tmp_path, ".csv")
    rows, _ = read(path, text=["label", "text"], label="id")
    assert rows[3] == (6, ("very bad", "שלום עולם"), "4")


def test_a_text_of_a_megabyte(tmp_path):
    text = "word " * 200_000
    path = written(tmp_path, ".csv", pd.DataFrame(dict(text=[text, "b"], label=[0, 1])))
    assert read(path)[0][0].texts == (text,)


@pytest.mark.parametrize("single", [True, False])
def test_saved_data_sets_give_the_names_of_their_classes(tmp_path, single):
    classes = datasets.ClassLabel(names=["bad", "good"])
    features = datasets.Features(text=datasets.Value("string"), label=classes)
    data = datasets.Dataset.from_dict(
        dict(text=["a", "b", "c"], label=[1, 0, -1]), features=features
    )
    (data if single else datasets.DatasetDict(train=data)).save_to_disk(str(tmp_path / "saved"))
    data.to_parquet(str(tmp_path / "table.parquet"))
    expected = [(1, ("a",), "good"), (2, ("b",), "bad"), (3, ("c",), None)]
    task = own_task(tmp_path)
    assert list(table_rows.read_saved(task, tmp_path / "saved", "train")) == expected
    assert read(tmp_path / "table.parquet")[0] == expected


@pytest.mark.parametrize(
    "content, part",
    [
        ("", "table.csv is empty; expected a header"),
        ("a,b\nx,y\n", "line 1: there is no column 'text' (text of task mine)"),
        ("texts,label\nx,y\n", "(did you mean 'texts'?)"),
        ("text,Labels\nx,y\n", "there is no column 'label' (label of task mine)"),
        ("text,text,label\nx,y,z\n", "column 'text' is there more than once; rename one"),
        ('text,label\n"a\nb",x\n"open,y\n', "line 4: it is not CSV (unexpected end of data)"),
        ('text,label\n"a" b,x\n', "line 2: it is not CSV"),
        (b"text,label\na,x\n\xe9,y\n", "line 3: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        ("text,label\na,x\n".encode("utf-16"), "line 1: the file is UTF-16"),
        (b"text,label\na\0,x\n", "line 2: a NUL byte"),
    ],
)
def test_unreadable_csv(tmp_path, content, part):
    path = tmp_path / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError) as caught:
        read(path)
    assert part in str(caught.value) and "table.csv" in str(caught.value)


def test_rows_that_are_wrong_are_reported_with_their_line(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("text,label\n\na,b,c\nfine,x\nshort\n")
    rows, problems = read(path)
    assert [row.number for row in rows] == [4]
    assert [problem.split(":")[0] for problem in problems] == [
        f"{path}, line 3",
        f"{path}, line 5",
    ]
    assert "3 cells; expected 2. Put a cell in quotes that holds ','" in problems[0]
    path = tmp_path / "table.jsonl"
    path.write_text('{"text": "a", "label": 1}\n\n{"text"\n[1]\n{"label": 2}\n')
    rows, problems = read(path)
    assert rows == [(1, ("a",), 1), (5, (None,), 2)]
    assert "line 3: it is not JSON" in problems[0] and "line 4: got [1]; expected" in problems[1]


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "table.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(dict(text="a", label=1)).encode())[:-4])
    with pytest.raises(ValueError, match="it is not a whole gzip file"):
        read(path)
    path = tmp_path / "plain.csv.gz"
    path.write_text("text,label\n")
    with pytest.raises(ValueError, match="it is not a whole gzip file"):
        read(path)
    path = tmp_path / "table.parquet"
    path.write_text("text,label\n")
    with pytest.raises(ValueError, match="table.parquet: it is not a parquet file"):
        read(path)
