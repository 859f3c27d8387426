"""A run that starts from a PEFT folder starts with exactly the deltas that peft computes."""

import json
import logging
import re

import peft
import pytest
import torch
import transformers
from helpers.encoders import MODULES, member, packed, padded, peft_model, saved_adapter
from helpers.models import make_model, sentences
from helpers.training import adapter_of, make_spec, train
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file

from lora.adapters import peft_folder, warm_start
from lora.errors import ConfigError
from lora.model import initial_values
from lora.training import run_state

ALPHA, RANK = 6, 4
SETTINGS = [  # config of the adapter, and what the log says
    (dict(r=4, lora_alpha=6), ""),
    (dict(r=2, lora_alpha=3), "lower ranks.*: 0.q r=2, 0.v r=2, 1.q r=2, 1.v r=2"),
    (dict(r=4, lora_alpha=3, use_rslora=True), ""),
    (dict(r=4, lora_alpha=6, use_rslora=True), "B is multiplied.*: 0.q by 2, 0.v by 2, 1"),
    (dict(r=3, lora_alpha=7, use_rslora=True), "by 2.694"),
    (dict(r=4, lora_alpha=6, rank_pattern={"query": 2}), "0.q by 2.*lower ranks.*: 0.q r=2, 1.q"),
    (dict(r=8, lora_alpha=12, rank_pattern={"query": 2, "value": 4}), "by 4"),
    (dict(r=4, lora_alpha=6, alpha_pattern={"layer.1.attention.self.value": 5}), ": 1.v by 0.833"),
    (dict(r=4, lora_alpha=6, layers_to_transform=[1]), "leaves out .*: 0.q, 0.v$"),
    (dict(r=4, lora_alpha=6, exclude_modules=r".*layer\.0.*value"), "leaves out .*: 0.v$"),
    (
        dict(r=2, lora_alpha=1, layers_to_transform=[0], alpha_pattern={"query": 3}),
        "0.v by 0.333.*lower.*leaves out",
    ),
]


def started(spec, model_dir, family):
    """Return a run's model after its warm start, and its initial parameters."""
    model = packed(model_dir, member(spec.seed, "qv", RANK, alpha=ALPHA))
    initial = {name: value.clone() for name, value in model.parameters_of(0).items()}
    with torch.no_grad():
        for name, value in model.parameters_of(0).items():
            if name.endswith(".b"):
                value.zero_()
    start = warm_start.find_start(spec)
    warm_start.load_start(start, spec, model.parameters_of(0), family)
    return model, initial


@pytest.mark.parametrize("options, noted", SETTINGS, ids=lambda value: str(value)[:60])
def test_the_deltas_are_peft_s(model_dir, family, tmp_path, options, noted, caplog):
    """All scales and ranks that adapter_config.json can give, and layers that it leaves out.

    What the adapter does not have keeps the run's initial A, and a B of zero.
    """
    theirs = peft_model(model_dir, **options)
    theirs.save_pretrained(tmp_path)
    spec = make_spec(tmp_path / "run", 0, "qv", RANK, alpha=ALPHA, start=str(tmp_path))
    with caplog.at_level(logging.INFO):
        model, initial = started(spec, model_dir, family)
    lines = [line for line in caplog.messages if "starts from" in line]
    assert len(lines) == 1
    assert not noted and lines[0].endswith("a PEFT folder") or re.search(noted, lines[0])
    after = model.parameters_of(0)
    modules = dict(getattr(theirs.base_model.model, family).encoder.layer.named_modules())
    for layer in range(2):
        for letter in "qv":
            name, module = f"{layer}.{letter}", modules[f"{layer}.attention.self.{MODULES[letter]}"]
            a, b = after[f"{name}.a"], after[f"{name}.b"]
            rank, expected = 0, torch.zeros(32, 32)
            if isinstance(module, LoraLayer):
                rank, expected = module.r["default"], module.get_delta_weight("default")
            assert torch.allclose(ALPHA / RANK * b @ a, expected.double(), rtol=1e-14, atol=1e-14)
            assert torch.equal(a[rank:], initial[f"{name}.a"][rank:]) and not b[:, rank:].any()
            seeded = initial_values.initial_a(0, name, (RANK, 32), spec.hparams)
            assert torch.equal(a[rank:].float(), seeded[rank:])
    kind = transformers.AutoModelForSequenceClassification
    base = kind.from_pretrained(model_dir, num_labels=3, dtype=torch.float64)
    assert peft.PeftModel.from_pretrained(base, tmp_path)  # peft reads the same folder


@pytest.mark.parametrize("ratio", [1, 2, 0.25])
def test_a_ratio_that_is_a_power_of_two_is_exact(bert_dir, tmp_path, ratio):
    """In float32 too: B is the adapter's, times the ratio."""
    alpha = ratio * ALPHA / 2  # over sqrt(4), not 4
    saved_adapter(tmp_path, bert_dir, dtype=torch.float32, r=4, lora_alpha=alpha, use_rslora=True)
    spec = make_spec(tmp_path / "run", 0, "qv", RANK, alpha=ALPHA, start=str(tmp_path))
    model = packed(bert_dir, member(0, "qv", RANK, alpha=ALPHA)).float()
    warm_start.load_start(warm_start.find_start(spec), spec, model.parameters_of(0), "bert")
    tensors, _ = peft_folder.read_adapter(tmp_path, "bert")
    for name, value in model.parameters_of(0).items():
        expected = tensors[name] * (ratio if name.endswith(".b") else 1)
        assert value.dtype == torch.float32 and torch.equal(value, expected), name


def test_a_run_exports_what_it_started_from(bert_dir, tokens_dir, tmp_path):
    """Adapters of several scales and ranks, alone and in a pack: peft gives the same logits.

    The run writes one rank and one scale; the learning rate is too low to change anything.
    """
    options = dict(rank_pattern={"query": 2}, alpha_pattern={"value": 5}, use_rslora=True)
    theirs = peft_model(bert_dir, num_labels=2, layers_to_transform=[1], r=4, **options)
    theirs.save_pretrained(tmp_path / "peft")
    shared = dict(epochs=1, learning_rate=1e-30, weight_decay=0, start=str(tmp_path / "peft"))
    specs = [make_spec(tmp_path / "pack", seed, "qv", RANK, **shared) for seed in (0, 1)]
    train(specs, bert_dir, tokens_dir, tmp_path / "state of a pack")
    solo = make_spec(tmp_path / "solo", 1, "qv", RANK, **shared)
    train([solo], bert_dir, tokens_dir, tmp_path / "state")
    assert adapter_of(solo) == adapter_of(specs[1]) != adapter_of(specs[0])
    kind = transformers.AutoModelForSequenceClassification
    base = kind.from_pretrained(
        bert_dir, num_labels=2, dtype=torch.float64, attn_implementation="eager"
    )
    ours = peft.PeftModel.from_pretrained(base, solo.output_dir / "adapter").eval()
    batch = padded(*sentences(6, 4, types=True), base.config.pad_token_id)
    with torch.no_grad():
        found, wanted = ours(**batch).logits, theirs(**batch).logits
    assert (found - wanted).abs().max() < 1e-6 * wanted.abs().max() < wanted.std()


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(hidden_size=48), "it is for a model of width 48, the base model has 32; give the"),
        (dict(num_hidden_layers=3), "it has pairs of layer 3, counted from 1, the base model has"),
        (
            dict(num_hidden_layers=1),
            "it has pairs of 1 layers and by adapter_config.json it adapts",
        ),
    ],
)
def test_an_adapter_of_a_model_of_another_size_is_refused(bert_dir, tmp_path, changes, message):
    other = make_model("bert", tmp_path / "other", **changes)
    saved_adapter(tmp_path / "adapter", other, r=4, lora_alpha=6)
    spec = make_spec(tmp_path / "run", 0, "qv", RANK, alpha=ALPHA, start=str(tmp_path / "adapter"))
    with pytest.raises(ConfigError) as caught:
        started(spec, bert_dir, "bert")
    assert len(caught.value.problems) == 1 and message in caught.value.problems[0]


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(r=5, lora_alpha=7.5), "rank: got 5, expected at most 4; set ranks: [5] in"),
        (
            dict(rank_pattern={"value": 9}, r=4),
            "rank: got 9, expected at most 4; set ranks: [9] in",
        ),
        (
            dict(r=4, lora_alpha=8),
            "alpha/r: got 8/4, expected 6/4; set overrides: {alpha: 8} in the config, because",
        ),
        (
            dict(r=2, lora_alpha=8),
            "alpha/r: got 8/2, expected 6/4; set overrides: {alpha: 16} in the config, because",
        ),
        (
            dict(target_modules=["query"], r=4, lora_alpha=6),
            "weights: got q, expected qv; set weights: [q] in the config, or give an adapter of qv",
        ),
        (
            dict(target_modules=list(MODULES.values()), r=4, lora_alpha=6),
            "weights: got qkvo, expected qv; set weights: [qkvo] in",
        ),
    ],
)
def test_what_a_run_can_be_given_is_not_converted(bert_dir, tmp_path, options, message):
    saved_adapter(tmp_path, bert_dir, **options)
    spec = make_spec(tmp_path / "run", 0, "qv", RANK, alpha=ALPHA, start=str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        model = packed(bert_dir, member(0, "qv", RANK, alpha=ALPHA))
        start = warm_start.find_start(spec)
        warm_start.load_start(start, spec, model.parameters_of(0), "bert")
    assert len(caught.value.problems) == 1 and message in caught.value.problems[0]


def test_scales_are_part_of_the_digest(bert_dir, tmp_path):
    """The same tensors with other scales are another start; the run's own scale changes nothing."""
    saved_adapter(tmp_path, bert_dir, r=4, lora_alpha=6)
    spec = make_spec(tmp_path / "run", 0, "qv", RANK, alpha=ALPHA, start=str(tmp_path))
    path = tmp_path / peft_folder.CONFIG
    config = json.loads(path.read_text())

    def digest(**changes):
        path.write_text(json.dumps(config | changes))
        start = warm_start.find_start(spec)
        return run_state.digest_of(spec, "tokens", "base", "fp32", start.sha256, "bert")

    plain = digest()
    assert plain == digest(alpha_pattern={"query": 6}, rank_pattern={"value": 4})
    assert plain == digest(lora_alpha=3, use_rslora=True)
    others = [
        digest(alpha_pattern={"query": 5}),
        digest(alpha_pattern={"value": 5}),
        digest(alpha_pattern={"query": 7}),
        digest(use_rslora=True),
    ]
    assert len({plain, *others}) == 5


@pytest.mark.parametrize("rank, alpha", [(3, 8), (3, 7), (1, 0.1), (2, 1 / 3)])
def test_the_alpha_that_the_message_gives_is_accepted(bert_dir, tmp_path, rank, alpha):
    """Also where alpha/r of the adapter has no exact decimal value; the delta is the adapter's."""
    theirs = peft_model(bert_dir, r=rank, lora_alpha=alpha)
    theirs.save_pretrained(tmp_path)
    spec = make_spec(tmp_path / "run", 0, "qv", RANK, alpha=ALPHA, start=str(tmp_path))
    with pytest.raises(ConfigError, match="alpha/r: got") as caught:
        started(spec, bert_dir, "bert")
    (given,) = re.findall(r"overrides: {alpha: (\S+)} in", str(caught.value))
    spec = make_spec(tmp_path / "run", 0, "qv", RANK, alpha=float(given), start=str(tmp_path))
    model, _ = started(spec, bert_dir, "bert")
    pair = model.parameters_of(0)
    query = theirs.base_model.model.bert.encoder.layer[1].attention.self.query
    found = float(given) / RANK * pair["1.q.b"] @ pair["1.q.a"]
    assert torch.allclose(found, query.get_delta_weight("default"), rtol=1e-14, atol=1e-14)


def test_numbers_too_large_for_the_run_are_refused(bert_dir, tmp_path):
    """Finite float64 numbers, or finite ones times the ratio of the scales."""
    for stored, scale in ((1e39, 1), (1e38, 1e4)):
        saved_adapter(tmp_path, bert_dir, r=4, lora_alpha=3 * scale, use_rslora=True)
        tensors = load_file(tmp_path / peft_folder.TENSORS)
        key = next(key for key in tensors if "layer.1" in key and "query.lora_B" in key)
        save_file(tensors | {key: tensors[key] * 0 + stored}, tmp_path / peft_folder.TENSORS)
        spec = make_spec(tmp_path / "run", 0, "qv", RANK, alpha=ALPHA, start=str(tmp_path))
        parameters = packed(bert_dir, member(0, "qv", RANK)).float().parameters_of(0)
        with pytest.raises(ConfigError, match="1.q.b: got numbers too large for torch.float32"):
            warm_start.load_start(warm_start.find_start(spec), spec, parameters, "bert")
