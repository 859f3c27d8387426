"""Runs of each family that is not BERT or RoBERTa: packed and alone, finished and merged."""

import csv

import pytest
import torch
import transformers
from helpers.methods import WEIGHTS
from helpers.models import make_model
from helpers.training import adapter_of, make_spec, rows_of, train
from safetensors.torch import load_file

from lora.adapters import merge, peft_names
from lora.model.families.registry import FAMILIES

OTHERS = [name for name in FAMILIES if name not in ("bert", "roberta")]


@pytest.fixture(scope="module", params=OTHERS)
def other(request, tmp_path_factory):
    return make_model(request.param, tmp_path_factory.mktemp("models") / request.param)


@pytest.mark.parametrize("method", ["lora", "adapter_houlsby"])
def test_packed_runs_equal_runs_alone(other, tokens_dir, tmp_path, method):
    """Rows and adapters, byte for byte."""

    def runs(folder):
        return [
            make_spec(folder, seed, WEIGHTS[method], rank, method, epochs=2)
            for seed, rank in ((0, 4), (1, 3))
        ]

    train(runs(tmp_path / "pack"), other, tokens_dir, tmp_path / "state")
    for one in runs(tmp_path / "solo"):
        train([one], other, tokens_dir, tmp_path / "solo-state", micro_batch=8)
    for one, alone in zip(runs(tmp_path / "pack"), runs(tmp_path / "solo"), strict=True):
        assert rows_of(one) == rows_of(alone) and adapter_of(one) == adapter_of(alone)


@pytest.mark.parametrize("method", ["lora", "ft", "bitfit"])
def test_a_merged_run_has_the_parameters_of_the_run(other, tokens_dir, tmp_path, method):
    """Another run that starts from it with a tiny learning rate has its accuracy."""
    rank = 4 if method == "lora" else 0
    one = make_spec(tmp_path, 0, WEIGHTS[method], rank, method, epochs=1)
    train([one], other, tokens_dir, tmp_path / "state")
    adapter = one.output_dir / "adapter"
    merge.merge(adapter, other, tmp_path / "merged", names=["no", "yes"])
    model, report = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "merged", output_loading_info=True
    )
    assert not any(report.values()), report
    family = model.config.model_type
    for name, value in load_file(adapter / "adapter_model.safetensors").items():
        if ".lora_" not in name:
            key = peft_names.peft_name(name, family) if method != "lora" else name
            merged = model.get_parameter(key.removeprefix(peft_names.PREFIX))
            assert torch.equal(merged, value), name
    still = dict(epochs=1, start=f"{adapter}/", learning_rate=1e-12)
    start = make_spec(tmp_path / "again", 1, WEIGHTS[method], rank, method, **still)
    train([start], other, tokens_dir, tmp_path / "again-state")
    accuracy, again = (
        float(next(csv.DictReader(rows_of(run).decode().splitlines()))["accuracy"])
        for run in (one, start)
    )
    assert accuracy == again
