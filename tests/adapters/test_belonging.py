"""A start or a merge that does not belong together is refused before anything is loaded.

The table: method x method, weights, rank, scale, layers, width, family and base model, with
adapters that peft saved and adapters of our own runs, over `lora train --start`, a job, and
`lora merge`.
"""

import dataclasses
import json
import logging
import re
import shutil
from pathlib import Path

import pytest
from helpers.encoders import saved_adapter
from helpers.methods import WEIGHTS
from helpers.models import make_model
from helpers.training import make_spec, train
from safetensors.torch import save_file

from lora import files
from lora.__main__ import main
from lora.adapters import belonging, merge
from lora.adapters.adapter_folder import CONFIG
from lora.errors import ConfigError
from lora.experiment.cell import BASE_METHODS
from lora.model import pretrained

RUN = "train --seed 0 --task sst2 --weights qv --rank 4 --alpha 6"

pytestmark = pytest.mark.usefixtures("logging_as_before")
KEYS = dict(
    weights="weights: [{}]",
    rank="ranks: [{}]",
    alpha="overrides: {{alpha: {}}}",
    method="method: {}",
)
METHODS = [method for method in WEIGHTS if method != "adapter_drop"]


def rank_of(method):
    return 0 if method in BASE_METHODS else 4


@pytest.fixture(scope="module")
def runs(bert_dir, tokens_dir, tmp_path_factory):
    """A finished run of each method."""
    folder = tmp_path_factory.mktemp("runs")
    specs = {
        method: make_spec(folder, 0, WEIGHTS[method], rank_of(method), method, epochs=1)
        for method in METHODS
    }
    for spec in specs.values():
        train([spec], bert_dir, tokens_dir, folder / "state")
    return specs


@pytest.fixture
def unloaded(monkeypatch):
    """Loading the base model fails: what is refused is refused before it."""

    def load_base(*_):
        raise AssertionError("the base model was loaded")

    monkeypatch.setattr(pretrained, "load_base", load_base)


def follower(folder, start, method="lora", **changes):
    weights, rank = changes.pop("weights", WEIGHTS[method]), changes.pop("rank", rank_of(method))
    return make_spec(
        folder / "out", 1, weights, rank, method, start=str(start), epochs=1, **changes
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("other", METHODS)
def test_a_run_starts_from_an_adapter_of_its_own_method_alone(
    runs, bert_dir, tokens_dir, tmp_path, method, other, monkeypatch
):
    spec = follower(tmp_path, runs[other].output_dir / "adapter", method)
    if method == other:
        train([spec], bert_dir, tokens_dir, tmp_path / "state")
        assert (spec.output_dir / "metrics.csv").is_file()
        return
    monkeypatch.setattr(pretrained, "load_base", None)
    with pytest.raises(
        ConfigError, match=f"method: got {other}, expected {method}; set method: {other}"
    ):
        train([spec], bert_dir, tokens_dir, tmp_path / "state")
    assert not spec.output_dir.exists()


@pytest.mark.parametrize(
    "method, changes, message",
    [
        ("adapter_houlsby", dict(rank=2), "rank: got 4, expected 2; {rank 4}, or give an adapter"),
        ("adapter_pfeiffer", dict(rank=8), "rank: got 4, expected 8; {rank 4}, or give an adapter"),
        ("lora", dict(rank=2), "rank: got 4, expected at most 2; {rank 4}, or give an adapter"),
        ("lora", dict(weights="q"), "weights: got qv, expected q; {weights qv}, or give an adap"),
        ("lora", dict(alpha=9), "alpha/r: got 6/4, expected 9/4; {alpha 6}, because another scale"),
    ],
)
def test_weights_rank_and_scale_must_fit(
    runs, bert_dir, tokens_dir, tmp_path, unloaded, method, changes, message
):
    """The message says what to type: options of `lora train`, or keys of the config of a job."""
    start = runs[method].output_dir
    spec = follower(tmp_path, start, method, **changes)
    as_typed = {
        belonging.OPTION: lambda key, value: f"give --{key} {value}",
        belonging.CONFIG_KEY: lambda key, value: f"set {KEYS[key]} in the config".format(value),
    }
    for given_by, typed in as_typed.items():
        with pytest.raises(ConfigError) as caught:
            belonging.check_start_folders([(spec.cell, spec.hparams)], bert_dir, given_by=given_by)
        ((advice, key, value),) = re.findall(r"({(\w+) (\w+)})", message)
        text = message.replace(advice, typed(key, value))
        assert text in str(caught.value)
        assert caught.value.title == f"{given_by} is {start}, which does not fit:"
    with pytest.raises(ConfigError) as caught:
        train([spec], bert_dir, tokens_dir, tmp_path / "state")
    assert text in str(caught.value) and "--" not in str(caught.value)
    assert not spec.output_dir.exists()


@pytest.mark.parametrize(
    "other, option, key",
    [
        ("lora", "--method lora", "method: lora"),
        ("ft", "--method ft --weights all --rank 0", "method: ft, weights: [all]"),
        (
            "adapter_houlsby",
            "--method adapter_houlsby --weights both --rank 4",
            "method: adapter_houlsby, weights: [both], ranks: [4]",
        ),
    ],
)
def test_advice_on_the_method(runs, bert_dir, tmp_path, other, option, key):
    method = "bitfit" if other == "lora" else "lora"
    spec = follower(tmp_path, runs[other].output_dir, method)
    for given_by, advice in (
        (belonging.OPTION, f"give {option}"),
        (belonging.CONFIG_KEY, f"set {key} in the config"),
    ):
        with pytest.raises(ConfigError) as caught:
            belonging.check_start_folders([(spec.cell, spec.hparams)], bert_dir, given_by=given_by)
        expected = f"method: got {other}, expected {method}; {advice}, or give an adapter of"
        assert caught.value.problems[0].startswith(expected)


OTHER_BASES = {  # kind: (family, changes of the base model, part of the message)
    "fewer layers": ("bert", dict(num_hidden_layers=1), "layers"),
    "more layers": ("bert", dict(num_hidden_layers=3), "layers"),
    "wider": ("bert", dict(hidden_size=48), "width"),
    "family": ("roberta", {}, "bert"),
    "values": ("bert", dict(initializer_range=0.1), "checksums"),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", OTHER_BASES)
def test_the_base_model_must_be_that_of_the_adapter(
    runs, tokens_dir, tmp_path, unloaded, method, kind
):
    """Another base of the same shape ("values") is refused by the checksum in run.json."""
    family, changes, message = OTHER_BASES[kind]
    other = make_model(family, tmp_path / "other", **changes)
    spec = follower(tmp_path, runs[method].output_dir / "adapter", method)
    with pytest.raises(ConfigError) as caught:
        train([spec], other, tokens_dir, tmp_path / "state")
    assert message in str(caught.value) and not spec.output_dir.exists()
    if not method.startswith("adapter"):
        with pytest.raises(ConfigError) as caught:
            merge.merge(runs[method].output_dir, other, tmp_path / "merged")
        assert message in str(caught.value) and not (tmp_path / "merged").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(r=8, lora_alpha=12), "rank: got 8, expected at most 4; give --rank 8"),
        (dict(weights="qk", r=4, lora_alpha=6), "weights: got qk, expected qv"),
        (dict(r=4, lora_alpha=9), "alpha/r: got 9/4, expected 6/4"),
    ],
)
def test_lora_train_refuses_an_adapter_of_peft_before_data_are_prepared(
    bert_dir, tmp_path, options, message, capsys
):
    start = saved_adapter(tmp_path / "adapter", bert_dir, num_labels=2, **options)
    arguments = [
        *RUN.split(),
        *("--start", start, "--model-dir", bert_dir, "--data-dir", tmp_path / "adapter"),
        *("--cache-dir", tmp_path / "cache", "--output-dir", tmp_path / "out", "--device", "cpu"),
    ]
    assert main(list(map(str, arguments))) == 2
    text = capsys.readouterr().err
    assert f"--start is {start}, which does not fit:" in text and message in text
    assert not (tmp_path / "cache").exists() and not (tmp_path / "out").exists()


def test_a_start_is_checked_before_the_model_is_fetched(bert_dir, tmp_path, monkeypatch, capsys):
    """An adapter of another model on the hub, by name alone."""
    start = saved_adapter(tmp_path / "adapter", bert_dir, num_labels=2, r=4, lora_alpha=6)
    rename(start, "google-bert/bert-base-uncased")
    monkeypatch.setattr("lora.data.fetch.fetch", None)
    arguments = [
        *RUN.split(),
        *("--start", start, "--output-dir", tmp_path / "out", "--model", "roberta-base"),
    ]
    assert main(list(map(str, arguments))) == 2
    text = capsys.readouterr().err
    assert "base model: trained on google-bert/bert-base-uncased, got roberta-base" in text


def rename(adapter, name):
    config = json.loads((adapter / CONFIG).read_text())
    files.write_json(adapter / CONFIG, config | dict(base_model_name_or_path=name))


@pytest.mark.parametrize(
    "name, outcome",
    [("{base}", "same"), ("{copy}", "same"), ("{other}", "different"), ("hub/other", "unknown")],
)
def test_three_outcomes_of_a_base_model(bert_dir, tokens_dir, tmp_path, caplog, name, outcome):
    """Silence, a refusal that names both, or one warning; alike for a start and a merge."""
    adapter = saved_adapter(tmp_path / "adapter", bert_dir, num_labels=2, r=4, lora_alpha=6)
    copy = shutil.copytree(bert_dir, tmp_path / "copy")
    other = make_model("bert", tmp_path / "other", initializer_range=0.1)
    name = name.format(base=bert_dir, copy=copy, other=other)
    rename(adapter, name)
    spec = follower(tmp_path, adapter)
    specs = [spec, dataclasses.replace(spec, seed=2, output_dir=tmp_path / "out/again")]
    with caplog.at_level(logging.WARNING):
        if outcome == "different":
            for act in (
                lambda: train(specs, bert_dir, tokens_dir, tmp_path / "state"),
                lambda: merge.merge(adapter, bert_dir, tmp_path / "merged"),
            ):
                with pytest.raises(ConfigError, match=f"trained on {name}, got {bert_dir} "):
                    act()
            assert not (tmp_path / "merged").exists() and not (tmp_path / "out").exists()
        else:
            train(specs, bert_dir, tokens_dir, tmp_path / "state")
            merge.merge(adapter, bert_dir, tmp_path / "merged")
    warnings = [one.message for one in caplog.records if "was trained on" in one.message]
    assert len(warnings) == (outcome == "unknown")
    assert all(
        f"{adapter} was trained on {name}. Whether that is {bert_dir}" in one for one in warnings
    )


def test_the_best_run_of_a_protocol_is_checked_too(runs, tokens_dir, tmp_path, unloaded):
    """A workflow whose base model was replaced after the runs that others start from."""
    other = make_model("bert", tmp_path / "other", initializer_range=0.1)
    spec = dataclasses.replace(
        make_spec(tmp_path / "out", 1, "qv", 4, start="other", epochs=1),
        start_dirs=(runs["lora"].output_dir,),
    )
    with pytest.raises(ConfigError, match=r"start from .*:\n  - base model: trained on tiny"):
        train([spec], other, tokens_dir, tmp_path / "state")
    assert not spec.output_dir.exists()


def test_tensors_that_the_run_does_not_have_are_refused(runs, bert_dir, tokens_dir, tmp_path):
    """A Houlsby adapter whose config says Pfeiffer: half of it would be left out silently."""
    folder = Path(shutil.copytree(runs["adapter_houlsby"].output_dir / "adapter", tmp_path / "a"))
    config = json.loads((folder / CONFIG).read_text())
    files.write_json(folder / CONFIG, config | dict(method="adapter_pfeiffer", weights="ffn"))
    spec = follower(tmp_path, folder, "adapter_pfeiffer")
    with pytest.raises(ConfigError, match="0.attention.down.bias: the run has no such tensor"):
        train([spec], bert_dir, tokens_dir, tmp_path / "state")


def test_bottleneck_adapters_are_not_merged(runs, bert_dir, tmp_path, unloaded):
    with pytest.raises(ValueError, match="'adapter_houlsby', which adds layers that cannot be"):
        merge.merge(runs["adapter_houlsby"].output_dir, bert_dir, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_merge_takes_a_run_s_folder(runs, bert_dir, tmp_path):
    merge.merge(runs["lora"].output_dir, bert_dir, tmp_path / "out")
    assert (tmp_path / "out/model.safetensors").is_file()


def test_a_run_that_failed_has_no_adapter(bert_dir, tmp_path):
    adapter = saved_adapter(tmp_path / "adapter", bert_dir)
    save_file({}, adapter / "adapter_model.safetensors")
    with pytest.raises(ConfigError, match="no LoRA pair is in it; a run that failed"):
        belonging.check_merge(belonging.adapter_folder.find(adapter, "--adapter-dir"), bert_dir)
