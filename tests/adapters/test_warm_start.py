"""Warm start: the best of several runs, or a PEFT folder; what does not fit is refused."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from helpers.methods import WEIGHTS
from helpers.training import adapter_of, make_spec, train
from safetensors.torch import load_file

from lora import files
from lora.errors import ConfigError
from lora.experiment.run_spec import RunSpec


@pytest.fixture(scope="module")
def other_tokens(tokens_dir, tmp_path_factory) -> Path:
    """Return the same tokens as another task's, with three classes."""
    folder = tmp_path_factory.mktemp("other") / "tokens"
    shutil.copytree(tokens_dir, folder)
    facts = json.loads((folder / "tokens.json").read_text())
    files.write_json(folder / "tokens.json", facts | dict(task="other", num_labels=3))
    return folder


def other_task(one: RunSpec, tokens: Path) -> RunSpec:
    task = dataclasses.replace(one.task, name="other", num_labels=3)
    return dataclasses.replace(one, task=task, tokens_dir=tokens)


@pytest.mark.parametrize("method", ["lora", "adapter_pfeiffer", "ft"])
def test_run_starts_from_the_best_run_of_another_task(
    bert_dir, tokens_dir, other_tokens, tmp_path, method
):
    """Pairs and dense layer come from the run with the best metric, the output layer does not.

    What it started from is recorded and is part of the digest.
    """
    rank = 0 if method == "ft" else 4
    first = [
        other_task(
            make_spec(tmp_path / "mnli", seed, WEIGHTS[method], rank, method, epochs=1),
            other_tokens,
        )
        for seed in (0, 1, 2)
    ]
    train(first, bert_dir, tokens_dir, tmp_path / "state")
    for one, value in zip(first, (0.7, 0.9, 0.9), strict=True):
        record = json.loads((one.output_dir / "run.json").read_text())
        changed = record | dict(best=record["best"] | dict(value=value))
        files.write_json(one.output_dir / "run.json", files.with_checksum(changed))
    folders = tuple(one.output_dir for one in first)
    follower = make_spec(
        tmp_path,
        5,
        WEIGHTS[method],
        rank,
        method,
        start="other",
        epochs=1,
        learning_rate=1e-30,
        weight_decay=0,
    )
    follower = dataclasses.replace(follower, start_dirs=folders)
    train([follower], bert_dir, tokens_dir, tmp_path / "state")
    began, came = (
        load_file(folder / "adapter/adapter_model.safetensors")
        for folder in (folders[1], follower.output_dir)
    )
    out = "head.out." if method != "lora" else "base_model.model.classifier."
    for name, value in came.items():
        if name.startswith(out):
            assert value.shape != began[name].shape
        else:
            assert (value - began[name]).abs().max() < 1e-20, name
    record = json.loads((follower.output_dir / "run.json").read_text())
    assert record["start"]["source"] == f"course/tiny/toy/{method}/{WEIGHTS[method]}/r{rank}/seed1"
    plain = make_spec(
        tmp_path / "plain",
        5,
        WEIGHTS[method],
        rank,
        method,
        epochs=1,
        learning_rate=1e-30,
        weight_decay=0,
    )
    train([plain], bert_dir, tokens_dir, tmp_path / "state")
    plain_record = json.loads((plain.output_dir / "run.json").read_text())
    assert plain_record["start"] is None and plain_record["digest"] != record["digest"]


def test_adapter_that_does_not_fit_is_refused(bert_dir, tokens_dir, other_tokens, tmp_path):
    narrow = other_task(make_spec(tmp_path / "mnli", 0, "q", 2, epochs=1), other_tokens)
    train([narrow], bert_dir, tokens_dir, tmp_path / "state")
    follower = dataclasses.replace(
        make_spec(tmp_path, 0, "qv", 4, start="other"), start_dirs=(narrow.output_dir,)
    )
    with pytest.raises(
        ConfigError,
        match=r"(?s)cannot start from .*weights: got q, expected qv; set weights: \[q\] in"
        r".*alpha/r: got 6/2, expected 6/4; set overrides: \{alpha: 12\} in the config",
    ):
        train([follower], bert_dir, tokens_dir, tmp_path / "state")
    record = json.loads((narrow.output_dir / "run.json").read_text())
    changed = record | dict(best=dict(epoch=0, metric="accuracy", value=None))
    files.write_json(narrow.output_dir / "run.json", files.with_checksum(changed))
    with pytest.raises(ValueError, match="none has a finite metric"):
        train([follower], bert_dir, tokens_dir, tmp_path / "state")
    with pytest.raises(ValueError, match="There is no such folder; the last part of"):
        train(
            [make_spec(tmp_path, 0, start=str(tmp_path / "nowhere"))],
            bert_dir,
            tokens_dir,
            tmp_path / "state",
        )


def test_run_starts_from_a_peft_folder(bert_dir, tokens_dir, tmp_path):
    """The adapter of a run is a PEFT folder; with as many classes the output layer is loaded too.

    Its path is not part of the digest.
    """
    first = make_spec(tmp_path / "first", 0, epochs=1)
    train([first], bert_dir, tokens_dir, tmp_path / "state")
    folder = first.output_dir / "adapter"
    second = make_spec(
        tmp_path / "second", 1, start=str(folder), epochs=1, learning_rate=1e-30, weight_decay=0
    )
    train([second], bert_dir, tokens_dir, tmp_path / "state")
    assert adapter_of(first) == adapter_of(second)
    moved = Path(str(folder).replace("first", "moved"))
    moved.parent.mkdir(parents=True)
    folder.rename(moved)
    again = make_spec(
        tmp_path / "again", 1, start=str(moved), epochs=1, learning_rate=1e-30, weight_decay=0
    )
    train([again], bert_dir, tokens_dir, tmp_path / "state")
    digests = [
        json.loads((one.output_dir / "run.json").read_text())["digest"] for one in (second, again)
    ]
    assert digests[0] == digests[1]
