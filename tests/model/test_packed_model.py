"""The methods that LoRA is compared with: adapters against AdapterHub, full fine-tuning and BitFit
against transformers, and every method in the trainer: packed or alone, resumed, recorded."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import transformers
from helpers.encoders import padded
from helpers.methods import WEIGHTS, hparams_of
from helpers.models import ROOT, sentences
from helpers.training import adapter_of, begun, make_spec, make_tokens, rows_of, train
from safetensors.torch import load_file

from lora import files
from lora.columns import METRICS_COLUMNS
from lora.data.tokens import load, steps_per_epoch
from lora.experiment.cell import BASE_METHODS
from lora.model import collate, encoder, methods, packed_model, pretrained
from lora.training import batching, evaluation, loop

REFERENCE = json.loads((ROOT / "tests/references/adapters.json").read_text())


def reference_base(family: str):
    """The encoder that the reference was made with, rebuilt from its formula."""
    facts_of = REFERENCE["bases"][family]
    kind = dict(bert=transformers.BertConfig, roberta=transformers.RobertaConfig)[family]
    classes = dict(
        bert=transformers.BertForSequenceClassification,
        roberta=transformers.RobertaForSequenceClassification,
    )
    model = classes[family](kind(**facts_of["config"])).double().eval()
    random = np.random.RandomState(REFERENCE["base_seed"])
    parameters = dict(model.named_parameters())
    assert {name: list(value.shape) for name, value in parameters.items()} == facts_of["shapes"]
    for name in sorted(parameters):
        noise = random.standard_normal(tuple(parameters[name].shape))
        value = 1 + 0.1 * noise if name.endswith("LayerNorm.weight") else 0.2 * noise
        parameters[name].data.copy_(torch.from_numpy(value))
    base = getattr(model, family).requires_grad_(False)
    base.config.hidden_dropout_prob = base.config.attention_probs_dropout_prob = 0.0
    return base


def reference_name(place: str, part: str) -> str:
    layer, sublayer = place.split(".")
    where = "attention.output" if sublayer == "attention" else "output"
    side, kind = part.split(".")
    inner = f"adapter_{side}.0" if side == "down" else f"adapter_{side}"
    return f"encoder.layer.{layer}.{where}.adapters.task.{inner}.{kind}"


@pytest.mark.parametrize(
    "case", REFERENCE["cases"], ids=lambda case: f"{case['family']}-{case['method']}"
)
def test_adapters_are_adapterhubs(case):
    """Hidden states and gradients, beside a run of the pack with an adapter of another size."""
    method = case["method"]
    base, first = reference_base(case["family"]), int(method == "adapter_drop")
    size, hparams = REFERENCE["bottleneck"], hparams_of()
    members = [
        methods.AdapterSpec(seed, WEIGHTS[method], rank, 2, hparams, method, first)
        for seed, rank in ((0, 7), (1, size))
    ]
    model = packed_model.PackedModel(base, members)
    own = {
        name: value
        for name, value in model.parameters_of(1).items()
        if not name.startswith("head.")
    }
    names = {
        name: reference_name(*name.rsplit(".", 2)[:1], ".".join(name.rsplit(".", 2)[1:]))
        for name in own
    }
    assert sorted(names.values()) == sorted(case["adapter"])
    for name, value in own.items():
        value.data.copy_(torch.tensor(case["adapter"][names[name]], dtype=torch.float64))
    texts = REFERENCE["bases"][case["family"]]["sentences"]
    lengths = np.array([len(text["input_ids"]) for text in texts])
    ids, types = (
        np.concatenate([text[key] for text in texts]) for key in ("input_ids", "token_type_ids")
    )
    parts = [
        collate.RunSequences(0, *sentences(3, 5, longest=9, types=False)),
        collate.RunSequences(1, ids, types, lengths),
    ]
    parts[0] = dataclasses.replace(parts[0], ids=parts[0].ids % 50)
    hidden = encoder.encode(base, {}, model.bottlenecks, [0.0, 0.0], model.batch(parts))[3:]
    assert (hidden - torch.tensor(case["first_token"], dtype=torch.float64)).abs().max() < 1e-12
    hidden.pow(2).sum().backward()
    gradients = model.gradients_of(1)
    for name in own:
        assert (
            gradients[name] - torch.tensor(case["gradient"][names[name]], dtype=torch.float64)
        ).abs().max() < 1e-12, name


def test_adapters_start_as_adapterhubs_do():
    """Weights of mean 0 and the standard deviation that was measured on the library's, biases
    zero.
    """
    base = reference_base("bert")
    model = packed_model.PackedModel(
        base, [methods.AdapterSpec(3, "both", 16, 2, hparams_of(), "adapter_houlsby")]
    )
    own = {
        name: value.detach()
        for name, value in model.parameters_of(0).items()
        if not name.startswith("head.")
    }
    weights = torch.cat([value.flatten() for name, value in own.items() if name.endswith("weight")])
    assert (
        float(weights.std()) == pytest.approx(0.02, rel=0.06) and abs(float(weights.mean())) < 2e-3
    )
    assert all(not value.any() for name, value in own.items() if name.endswith("bias"))


@pytest.mark.filterwarnings("ignore:.*newly initialized.*")
@pytest.mark.parametrize("method", ["ft", "bitfit"])
def test_steps_that_train_the_base_are_torchs(model_dir, family, tokens_dir, tmp_path, method):
    """Float64, dropout 0, three steps of padded transformers with torch's AdamW: decay off biases
    and LayerNorm, clipped.
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
        loop._optimizer_step(model, [run], batching.TokenBudget(4096))
    for name, value in trained.items():
        assert (ours[name] - value).abs().max() < 1e-10, name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", ["adapter_houlsby", "adapter_pfeiffer", "adapter_drop"])
def test_packed_adapters_equal_their_runs_alone(model_dir, tokens_dir, tmp_path, method, precision):
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
def test_every_method_trains_what_is_its_own(bert_dir, tokens_dir, tmp_path, method):
    """It learns, saves what it trains, says how many parameters those are, and a job trains several
    seeds.
    """
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


def test_a_base_that_trains_resumes_to_the_bit(bert_dir, tokens_dir, tmp_path, monkeypatch):
    whole, part = (make_spec(tmp_path / name, 0, "all", 0, "ft") for name in ("whole", "part"))
    train([whole], bert_dir, tokens_dir, tmp_path / "whole-state")
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
    assert rows_of(whole) == rows_of(part) and adapter_of(whole) == adapter_of(part)
