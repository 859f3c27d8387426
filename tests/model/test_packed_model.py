"""Adapters of the packed model against AdapterHub: outputs, gradients and initial values."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import transformers
from helpers.methods import WEIGHTS, hparams_of
from helpers.models import ROOT, sentences

from lora.model import collate, methods, packed_model

REFERENCE = json.loads((ROOT / "tests/references/adapters.json").read_text())


def reference_base(family: str):
    """Return the encoder of the reference, rebuilt from its formula."""
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


def reference_name(position: str, part: str) -> str:
    layer, sublayer = position.split(".")
    where = "attention.output" if sublayer == "attention" else "output"
    side, kind = part.split(".")
    inner = f"adapter_{side}.0" if side == "down" else f"adapter_{side}"
    return f"encoder.layer.{layer}.{where}.adapters.task.{inner}.{kind}"


@pytest.mark.parametrize(
    "case", REFERENCE["cases"], ids=lambda case: f"{case['family']}-{case['method']}"
)
def test_adapters_equal_adapterhubs(case):
    """Hidden states and gradients, in a pack with an adapter of another size."""
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
    hidden = model.encoder.encode(model.batch(parts))[3:]
    assert (hidden - torch.tensor(case["first_token"], dtype=torch.float64)).abs().max() < 1e-12
    hidden.pow(2).sum().backward()
    gradients = model.gradients_of(1)
    for name in own:
        assert (
            gradients[name] - torch.tensor(case["gradient"][names[name]], dtype=torch.float64)
        ).abs().max() < 1e-12, name


def test_initial_values_of_adapters_have_adapterhubs_distribution():
    """Weights have mean 0 and the standard deviation measured in AdapterHub; biases are zero."""
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
