"""Training with each method: packed and alone, resumed, and against transformers."""

import json

import pytest
import torch
import transformers
from helpers.encoders import padded
from helpers.methods import WEIGHTS
from helpers.training import adapter_of, begun, make_spec, make_tokens, rows_of, train
from safetensors.torch import load_file

from lora import files
from lora.columns import METRICS_COLUMNS
from lora.data.tokens import load, steps_per_epoch
from lora.experiment.cell import BASE_METHODS
from lora.model import methods, packed_model, pretrained
from lora.training import batching, evaluation, pack_step


@pytest.mark.filterwarnings("ignore:.*newly initialized.*")
@pytest.mark.parametrize("method", ["ft", "bitfit"])
def test_ft_and_bitfit_steps_equal_transformers_with_adamw(
    model_dir, family, tokens_dir, tmp_path, method
):
    """Three float64 steps without dropout, with gradient clipping.

    Biases and LayerNorm have no weight decay.
    """
    one = make_spec(tmp_path, 0, WEIGHTS[method], 0, method, max_grad_norm=0.5, epochs=1)
    base = pretrained.load_base(model_dir, torch.float64)
    base.config.hidden_dropout_prob = base.config.attention_probs_dropout_prob = 0.0
    model = packed_model.PackedModel(
        base, [methods.AdapterSpec(0, WEIGHTS[method], 0, 2, one.hparams, method)]
    )
    model.heads.dropout = 0.0
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(
        model_dir, num_labels=2, dtype=torch.float64, attn_implementation="eager"
    ).eval()
    heads = dict(
        bert={"head.dense": "bert.pooler.dense", "head.out": "classifier"},
        roberta={"head.dense": "classifier.dense", "head.out": "classifier.out_proj"},
    )[family]

    def twin(name):
        if name.startswith("base."):
            return theirs.get_parameter(f"{family}.{name.removeprefix('base.')}")
        module, _, kind = name.rpartition(".")
        return theirs.get_parameter(f"{heads[module]}.{kind}")

    ours = model.parameters_of(0)
    trained = {name: twin(name) for name in ours}
    for name, value in theirs.named_parameters():
        value.requires_grad_(any(value is each for each in trained.values()))
        expected = (
            method == "ft" or name.endswith(".bias") or "classifier" in name or "pooler" in name
        )
        assert value.requires_grad == expected, name
    with torch.no_grad():
        for name, value in trained.items():
            value.copy_(ours[name])
    decays = {name: not (name.endswith("bias") or "LayerNorm" in name) for name in trained}
    groups = [
        dict(
            params=[value for name, value in trained.items() if decays[name] == on],
            weight_decay=0.1 * on,
        )
        for on in (True, False)
    ]
    optimizer = torch.optim.AdamW(groups, lr=3e-3)
    train_set = load(tokens_dir)["train"]
    run = begun(one, model, train_set)
    schedule = transformers.get_linear_schedule_with_warmup(
        optimizer, 1, steps_per_epoch(len(train_set), 8)
    )
    for step in range(3):
        ids, types, lengths, labels = train_set.gather(run.order[step * 8 : step * 8 + 8])
        inputs = padded(ids, types, lengths, base.config.pad_token_id)
        torch.nn.functional.cross_entropy(
            theirs(**inputs).logits, torch.from_numpy(labels).long()
        ).backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), 0.5)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        pack_step.optimizer_step(model, [run], batching.TokenBudget(4096))
    for name, value in trained.items():
        assert (ours[name] - value).abs().max() < 1e-10, name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", ["adapter_houlsby", "adapter_pfeiffer", "adapter_drop"])
def test_packed_adapters_equal_runs_trained_alone(
    model_dir, tokens_dir, tmp_path, method, precision
):
    def wanted(folder):
        return [
            make_spec(folder, seed, WEIGHTS[method], rank, method, epochs=2)
            for seed, rank in ((0, 4), (1, 3))
        ]

    train(wanted(tmp_path / "pack"), model_dir, tokens_dir, tmp_path / "state", precision=precision)
    for one in wanted(tmp_path / "solo"):
        train([one], model_dir, tokens_dir, tmp_path / "solo-state", precision=precision)
    for one, other in zip(wanted(tmp_path / "pack"), wanted(tmp_path / "solo"), strict=True):
        assert rows_of(one) == rows_of(other) and adapter_of(one) == adapter_of(other)


@pytest.mark.parametrize("method", WEIGHTS)
def test_every_method_trains_and_saves_its_parameters(bert_dir, tokens_dir, tmp_path, method):
    """The loss falls; the saved and recorded parameter counts agree; a job trains two seeds."""
    rank = 0 if method in BASE_METHODS else 4
    many, rate = make_tokens(tmp_path / "many", 200), 3e-3 if method == "ft" else 2e-2
    wanted = [
        make_spec(
            tmp_path,
            seed,
            WEIGHTS[method],
            rank,
            method,
            epochs=6,
            learning_rate=rate,
            lora_dropout=0,
        )
        for seed in (0, 1)
    ]
    train(wanted, bert_dir, many, tmp_path / "state", precision="auto")
    for one in wanted:
        rows = files.read_csv(one.output_dir / "metrics.csv", METRICS_COLUMNS)
        assert rows[-1]["train_loss"] < 0.92 * rows[0]["train_loss"], method
        record = json.loads((one.output_dir / "run.json").read_text())
        saved = load_file(one.output_dir / "adapter/adapter_model.safetensors")
        assert sum(value.numel() for value in saved.values()) == sum(
            record["parameters"][key] for key in ("trainable", "head")
        )
        if method in BASE_METHODS:
            assert record["precision"] == "fp32"
    assert rows_of(wanted[0]) != rows_of(wanted[1])
    before = [rows_of(one) for one in wanted]
    train(wanted, bert_dir, many, tmp_path / "state", precision="auto")
    assert before == [rows_of(one) for one in wanted]


def test_full_fine_tuning_resumes_bit_for_bit(bert_dir, tokens_dir, tmp_path, monkeypatch):
    full, part = (make_spec(tmp_path / name, 0, "all", 0, "ft") for name in ("full", "part"))
    train([full], bert_dir, tokens_dir, tmp_path / "full-state")
    end_epoch, seen = evaluation.end_epoch, []

    def stop(*arguments):
        if seen:
            raise InterruptedError
        seen.append(1)
        return end_epoch(*arguments)

    monkeypatch.setattr(evaluation, "end_epoch", stop)
    with pytest.raises(InterruptedError):
        train([part], bert_dir, tokens_dir, tmp_path / "state")
    monkeypatch.setattr(evaluation, "end_epoch", end_epoch)
    train([part], bert_dir, tokens_dir, tmp_path / "state")
    assert rows_of(full) == rows_of(part) and adapter_of(full) == adapter_of(part)
