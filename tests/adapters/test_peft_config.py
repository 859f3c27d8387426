"""Every setting of peft's LoraConfig is computed, without effect, or refused with a reason."""

import dataclasses
import json

import peft
import pytest
import torch
from helpers.encoders import peft_model

from lora.adapters import peft_config, peft_folder, peft_header
from lora.errors import ConfigError

ON = {  # settings that are refused, at a value that turns them on
    "alora_invocation_tokens": [1, 2],
    "arrow_config": dict(top_k=3),
    "enable_lora": [True, False, True],
    "kasa_config": dict(beta=0.1),
    "layer_replication": [[0, 2], [1, 2]],
    "lora_bias": True,
    "megatron_config": dict(hidden_size=4),
    "monteclora_config": dict(num_samples=4),
    "target_parameters": ["experts.down_proj"],
    "trainable_token_indices": [1, 2],
    "use_bdlora": dict(nblocks=2),
    "use_dora": True,
    "use_qalora": True,
    "velora_config": dict(num_groups=64),
}
OTHER_VALUES = {  # settings without effect, at other values than peft's default
    "auto_mapping": dict(base_model_class="BertForSequenceClassification"),
    "base_model_name_or_path": "hub/model",
    "corda_config": dict(rho=2),
    "ensure_weight_tying": True,
    "eva_config": dict(rho=2.0),
    "fan_in_fan_out": True,
    "inference_mode": False,
    "loftq_config": dict(loftq_bits=4),
    "lora_ga_config": dict(scale="stable"),
    "megatron_core": "megatron.other",
    "merge_weights": True,
    "peft_version": "0.3.0",
    "qalora_group_size": 32,
    "revision": "main",
    "runtime_config": dict(ephemeral_gpu_offload=True),
}
SAME = [  # settings of this or another version of peft that mean the same as leaving them out
    dict(layers_to_transform=[0, 1]),
    dict(layers_to_transform=[]),
    dict(layers_to_transform=[0, 1], layers_pattern="layer"),
    dict(layers_pattern=[]),
    dict(layers_pattern=None),
    dict(rank_pattern=None, alpha_pattern=None, exclude_modules=None, use_rslora=None),
    dict(rank_pattern={}, alpha_pattern={}, exclude_modules=[]),
    dict(rank_pattern={"query": 3}, alpha_pattern={"value": 7}),
    dict(rank_pattern={"no_such_module": 5}),
    dict(exclude_modules=["key"]),
    dict(task_type=None),
    dict(lora_bias=False, use_dora=False),
    dict(a_later_invention=None),
    dict(a_later_invention=False, another={}, a_third=[], a_fourth=""),
    dict(init_lora_weights=None),
    dict(init_lora_weights="mica"),
    dict(target_modules=r"bert\.encoder.*\.(query|value)"),
    dict(modules_to_save=["classifier", "pooler", "score"]),
]
LEFT_OUT = ["task_type", "lora_dropout", "bias", "init_lora_weights", "target_modules", "use_dora"]


def with_config(folder, **changes):
    path = folder / peft_folder.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_every_setting_of_peft_is_listed_once():
    """A new version of peft with another setting makes this test fail: add it to one of the three.

    Keys of older versions that are gone from peft are listed here.
    """
    theirs = {field.name for field in dataclasses.fields(peft.LoraConfig)}
    kinds = [peft_config.COMPUTED, peft_config.WITHOUT_EFFECT, set(peft_config.UNSUPPORTED)]
    assert theirs | {"merge_weights", "enable_lora"} == set.union(*kinds)
    assert sum(map(len, kinds)) == len(set.union(*kinds))
    assert set(ON) == set(peft_config.UNSUPPORTED)
    assert set(OTHER_VALUES) == peft_config.WITHOUT_EFFECT


def test_the_defaults_of_peft_are_accepted():
    config = peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query"]).to_dict()
    config |= dict(peft_type="LORA", target_modules=["query"])
    assert peft_config.check(config) == []


@pytest.mark.parametrize("key", sorted(peft_config.UNSUPPORTED))
def test_a_setting_that_changes_the_adapter_is_refused_alone(folder, key):
    """And accepted where it is off, in every spelling of off."""
    for value in (None, False, [], {}):
        with_config(folder, **{key: value})
        peft_header.describe_folder(folder)
    with_config(folder, **{key: ON[key]})
    with pytest.raises(ConfigError) as caught:
        peft_header.describe_folder(folder)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{key} is {ON[key]!r}; allowed: leave it out (")
    assert "merge_and_unload()" in problem


@pytest.mark.parametrize("key", sorted(peft_config.WITHOUT_EFFECT))
def test_a_setting_without_effect_changes_nothing(folder, key):
    before = peft_header.describe_folder(folder)
    with_config(folder, **{key: OTHER_VALUES[key]})
    assert peft_header.describe_folder(folder) == before


@pytest.mark.parametrize("changes", SAME, ids=str)
def test_other_spellings_of_the_same_adapter_change_nothing(folder, changes):
    before = peft_header.describe_folder(folder)
    with_config(folder, **changes)
    assert peft_header.describe_folder(folder) == before


@pytest.mark.parametrize("key", LEFT_OUT)
def test_a_setting_that_is_missing_has_peft_s_default(folder, key):
    before = peft_header.describe_folder(folder)
    path = folder / peft_folder.CONFIG
    config = json.loads(path.read_text())
    del config[key]
    path.write_text(json.dumps(config))
    after = peft_header.describe_folder(folder)
    assert after == dataclasses.replace(before, lora_dropout=after.lora_dropout)
    assert after.lora_dropout == (0 if key == "lora_dropout" else 0.25)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(target_modules=3), "target_modules is 3; allowed: null, a list of names, or a reg"),
        (dict(target_modules=[1]), "target_modules is [1]; allowed: null, a list"),
        (dict(target_modules="(query"), "target_modules is '(query'; allowed: null, a list"),
        (dict(exclude_modules=dict(a=1)), "exclude_modules is {'a': 1}; allowed: null"),
        (dict(modules_to_save="("), "modules_to_save is '('; allowed: null or a list"),
        (dict(modules_to_save=["("]), "modules_to_save is ['(']; allowed: null or a list"),
        (dict(layers_to_transform="all"), "layers_to_transform is 'all'; allowed: null, the in"),
        (dict(layers_to_transform=[True]), "layers_to_transform is [True]; allowed: null, the"),
        (dict(layers_pattern=3), "layers_pattern is 3; allowed"),
        (dict(rank_pattern={"query": 0}), "rank_pattern is {'query': 0}; allowed: regular"),
        (dict(rank_pattern={"query": 2.5}), "rank_pattern is {'query': 2.5}; allowed: regular"),
        (dict(rank_pattern={"*": 2}), "rank_pattern is {'*': 2}; allowed: regular"),
        (dict(rank_pattern=["query"]), "rank_pattern is ['query']; allowed: regular"),
        (dict(alpha_pattern={"query": None}), "alpha_pattern is {'query': None}; allowed: reg"),
        (dict(alpha_pattern={"query": 0}), "alpha_pattern is {'query': 0}; allowed: regular"),
        (dict(use_rslora="yes"), "use_rslora is 'yes'; allowed: true or false"),
        (dict(bias="some"), "bias is 'some'; allowed: 'none', 'lora_only', 'all'"),
        (dict(init_lora_weights=1), "init_lora_weights is 1; allowed: True, False"),
        (
            dict(init_lora_weights="olora"),
            "others change the frozen weights, so merge this adapter with peft",
        ),
        (
            dict(target_modules=".*query", layers_to_transform=[1]),
            "layers_to_transform is set and target_modules is a regular expression",
        ),
    ],
    ids=str,
)
def test_a_value_of_the_wrong_type_is_one_problem(folder, changes, message):
    with_config(folder, **changes)
    with pytest.raises(ConfigError) as caught:
        peft_header.describe_folder(folder)
    assert len(caught.value.problems) == 1 and message in caught.value.problems[0]


def test_peft_resets_fan_in_fan_out(bert_dir, tmp_path):
    """It is for Conv1D; peft ignores it for the linear layers of BERT and RoBERTa."""
    deltas = []
    for value in (False, True):
        with pytest.warns(UserWarning) if value else torch.no_grad():
            theirs = peft_model(bert_dir, fan_in_fan_out=value)
        layer = theirs.base_model.model.bert.encoder.layer[0].attention.self.query
        deltas.append(layer.get_delta_weight("default"))
    assert torch.equal(*deltas)


def test_mica_does_not_change_the_frozen_weights(bert_dir, tmp_path):
    """So its A and B are the whole adapter."""
    theirs = peft_model(bert_dir, init_lora_weights="mica", dtype=torch.float32)
    plain = peft_model(bert_dir, dtype=torch.float32)
    frozen = {name: value for name, value in theirs.named_parameters() if "base_layer" in name}
    assert frozen and all(
        torch.equal(value, dict(plain.named_parameters())[name]) for name, value in frozen.items()
    )
