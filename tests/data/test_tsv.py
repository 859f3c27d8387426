r"""TSV files as other programs write them: read as the csv module reads them, or refused by line.

What belongs to the kind, each tested here or in test_glue.py:

- quoting: none (GLUE), only where necessary (pandas, csv), every cell, text cells (R), spreadsheets
  (cells with a comma), backslashes before quotes (R), a quote that never ends, quotes on their own;
- inside quoted cells: tabs, \n, \r\n, \r, doubled quotes, a label;
- line ends: \r\n, \r (old Mac), \r\r\n, \n\r, a \r inside a line, no last line end, blank lines;
- encodings: UTF-8 with and without a byte-order mark, two marks, a mark where joined files meet, in
  one file of a folder, UTF-16 and UTF-32 of both byte orders with and without a mark, Latin-1, NUL;
- columns: too few, too many, a tab at the end of each line, a repeated or quoted header;
- files: empty, a mark alone, a line end alone, a folder, two files for one split, two layouts.
"""

import csv
import dataclasses
import io

import pandas
import pytest
from helpers.glue import GLUE

from lora.data import formats, tsv
from lora.experiment import registry
from lora.files import read_csv

TASK = dataclasses.replace(registry.read_tasks()["sst2"], name="mine", eval_splits=("validation",))
TEXTS = ['He said "no".', "a\tb", '"', "", "two\r\nlines", "one\rtwo\nthree", "a, b", "\ufeff", "é"]


def read(folder, content: bytes | str, name="train.tsv"):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return tsv.read_rows(folder / name)


def cells(rows):
    return [row for _, row in rows]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
def test_a_file_with_a_quoted_header_is_read_as_it_was_written(tmp_path, quoting, mark, end):
    written = io.StringIO(newline="")
    writer = csv.writer(written, delimiter="\t", quoting=quoting, lineterminator=end)
    rows = [["sentence", "label"], *([text, number % 2] for number, text in enumerate(TEXTS))]
    writer.writerows(rows)
    got = read(tmp_path, mark + written.getvalue())
    assert cells(got) == [[text, str(label)] for text, label in rows]
    text = written.getvalue().replace("\r\n", "\n").replace("\r", "\n")
    assert [number for number, _ in got][1:5] == [2, 3, 4, 5]
    assert got[-1][0] == text.count("\n")  # cells of several lines are counted
    (tmp_path / "validation.tsv").write_bytes((tmp_path / "train.tsv").read_bytes())
    splits = formats.read(TASK, tmp_path)
    assert splits["train"].first == TEXTS == splits["validation"].first


@pytest.mark.parametrize("texts", [TEXTS[:1], [*TEXTS[:1], "plain", "", '"', '""', 'a "b']])
def test_quotes_only_where_necessary_are_read_as_pandas_wrote_them(tmp_path, texts):
    frame = pandas.DataFrame(dict(sentence=texts, label=1))
    text = frame.to_csv(sep="\t", index=False)
    assert not text.startswith('"') and '""' in text
    assert cells(read(tmp_path, text))[1:] == [[text, "1"] for text in texts]


@pytest.mark.parametrize(
    "lines",
    [
        ['"Fine.', "It's fine."],
        ['"Fine."', 'A 5" disk'],  # a whole quoted sentence of MRPC: another quote decides
        ['"Fine."', '"a" and "b"'],
        ['"He said ""no"""', 'A 5" disk'],
        ["'single'", "`` two ''"],
        ["\ufeffa", "b\ufeff"][1:],
    ],
)
def test_text_with_quotes_is_kept_as_it_is(tmp_path, lines):
    content = "".join(f"{number}\t{line}\n" for number, line in enumerate(lines))
    assert cells(read(tmp_path, content)) == [[str(n), line] for n, line in enumerate(lines)]


def test_official_files_are_read_without_quoting():
    """GLUE's files, compared with the csv module without quoting."""
    paths = sorted(GLUE.rglob("*.tsv"))
    if not paths:
        pytest.skip(f"no official GLUE files in {GLUE}; set LORA_GLUE_DIR")
    for path in paths:
        with open(path, encoding="utf-8-sig", newline="") as handle:
            rows = list(csv.reader(handle, delimiter="\t", quoting=csv.QUOTE_NONE))
        assert cells(tsv.read_rows(path)) == rows


HEAD = "sentence\tlabel\n"
REFUSED = {  # content -> the message after the file
    HEAD + 'a\t1\n"Fine."\t1\n': """line 3: the cell '"Fine."' is in quotes""",
    HEAD + '"Fine, thanks"\t1\nGood\t0\n': "line 2: the cell",
    HEAD + '""\t1\n': "line 2: the cell",
    'sentence\t"label"\na\t1\n': "line 1: the cell",
    HEAD + '"a\tb"\t1\n': "line 2: 3 columns; expected 2.*put every cell in quotes",
    HEAD + '"a\nb"\t1\n': "line 2: 1 columns; expected 2.*put every cell in quotes",
    HEAD + '"a\r\nb"\t1\r\n': "line 2: 1 columns; expected 2",
    HEAD + '"a ""b""\tc"\t1\n': "line 2: 3 columns; expected 2",
    '"sentence"\t"label"\n"a\t1\n': "line 2 is not quoted TSV.*quotes inside them twice",
    '"sentence"\t"label"\n"a \\"b\\""\t1\n': "line 2 is not quoted TSV",
    '"sentence"\t"label"\n"1"\t"a"\t1\n': "line 2: 3 columns; expected 2",
    '"sentence"\t"label"\n"a\nb"\t1\n"c"\n': "line 4: 1 columns; expected 2",
    '"sentence"\t"label"\n\ufeff"a"\t1\n': "line 2: a byte-order mark inside the file",
    "sentence\tlabel\ra\t1\r": r"line 1: a carriage return \(\\r\) that is no line end here",
    HEAD + "a\t1\rb\t0\n": "line 2: a carriage return",
    HEAD + "a\rb\t1\n": "line 2: a carriage return",
    "sentence\tlabel\r\r\na\t1\r\r\n": "line 1: a carriage return",
    "sentence\tlabel\n\ra\t1\n\r": "line 2: a carriage return",
    HEAD + "a\t1\n\ufeff" + HEAD + "b\t1\n": "line 3: a byte-order mark inside the file",
    HEAD + "a\t1\n\ufeffb\t1\n": "line 3: a byte-order mark",
    "\ufeff\ufeff" + HEAD + "a\t1\n": "line 1: a byte-order mark",
    HEAD + "a\t1\t\n": "line 2: 3 columns; expected 2",
    HEAD + "a\n": "line 2: 1 columns",
    HEAD + "a\t1\n\nb\t1\n": "line 3: 1 columns",
    HEAD + "a\t1\n \n": "line 3: 1 columns",
    "label\tlabel\tsentence\n1\t0\ta\n": "column label is in its header more than once",
    '"label"\t"label"\t"sentence"\n1\t0\ta\n': "column label is in its header more than once",
    " sentence\tlabel\na\t1\n": "no column ..sentence",
    "": "is empty",
    "\ufeff": "is empty",
    "\n": "no column",
    HEAD: "holds no example",
    "sentence,label\na,1\n": "no column .*the columns must be separated by tabs",
    '"sentence","label"\n"a","1"\n': "line 1: columns are separated by commas; expected tabs",
    HEAD + "a\tTrue\nb\tFalse\n": "line 2: label 'True'; allowed",
    HEAD + "a\t1\nb\t\n": "line 3: label ''; allowed.*the label is missing",
    HEAD + "a\t1\nb\tpositive\n": "labels are names and numbers",
    HEAD + "\t1\n \t0\n": "column sentence has only empty texts",
}
BYTES = {
    (HEAD + "é\t1\n").encode("latin-1"): "line 2: byte 0xe9 is not UTF-8",
    (HEAD + "\u2019\t1\n").encode("cp1252"): "line 2: byte 0x92 is not UTF-8",
    (HEAD + "a\0b\t1\n").encode(): "line 2: a NUL byte",
    **{
        (HEAD + "a\t1\n").encode(name): "line 1: the file is UTF-16; save it as UTF-8"
        for name in ("utf-16", "utf-32")
    },
    ("\ufeff" + HEAD + "a\t1\n").encode("utf-16-be"): "line 1: the file is UTF-16",
    **{
        (HEAD + "a\t1\n").encode(name): "line 1: a NUL byte"
        for name in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
    },
    "句子\t标签".encode("utf-16-le"): "UTF-8|NUL",
}


@pytest.mark.parametrize(
    "content, message",
    [*((text.encode(), message) for text, message in REFUSED.items()), *BYTES.items()],
)
@pytest.mark.parametrize("name", ["train", "dev", "validation"])
def test_a_file_that_can_be_misread_is_refused_by_its_line(tmp_path, content, message, name):
    """In either file of a folder: the other one is good, and begins with a byte-order mark."""
    good = "\ufeff" + HEAD + "a\t1\r\nb\t0\r\n"
    for file in ("train.tsv", "dev.tsv" if name == "train" else f"{name}.tsv"):
        (tmp_path / file).write_bytes(good.encode())
    assert formats.read(TASK, tmp_path)["train"].first == ["a", "b"]
    (tmp_path / f"{name}.tsv").write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        formats.read(TASK, tmp_path)
    assert str(error.value).startswith(str(tmp_path / f"{name}.tsv"))


def test_a_tab_at_the_end_of_every_line_is_an_empty_column(tmp_path):
    assert cells(read(tmp_path, "sentence\tlabel\t\na\t1\t\n")) == [
        ["sentence", "label", ""],
        ["a", "1", ""],
    ]


def test_validation_may_have_the_hubs_name_but_not_both(tmp_path):
    mnli = registry.read_tasks()["mnli"]
    header = "sentence1\tsentence2\tgold_label\n"
    (tmp_path / "train.tsv").write_text(header + "a\tb\tneutral\nc\td\tentailment\n")
    (tmp_path / "dev_matched.tsv").write_text(header + "c\td\tneutral\n")
    (tmp_path / "validation_mismatched.tsv").write_text(header + "e\tf\tneutral\n")
    splits = formats.read(mnli, tmp_path)
    assert [splits[name].first for name in mnli.eval_splits] == [["c"], ["e"]]
    (tmp_path / "validation_matched.tsv").write_text(header + "g\th\tneutral\n")
    with pytest.raises(ValueError, match=r"both dev_matched\.tsv and validation_matched\.tsv"):
        formats.read(mnli, tmp_path)
    own = dataclasses.replace(mnli, eval_splits=("dev_matched",))  # a split of that very name
    assert formats.read(own, tmp_path)["dev_matched"].first == ["c"]


@pytest.mark.parametrize(
    "first, second",
    [
        ("train.tsv", "mine/train.tsv"),
        ("dataset_dict.json", "train.tsv"),
        ("dataset_dict.json", "mine/train.tsv"),
    ],
)
def test_two_layouts_in_one_folder_are_refused(tmp_path, first, second):
    (tmp_path / "mine").mkdir()
    for name in (first, second):
        (tmp_path / name).write_text(HEAD + "a\t1\n")
    with pytest.raises(ValueError, match=f"has {first} and {second}; keep the data in one of them"):
        formats.read(TASK, tmp_path)


def test_files_of_the_config_are_refused_too(tmp_path):
    for content, message in [
        ("a\n1\n".encode("utf-16"), "line 1: the file is UTF-16; save it as UTF-8"),
        ("a\n1\n\ufeffa\n2\n".encode(), "line 3: a byte-order mark inside the file"),
    ]:
        (tmp_path / "table.csv").write_bytes(content)
        with pytest.raises(ValueError, match=f"table.csv, {message}"):
            read_csv(tmp_path / "table.csv", {"a": (str, "")})


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize(
    "labels", [[0, 1, 1], [0.0, 1.0, 1.0], ["negative", "Positive", " positive"], ["0 ", "1", "1"]]
)
def test_labels_that_pandas_writes_are_read(tmp_path, quoting, labels):
    frame = pandas.DataFrame(dict(sentence=['a "b"', "c", ""], label=labels))
    for name in ("train", "validation"):
        frame.to_csv(tmp_path / f"{name}.tsv", sep="\t", index=False, quoting=quoting)
    splits = formats.read(TASK, tmp_path)
    assert splits["train"].first == ['a "b"', "c", ""] and splits["train"].labels == [0, 1, 1]
    assert splits["validation"].counts.empty_texts == 1


def test_a_quoted_cell_in_a_file_without_quoting_is_a_warning(tmp_path, caplog):
    assert cells(read(tmp_path, '0\tA 5" disk\n1\t"He said ""no"""\n'))[1][1] == '"He said ""no"""'
    assert "train.tsv, line 2: the cell" in caplog.text and "as line 1 has" in caplog.text
    caplog.clear()
    read(tmp_path, '0\tA 5" disk\n1\t"Fine."\n')
    assert caplog.text == ""  # as in MRPC
    frame = pandas.DataFrame(dict(text=['He said "no".'], label=1))
    frame.to_csv(tmp_path / "a.tsv", sep="\t", quoting=csv.QUOTE_NONE, escapechar="\\")
    tsv.read_rows(tmp_path / "a.tsv")
    assert "a.tsv, line 2: the cell" in caplog.text


@pytest.mark.parametrize("other", ["test", "valid"])
def test_a_split_of_another_name_is_refused_with_the_names_there_are(tmp_path, other):
    (tmp_path / "train.tsv").write_text(HEAD + "a\t1\nb\t0\n")
    (tmp_path / f"{other}.tsv").write_text(HEAD + "a\t1\n")
    message = rf"no file .*dev\.tsv or validation\.tsv .*has .*{other}\.tsv"
    with pytest.raises(ValueError, match=message):
        formats.read(TASK, tmp_path)


def test_tables_in_other_formats_are_named(tmp_path):
    (tmp_path / "train.csv").write_text("sentence,label\na,1\n")
    with pytest.raises(ValueError, match=r"It has train\.csv; save it as one of these"):
        formats.read(TASK, tmp_path)
    (tmp_path / "train.csv").rename(tmp_path / "state.json")
    with pytest.raises(ValueError, match="It is a single saved split; save a DatasetDict"):
        formats.read(TASK, tmp_path)


def test_names_in_one_file_and_numbers_in_the_other_are_refused(tmp_path):
    (tmp_path / "train.tsv").write_text(HEAD + "a\tpositive\nb\tnegative\n")
    (tmp_path / "dev.tsv").write_text(HEAD + "a\t1\n")
    with pytest.raises(
        ValueError, match=r"train\.tsv has names of classes, .*dev\.tsv has numbers"
    ):
        formats.read(TASK, tmp_path)
