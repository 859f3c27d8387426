"""Commands with bad options, or with paths that can't be used: exit status 2 and one message."""

import json
import pickle

import pytest
import torch
from helpers.commands import edit_json, train_arguments, write_file
from safetensors.torch import save_file

from lora.__main__ import main

pytestmark = pytest.mark.usefixtures("logging_as_before")


@pytest.mark.parametrize(
    "options, message",
    [
        (("--seed", -1), "seed is -1; allowed: a whole number of at least 0, below 2^32"),
        (("--seed", 2**32), "seed is 4294967296; allowed"),
        (("--seeds", 3, 1, 3), "--seeds is 3 1 3; allowed: each seed only once"),
        (("--seed", 0, "--micro-batch", -1), "--micro-batch is -1; allowed: at least 0"),
        (
            ("--seed", 0, "--checkpoint-every-s", "nan"),
            "--checkpoint-every-s is nan; allowed: a number above 0",
        ),
        (("--seed", 0, "--checkpoint-every-s", -5), "--checkpoint-every-s is -5.0; allowed"),
        (("--seed", 0, "--alpha", "0r"), "alpha is 0.0; allowed: a number above 0"),
        (("--seed", 0, "--model", "../x"), "model is '../x'; allowed: letters, digits"),
        (
            ("--seed", 0, "--start", "no/such/folder"),
            "--start is no/such/folder; allowed: a folder with adapter_config.json",
        ),
        (("--cells", "[" * 100_000, "--seeds", 0), "nested too deeply"),
    ],
)
def test_invalid_options_of_train_are_refused(refused, valid_inputs, tmp_path, options, message):
    output_dir = tmp_path / "out"
    arguments = train_arguments(valid_inputs, output_dir, *options)
    if "--cells" in options:
        folders = ("--model-dir", valid_inputs / "model", "--output-dir", output_dir)
        arguments = ["train", *options, *folders]
    assert message in refused(*arguments)
    assert not (output_dir / "metrics.csv").exists()


def test_rank_above_the_width_of_the_model_is_refused(refused, valid_inputs, tmp_path):
    message = refused(*train_arguments(valid_inputs, tmp_path / "out", "--seed", 0, rank=33))
    assert "rank is 33; at most the model's width, 32" in message


def test_fetch_refuses_unknown_sources(refused, tmp_path):
    """Also a source in a folder that does not exist, and a name that is a path."""
    assert "no source 'rte' in config/sources.csv; allowed: roberta-base" in refused(
        "fetch", "rte", "--output-dir", tmp_path
    )
    missing = tmp_path / "no"
    options = (
        *("--role", "data"),
        *("--kind", "file"),
        *("--locator", missing),
        *("--output-dir", tmp_path / "out"),
    )
    assert "there is no folder" in refused("fetch", "own", *options, names=[missing])
    assert "name is '../own'; allowed" in refused("fetch", "../own", *options)


def test_merge_refuses_a_folder_without_a_peft_adapter(refused, inputs, tmp_path):
    """The model folder is valid; the adapter folder gets one file after the other."""
    config = inputs / "adapter_config.json"
    arguments = [
        "merge",
        *("--adapter-dir", inputs),
        *("--model-dir", inputs / "model"),
        *("--output-dir", tmp_path / "out"),
    ]
    assert "It has no adapter, only glue, model, tokens" in refused(*arguments, names=[inputs])
    write_file(config, "{}")
    assert "There is no adapter_model.safetensors in it" in refused(*arguments, names=[inputs])
    save_file({"a": torch.ones(1)}, inputs / "adapter_model.safetensors")
    assert "peft_type is None; allowed: peft_type 'LORA'" in refused(*arguments, names=[inputs])
    settings = dict(peft_type="LORA", task_type="SEQ_CLS", r=2, lora_alpha=10**400, lora_dropout=0)
    write_file(config, json.dumps(settings))
    assert "lora_alpha is 1000" in refused(*arguments, names=[inputs])
    edit_json(config, lora_alpha=4)
    (inputs / "adapter_model.safetensors").unlink()
    write_file(inputs / "adapter_model.bin", pickle.dumps({"a": 1}))
    assert "pickled files are not loaded" in refused(*arguments, names=[inputs])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "the header is ''; expected 'model,"),
        (b"model,task\n", "the header is 'model,task'; expected"),
        (b"\xff", "line 1: byte 0xff is not UTF-8"),
        (b'"', "line 1 is not CSV"),
        (b"x" * 10**6, "line 1 is not CSV (field larger"),
        (b"a," * 10**5, "the header is 'a,a"),
    ],
)
def test_table_refuses_a_file_that_is_not_runs_csv(refused, tmp_path, content, message):
    config, runs = tmp_path / "mine.yaml", tmp_path / "runs.csv"
    config.write_text("seeds: [1]\n")
    write_file(runs, content)
    arguments = ("--config", config, "--runs", runs, "--output-dir", tmp_path)
    assert message in refused("table", "table2", *arguments, names=[runs])


@pytest.mark.parametrize("folder", ["output", "state"])
def test_folder_that_cannot_be_made_is_reported_with_advice(valid_inputs, tmp_path, capfd, folder):
    """A file is where a parent folder must be.

    The message has the path and what to do; of a state folder also the operating system's error.
    """
    file = tmp_path / "file"
    file.write_text("")
    folders = dict(output=tmp_path / "output", state=tmp_path / "state")
    folders[folder] = file / "folder"
    options = (
        *("--seed", 0),
        *("--alpha", 2),
        *("--precision", "fp32"),
        *("--state-dir", folders["state"]),
    )
    assert main(train_arguments(valid_inputs, folders["output"], *options)) == 2
    errors = capfd.readouterr().err
    expected = ["is a file, give a folder"]
    if folder == "state":
        expected = ["Not a directory", "Nothing was lost. ", "run the same command again"]
    assert all(text in errors for text in (str(file), *expected)), errors
    assert "Errno" not in errors and "Traceback" not in errors
