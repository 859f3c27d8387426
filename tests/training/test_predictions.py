"""Predictions of texts: those of transformers' pipeline on the merged model."""

import dataclasses

import numpy as np
import pytest
from helpers.commands import prepare_arguments, train_arguments
from transformers import pipeline

from lora.__main__ import main
from lora.adapters import merge
from lora.data.texts import Texts
from lora.training import predictions, trained_run

SENTENCES = ["word0 word1 word2", "word5", "word3 word0 word9 word9", "", "unknown text"]


@pytest.fixture(scope="module")
def run_dir(valid_inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "out"
    assert main(train_arguments(valid_inputs, folder, "--precision", "fp32")) == 0
    return folder


@pytest.fixture(scope="module")
def run(run_dir, valid_inputs):
    return trained_run.load(run_dir, valid_inputs / "model")


def test_labels_and_probabilities_are_those_of_the_merged_model(
    run, run_dir, valid_inputs, tmp_path
):
    merge.merge(run_dir / "adapter", valid_inputs / "model", tmp_path / "merged")
    expected = pipeline("text-classification", str(tmp_path / "merged"), device="cpu")(SENTENCES)
    got = predictions.predict(run, Texts(list("abcde"), SENTENCES))
    assert predictions.columns(run) == ("id", "label", "probability")
    assert [row["id"] for row in got] == list("abcde")
    assert [row["label"] for row in got] == [one["label"] for one in expected]
    probabilities = [row["probability"] for row in got]
    np.testing.assert_allclose(probabilities, [one["score"] for one in expected], rtol=1e-5)


def test_a_class_without_a_name_is_its_number(run):
    nameless = dataclasses.replace(run, label_names=())
    texts = Texts(list("abcde"), SENTENCES)
    names = [row["label"] for row in predictions.predict(run, texts)]
    numbers = [row["label"] for row in predictions.predict(nameless, texts)]
    assert numbers == [str(run.label_names.index(name)) for name in names]


def test_a_prediction_does_not_depend_on_the_other_texts(run):
    together = predictions.predict(run, Texts(list("abcde"), SENTENCES))
    alone = [
        predictions.predict(run, Texts([name], [text]))[0]
        for name, text in zip("abcde", SENTENCES, strict=True)
    ]
    for one, other in zip(together, alone, strict=True):
        assert one["label"] == other["label"]
        assert one["probability"] == pytest.approx(other["probability"], rel=1e-5)


def test_regression_gives_values_of_pairs(valid_inputs, tmp_path):
    tokens = tmp_path / "tokens"
    stsb = ("--task", "stsb")
    assert main([*prepare_arguments(valid_inputs, tokens), *stsb]) == 0
    given = (*stsb, "--start", "pretrained", "--tokens-dir", tokens)
    assert main(train_arguments(valid_inputs, tmp_path / "out", *given)) == 0
    run = trained_run.load(tmp_path / "out", valid_inputs / "model")
    got = predictions.predict(run, Texts(["1", "2"], SENTENCES[:2], SENTENCES[1:3]))
    assert predictions.columns(run) == ("id", "value") and set(got[0]) == {"id", "value"}
    assert got[0]["value"] != got[1]["value"]
