"""`lora predict` and `lora evaluate`: from a run's folder to a CSV and to metrics."""

import csv
import io
import json
import shutil

import pytest
from helpers.commands import prepare_arguments, train_arguments
from helpers.models import make_glue, make_model, make_tokenizer

from lora import files, run_record
from lora.__main__ import main
from lora.columns import METRICS_COLUMNS


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder with model/, glue/, tokens/ and a finished run of SST-2, out/."""
    folder = tmp_path_factory.mktemp("inputs")
    make_tokenizer(make_model("bert", folder / "model"))
    make_glue(folder / "glue")
    assert main(prepare_arguments(folder, folder / "tokens")) == 0
    assert main(train_arguments(folder, folder / "out")) == 0
    return folder


def predict(inputs, *arguments):
    words = ["predict", "--run", inputs / "out", "--model-dir", inputs / "model", *arguments]
    return main([*map(str, words), "--device", "cpu"])


def evaluate(inputs, *arguments, run="out"):
    words = ["evaluate", "--run", inputs / run, "--model-dir", inputs / "model", *arguments]
    return main([*map(str, words), "--device", "cpu", "--json"])


@pytest.mark.parametrize("given", [[], ["--text", "sentence"], ["--id", "sentence"]])
def test_predictions_are_a_csv(given, inputs, tmp_path, capsys):
    texts = tmp_path / "texts.csv"
    texts.write_text('id,sentence\nx,word0 word1\ny,"word2, word3"\n')
    assert predict(inputs, "--input", texts, *given) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    ids = ["word0 word1", "word2, word3"] if "--id" in given else ["x", "y"]
    assert [row["id"] for row in rows] == ids
    assert {row["label"] for row in rows} <= {"negative", "positive"}
    assert all(0.5 <= float(row["probability"]) <= 1 for row in rows)
    assert predict(inputs, "--input", texts, *given, "--output-file", tmp_path / "p.csv") == 0
    written = io.StringIO((tmp_path / "p.csv").read_text())
    assert list(csv.DictReader(written)) == rows


def test_metrics_are_those_of_training(inputs, capsys):
    """With the run's own task and tokens by default: prepared from its data again, or given."""
    rows = files.read_csv(inputs / "out/metrics.csv", METRICS_COLUMNS)
    record = run_record.read(inputs / "out/run.json", "")
    expected = rows[record.best.epoch - 1]
    capsys.readouterr()
    found = []
    for given in (["--tokens-dir", inputs / "tokens"], ["--data-dir", inputs / "glue"]):
        assert evaluate(inputs, *given, "--cache-dir", inputs / "cache") == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1] and set(found[0]) == {"validation"}
    values = found[0]["validation"]
    assert values.pop("examples") == 24 and len(values) == 6
    assert values == {name: expected[name] for name in values}


def test_metrics_in_words(inputs, capsys):
    words = ["evaluate", "--run", inputs / "out", "--model-dir", inputs / "model"]
    assert main([*map(str, words), "--tokens-dir", str(inputs / "tokens")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("SST-2, validation: 24 examples\n  eval_loss ") and "  f1 " in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text", "a", "b", "c"], "--text is a b c; allowed: one column, or two"),
        (["--text", "missing"], "no column"),
        (["--output-file", "."], "--output-file is ., which is not a file"),
        (["--run", "nothing"], "nothing"),
        (["--model-dir", "nothing"], "nothing"),
    ],
)
def test_mistakes_of_predict_get_one_message(arguments, message, inputs, tmp_path, capsys):
    texts = tmp_path / "texts.csv"
    texts.write_text("sentence\nword1\n")
    assert predict(inputs, "--input", texts, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_the_input_is_not_overwritten(inputs, tmp_path, capsys):
    texts = tmp_path / "texts.csv"
    texts.write_text("sentence\nword1\n")
    assert predict(inputs, "--input", texts, "--output-file", tmp_path / "./texts.csv") == 2
    assert "is the input file" in capsys.readouterr().err
    assert texts.read_text() == "sentence\nword1\n"


def test_columns_of_an_unknown_task_must_be_given(inputs, tmp_path, capsys):
    run = shutil.copytree(inputs / "out", tmp_path / "out")
    record = json.loads((run / "run.json").read_text())
    record["settings"]["task"] = "mine"
    del record["checksum"]
    (run / "run.json").write_text(json.dumps(record))
    texts = tmp_path / "texts.csv"
    texts.write_text("words\nword1\n")
    words = ["--run", run, "--input", texts]
    assert predict(inputs, *words) == 2 and "give them with --text" in capsys.readouterr().err
    assert predict(inputs, *words, "--text", "words") == 0


def test_tokens_of_another_task_are_refused(inputs, tmp_path, capsys):
    assert main([*prepare_arguments(inputs, tmp_path / "tokens"), "--task", "stsb"]) == 0
    assert evaluate(inputs, "--tokens-dir", tmp_path / "tokens") == 2
    assert "task: got stsb, expected sst2" in capsys.readouterr().err
    assert evaluate(inputs, "--task", "stsb", "--tokens-dir", tmp_path / "tokens") == 2
    assert "predicts negative, positive, and task stsb has scores" in capsys.readouterr().err
