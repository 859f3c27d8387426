"""`lora prepare` with damaged data, tokenizers or manifests: exit status 2 and one message."""

import json
from pathlib import Path

import pytest
from helpers.commands import edit_json, make_manifest, prepare_arguments, write_file

from lora.__main__ import main

pytestmark = pytest.mark.usefixtures("logging_as_before")

DEV = "glue/SST-2/dev.tsv"
CONFIG = "model/config.json"
TOKENIZER = "model/tokenizer.json"
MANIFEST = "glue/fetched.json"


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def edit_after_fetch(inputs: Path) -> None:
    write_file(inputs / MANIFEST, make_manifest(inputs / "glue"))
    write_file(inputs / DEV, "sentence\tlabel\na b\t1\n")


DAMAGES = {  # damage: (function that does it to the inputs, part of the message)
    "no label column": (
        lambda inputs: write_file(inputs / DEV, "sentence\tlable\na\t1\n"),
        "no column ['label']; it has: ['sentence', 'lable']",
    ),
    "duplicate column": (
        lambda inputs: write_file(inputs / DEV, "sentence\tlabel\tlabel\na\t1\t0\n"),
        "label is in its header more than",
    ),
    "header only": (
        lambda inputs: write_file(inputs / DEV, "sentence\tlabel\n"),
        "holds no example",
    ),
    "line of 1 MB without a label": (
        lambda inputs: write_file(inputs / DEV, "sentence\tlabel\n" + "x" * 10**6 + "\n"),
        "line 2: 1 ",
    ),
    "label of 1 MB": (
        lambda inputs: write_file(inputs / DEV, "sentence\tlabel\na\t" + "1" * 10**6 + "\n"),
        "line 2: label '111",
    ),
    "header of 1 MB": (
        lambda inputs: write_file(inputs / DEV, "x" * 10**6),
        "no column ['sentence', 'label']",
    ),
    "carriage returns as line ends": (
        lambda inputs: write_file(inputs / DEV, "sentence\tlabel\ra\t1\r"),
        "line 1: a carriage return (\\r) that is no line end here; save",
    ),
    "full-width digit as label": (
        lambda inputs: write_file(inputs / DEV, "sentence\tlabel\na\t１\n"),
        "label '１'; allowed: negative, positive, or the whole",
    ),
    "underscore in a label": (
        lambda inputs: write_file(inputs / DEV, "sentence\tlabel\na\t0_1\n"),
        "label '0_1'; allowed: negative, positive, or the whole numbers",
    ),
    "folder instead of a file": (lambda inputs: replace_by_folder(inputs / DEV), "is a folder"),
    "no tokenizer.json": (
        lambda inputs: (inputs / TOKENIZER).unlink(),
        "has no tokenizer.json",
    ),
    "truncated tokenizer.json": (
        lambda inputs: write_file(inputs / TOKENIZER, '{"version": "1.0", "mo'),
        "is not a tokenizer",
    ),
    "tokenizer.json without keys": (
        lambda inputs: write_file(inputs / TOKENIZER, "{}"),
        "is not a tokenizer",
    ),
    "tokenizer without special tokens": (
        lambda inputs: edit_json(inputs / TOKENIZER, post_processor=None),
        "adds no special tokens around a sentence",
    ),
    "no config.json": (lambda inputs: (inputs / CONFIG).unlink(), "no config.json"),
    "config.json is HTML": (
        lambda inputs: write_file(inputs / CONFIG, "<html>"),
        "config.json is not JSON",
    ),
    "config.json is a list": (
        lambda inputs: write_file(inputs / CONFIG, "[]"),
        "config.json is not a JSON object",
    ),
    "model family not supported": (
        lambda inputs: edit_json(inputs / CONFIG, model_type="gpt2"),
        "model family is 'gpt2'; allowed: bert",
    ),
    "max_position_embeddings is a string": (
        lambda inputs: edit_json(inputs / CONFIG, max_position_embeddings="many"),
        "max_position_embeddings is 'many'; allowed: a whole number",
    ),
    "vocab_size is null": (
        lambda inputs: edit_json(inputs / CONFIG, vocab_size=None),
        "vocab_size is None; allowed: a whole number",
    ),
    "fetched.json is truncated": (
        lambda inputs: write_file(inputs / MANIFEST, "{"),
        "fetched.json is not JSON",
    ),
    "fetched.json is a list": (
        lambda inputs: write_file(inputs / MANIFEST, "[]"),
        "fetched.json is not a JSON object",
    ),
    "fetched.json without keys": (
        lambda inputs: write_file(inputs / MANIFEST, "{}"),
        "does not have name, files",
    ),
    "fetched.json without the identity of the source": (
        lambda inputs: write_file(inputs / MANIFEST, make_manifest(inputs / "glue", identity=None)),
        "does not have identity",
    ),
    "file edited after the fetch": (edit_after_fetch, "1 of its files in"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_data_or_tokenizer_is_refused(refused, inputs, name):
    damage, message = DAMAGES[name]
    damage(inputs)
    assert message in refused(*prepare_arguments(inputs, inputs / "out"), names=[inputs])
    assert not (inputs / "out").exists()


def test_output_folder_that_is_a_file_is_refused(refused, inputs, capsys):
    """The same for a log file that is a folder."""
    file = inputs / "file"
    file.write_text("")
    assert "is a file; give a folder" in refused(*prepare_arguments(inputs, file), names=[file])
    assert main([*prepare_arguments(inputs, inputs / "new"), "--log", str(inputs)]) == 2
    assert "--log cannot be written" in capsys.readouterr().err


def test_sentence_of_1_mb_is_truncated(inputs, tmp_path):
    write_file(inputs / DEV, "sentence\tlabel\n" + "word1 " * 170_000 + "\t1\n")
    assert main(prepare_arguments(inputs, tmp_path / "out")) == 0
    facts = json.loads((tmp_path / "out/tokens.json").read_text())
    found = facts["splits"]["validation"]
    assert (found["examples"], found["tokens"], found["truncated"]) == (1, 20, 1)


def test_unchanged_fetched_data_are_accepted(inputs, tmp_path):
    """tokens.json records the identity of their source."""
    write_file(inputs / MANIFEST, make_manifest(inputs / "glue"))
    assert main(prepare_arguments(inputs, tmp_path / "out")) == 0
    assert json.loads((tmp_path / "out/tokens.json").read_text())["source"] == "file glue"
