"""Names of an adapter's classes: where they are read, and which rows a warm start takes.

The kind: as many classes with the same names in order, in another order, with other names, names
unknown on one side or both, another number of classes, and regression.
"""

import dataclasses
import json
import logging

import pytest
import torch
from helpers.training import make_spec, train
from safetensors.torch import load_file

from lora import files
from lora.adapters import label_names
from lora.errors import ConfigError

FROZEN = dict(epochs=1, learning_rate=1e-30, weight_decay=0)


def named(spec, *names):
    return dataclasses.replace(spec, task=dataclasses.replace(spec.task, label_names=names))


def folder_with(path, labels=None, record=None):
    (path / "adapter").mkdir(parents=True)
    if labels is not None:
        files.write_json(path / "adapter/labels.json", dict(label_names=labels))
    if record is not None:
        files.write_json(path / "run.json", dict(data=dict(label_names=record)))
    return path / "adapter"


@pytest.mark.parametrize(
    "labels, record, expected",
    [
        (["a", "b"], ["c", "d"], ("a", "b")),
        (None, ["c", "d"], ("c", "d")),
        ([], ["c", "d"], ("c", "d")),
        ([], [], ()),
        (None, None, ()),
    ],
)
def test_names_are_those_of_the_folder_then_of_the_run(tmp_path, labels, record, expected):
    assert label_names.read(folder_with(tmp_path, labels, record)) == expected


@pytest.mark.parametrize(
    "labels", ["a b", ["a", "a"], ["a", ""], ["a", 1], {"0": "a"}, ["only"], ["a", "b\n"]]
)
def test_names_that_classes_cannot_have_are_refused(tmp_path, labels):
    with pytest.raises(ConfigError, match=r"(?s)labels\.json.*label_names"):
        label_names.read(folder_with(tmp_path, labels))


@pytest.mark.parametrize(
    "theirs, ours, rows",
    [
        ("ab", "ab", None),
        ("ab", "ba", (1, 0)),
        ("abc", "cab", (2, 0, 1)),
        ("ab", "ac", ()),
        ("ab", "xy", ()),
        ("", "ab", None),
        ("ab", "", None),
        ("", "", None),
        ("abc", "ab", None),
    ],
)
def test_rows_follow_the_names(theirs, ours, rows):
    assert label_names.output_rows(tuple(theirs), tuple(ours)) == rows


def classifier(spec):
    tensors = load_file(spec.output_dir / "adapter/adapter_model.safetensors")
    out = {key: value for key, value in tensors.items() if ".classifier." in key}
    (weight,) = (value for key, value in out.items() if key.endswith("weight"))
    (bias,) = (value for key, value in out.items() if key.endswith("bias"))
    return torch.cat([weight, bias[:, None]], 1)


def digest(spec):
    return json.loads((spec.output_dir / "run.json").read_text())["digest"]


@pytest.fixture(scope="module")
def first(bert_dir, tokens_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    spec = named(make_spec(folder, 0, epochs=1, learning_rate=0.1), "no", "yes")
    train([spec], bert_dir, tokens_dir, folder / "state")
    return spec


@pytest.mark.parametrize(
    "names, same, warned",
    [
        (("no", "yes"), [0, 1], False),
        (("yes", "no"), [1, 0], False),
        (("no", "maybe"), None, False),
        ((), [0, 1], True),
    ],
)
def test_a_warm_start_copies_the_rows_of_the_same_names(
    first, bert_dir, tokens_dir, tmp_path, caplog, names, same, warned
):
    """Rows in another order, or fresh ones, are other numbers: the digest is another one too."""
    caplog.set_level(logging.INFO)
    changes = FROZEN | dict(start=str(first.output_dir / "adapter"))
    spec = named(make_spec(tmp_path, 1, **changes), *names)
    train([spec], bert_dir, tokens_dir, tmp_path / "state")
    theirs, found = classifier(first), classifier(spec)
    if same is None:
        plain = make_spec(tmp_path / "plain", 1, **FROZEN)
        train([plain], bert_dir, tokens_dir, tmp_path / "state")
        assert (found - classifier(plain)).abs().max() < 1e-20 < 1e-3 < (found - theirs).abs().max()
        assert "the output layer starts fresh, because the classes differ: no, yes in" in (
            caplog.text
        )
    else:
        assert (found - theirs[same]).abs().max() < 1e-20
    assert ("task toy has no names of classes" in caplog.text) == warned
    plainly = named(make_spec(tmp_path / "other", 1, **changes), "no", "yes")
    train([plainly], bert_dir, tokens_dir, tmp_path / "state")
    assert (digest(spec) == digest(plainly)) == (same == [0, 1])


def test_a_start_without_names_keeps_index_and_digest_and_says_how_to_name_its_classes(
    first, bert_dir, tokens_dir, tmp_path, caplog
):
    """A folder of peft, and runs of earlier versions: with and without names of the run."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).write_bytes((first.output_dir / "adapter" / name).read_bytes())
    digests = set()
    for names in ((), ("yes", "no")):
        spec = make_spec(tmp_path / f"with{len(names)}", 1, start=str(folder), **FROZEN)
        train([named(spec, *names)], bert_dir, tokens_dir, tmp_path / f"state{len(names)}")
        assert (classifier(spec) - classifier(first)).abs().max() < 1e-20
        digests.add(digest(spec))
    assert len(digests) == 1
    assert f'write {folder}/labels.json: {{"label_names": ["...", "..."]}}' in caplog.text


def test_label_names_of_a_run_do_not_change_its_digest_rows_or_adapter(
    first, bert_dir, tokens_dir, tmp_path
):
    spec = make_spec(tmp_path, 0, epochs=1, learning_rate=0.1)
    train([spec], bert_dir, tokens_dir, tmp_path / "state")
    assert digest(spec) == digest(first)
    for name in ("metrics.csv", "adapter/adapter_model.safetensors"):
        assert (spec.output_dir / name).read_bytes() == (first.output_dir / name).read_bytes()
    data = json.loads((first.output_dir / "run.json").read_text())["data"]
    assert data["label_names"] == ["no", "yes"]
