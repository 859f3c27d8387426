"""Pairs are exactly those that adapter_config.json describes, for this base model."""

import json

import pytest
import torch
from helpers.encoders import saved_adapter
from helpers.models import make_model
from safetensors.torch import save_file

from lora.adapters import peft_folder, peft_header
from lora.errors import ConfigError


def with_config(folder, **changes) -> None:
    facts = json.loads((folder / peft_folder.CONFIG).read_text()) | changes
    (folder / peft_folder.CONFIG).write_text(json.dumps(facts))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        depth: make_model("bert", folder / str(depth), num_hidden_layers=depth)
        for depth in (4, 6, 12)
    }


DEPTHS = [  # layers of the adapter's model, its options, and the problem for a base of 6 layers
    (
        12,
        {},
        "it has pairs of layer 12, counted from 1, the base model has 6 layers; give the base",
    ),
    (
        4,
        {},
        "it has pairs of 4 layers and by adapter_config.json it adapts every layer, but the base "
        "model has 6; give the base",
    ),
    (12, dict(layers_to_transform=[7]), "it has pairs of layer 8, counted from 1, the base model"),
    (
        4,
        dict(exclude_modules=r".*layer\.1\..*"),
        "it has pairs of 4 layers and by adapter_config.json it adapts every layer",
    ),
    (6, {}, None),
    (6, dict(layers_to_transform=[0, 1, 2, 3]), None),
    (6, dict(layers_to_transform=[5]), None),
    (6, dict(target_modules=r".*layer\.[0-3]\..*(query|value)"), None),
    (6, dict(exclude_modules=[f"layer.{layer}.attention.self.query" for layer in (4, 5)]), None),
]


@pytest.mark.parametrize("depth, options, message", DEPTHS, ids=str)
def test_adapters_of_deeper_and_shallower_models_have_different_messages(
    models, tmp_path, depth, options, message
):
    """An adapter that covers a part of the layers by its own config is accepted.

    Without the base model's config.json all of them are.
    """
    saved_adapter(tmp_path, models[depth], **options)
    base = dict(model_type="bert", num_hidden_layers=6, hidden_size=32)
    found = peft_header.describe_folder(tmp_path)
    if message is None:
        known = peft_header.describe_folder(tmp_path, base)
        assert known == found and len(known.pairs) + len(known.left_out(6)) == 12
        return
    with pytest.raises(ConfigError) as caught:
        peft_header.describe_folder(tmp_path, base)
    assert len(caught.value.problems) == 1 and message in caught.value.problems[0]


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            dict(layers_to_transform=[0]),
            "attention.self.query: adapter_config.json does not adapt it in layer 1, 2, 3 "
            "(counted from 0), but there are pairs of it; give the whole",
        ),
        (
            dict(target_modules=["query", "value", "key"], layers_to_transform=[0, 1, 2, 3]),
            "attention.self.key: adapter_config.json adapts it, but there is no pair of it",
        ),
        (
            dict(exclude_modules=["layer.2.attention.self.value"]),
            "attention.self.value: adapter_config.json does not adapt it in layer 2 "
            "(counted from 0), but there are pairs of it; give the whole",
        ),
        (
            dict(target_modules=[]),
            "attention.self.value: adapter_config.json does not adapt it, but there are "
            "pairs of it; give the whole",
        ),
        (
            dict(rank_pattern={"value": 2}),
            "base_model.model.bert.encoder.layer.0.attention.self.value.lora_A.weight has shape "
            "[3, 32]; expected [2, 32] for r = 2",
        ),
        (
            dict(bias="lora_only"),
            "base_model.model.bert.encoder.layer.0.attention.self.query.bias is missing, though "
            "bias is 'lora_only'",
        ),
        (
            dict(target_modules=["query", "value", "intermediate.dense"]),
            "bert.encoder.layer.0.intermediate.dense and 3 more: adapter_config.json",
        ),
    ],
)
def test_pairs_that_the_config_does_not_describe_are_named(models, tmp_path, changes, message):
    saved_adapter(tmp_path, models[4])
    with_config(tmp_path, **changes)
    with pytest.raises(ConfigError) as caught:
        peft_header.describe_folder(tmp_path)
    assert any(problem.startswith(message) for problem in caught.value.problems)


OTHER_MODELS = [  # pairs of other architectures, and the only problem
    (
        "model.layers.0.self_attn.q_proj",
        "q_proj.lora_A.weight and 1 more tensors: allowed: LoRA pairs of attention.self.query",
    ),
    (
        "distilbert.transformer.layer.0.attention.q_lin",
        "an adapter of distilbert; allowed: one of bert",
    ),
    (
        "electra.encoder.layer.0.attention.self.query",
        "an adapter of electra; allowed: one of bert",
    ),
    (
        "mpnet.encoder.layer.0.attention.self.query",
        "an adapter of mpnet; allowed: one of bert, roberta, xlm-roberta",
    ),
    ("roberta.encoder.layer.0.attention.self.query", "an adapter of roberta; allowed: one of bert"),
]


@pytest.mark.parametrize("module, message", OTHER_MODELS)
def test_adapters_of_other_architectures_are_one_problem(models, tmp_path, module, message):
    saved_adapter(tmp_path, models[4])
    pair = {
        f"base_model.model.{module}.lora_A.weight": torch.ones(3, 32),
        f"base_model.model.{module}.lora_B.weight": torch.ones(32, 3),
    }
    save_file(pair, tmp_path / peft_folder.TENSORS)
    with pytest.raises(ConfigError) as caught:
        peft_header.describe_folder(tmp_path, dict(model_type="bert"))
    assert len(caught.value.problems) == 1 and message in caught.value.problems[0]
