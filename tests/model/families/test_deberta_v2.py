"""DeBERTa-v2 and v3 against transformers and peft."""

import json

import pytest
import torch
import transformers
from helpers.encoders import member, packed, padded
from helpers.families import CLOSE, FamilyChecks, run_of
from helpers.models import make_model, sentences

from lora.errors import ConfigError
from lora.model import collate, config, dropout, modules, packed_model, pretrained

RATES = dict(hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.3, cls_dropout=0.4)


class DeBERTaChecks(FamilyChecks):
    family = "deberta-v2"

    def test_dropout_is_where_transformers_has_it(self, tmp_path):
        """The logits are transformers' with our masks in place of its dropout modules."""
        folder = make_model(self.family, tmp_path / "m", **self.changes | RATES)
        base = pretrained.load_base(folder, torch.float64)
        model = packed_model.PackedModel(base, [run_of("lora")])
        ids, types, lengths = sentences(40, 5, longest=16, types=False)
        ids, types, lengths = ids[:16], types[:16], lengths[:1] * 0 + 16  # no padding in attention
        batch = model.batch([collate.RunSequences(0, ids, types, lengths, seed=3, step=7)])
        theirs = self.classifier(folder).train()
        with torch.no_grad():
            for name, value in model.heads.parameters_of(0).items():
                names = {"dense": "pooler.dense", "out": "classifier"}
                module, kind = name.split(".")
                theirs.get_parameter(f"{names[module]}.{kind}").copy_(value)
        keys, calls = batch.dropout_keys, []
        layers = modules.architecture_of(base).layers

        def replace(path, row_keys):
            def drop(x):
                calls.append(path)
                rows, rate = row_keys.view(x.shape[:-1]), module.p
                columns = dropout.column_keys(x.shape[-1], x.device)
                keep = dropout.keep_mask(rows, columns, x.shape[-1], rate, x.dtype)
                return x * keep / (1 - rate)

            module = theirs.get_submodule(path)
            module.forward = drop

        replace("deberta.embeddings.dropout", keys[0])
        for layer in range(layers):
            site, path = 1 + 6 * layer, f"deberta.encoder.layer.{layer}"
            replace(f"{path}.attention.self.pos_dropout", batch.positions.dropout_keys[site])
            replace(f"{path}.attention.self.dropout", batch.attention_keys[layer])
            replace(f"{path}.attention.output.dropout", keys[site])
            replace(f"{path}.output.dropout", keys[site + 1])
        if self.changes.get("conv_kernel_size"):
            replace("deberta.encoder.conv.dropout", keys[-3])
        replace("dropout", keys[-1][:1])
        wanted = theirs(**padded(ids, types, lengths, 0)).logits
        others = [one for one in theirs.modules() if isinstance(one, torch.nn.Dropout)]
        assert len(calls) == len(others) - 1  # the pooler's has rate 0
        assert (model(batch)[0] - wanted).abs().max() < CLOSE


class TestDeBERTaV3(DeBERTaChecks):
    """The shape of DeBERTa-v3: shared projections, LayerNorm of the table, no convolution."""


class TestDeBERTaV2XXL(DeBERTaChecks):
    """The shape of DeBERTa-v2-xlarge and -xxlarge: a convolution; up to 512 tokens."""

    changes = dict(
        conv_kernel_size=3, conv_act="gelu", position_buckets=256, max_position_embeddings=512
    )


class TestDeBERTaWithOwnProjections(DeBERTaChecks):
    """Projections of positions that nothing adapts, one term, a row for each distance."""

    changes = dict(
        share_att_key=False,
        pos_att_type="p2c",
        norm_rel_ebd="none",
        position_buckets=-1,
        max_relative_positions=12,  # shorter than the text: far distances share the last row
        conv_kernel_size=5,
    )


@pytest.mark.parametrize("kinds", ["c2p", "p2c", "c2p|p2c"])
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("kernel", [0, 3])
def test_every_combination_equals_transformers(tmp_path, kinds, share, depth, kernel):
    changes = dict(pos_att_type=kinds, share_att_key=share, num_hidden_layers=depth)
    folder = make_model("deberta-v2", tmp_path / "m", conv_kernel_size=kernel, **changes)
    model = packed(folder, member(0, "qkvo", 3))
    batch = sentences(8, 3, longest=40, types=False)
    hidden = model.encoder.encode(model.batch([collate.RunSequences(0, *batch)]))
    with model.merged(0) as base, torch.no_grad():
        wanted = base(**padded(*batch, 0)).last_hidden_state[:, 0]
    assert (hidden - wanted).abs().max() < CLOSE


@pytest.mark.parametrize("dtype, close", [(torch.float32, 1e-4), (torch.bfloat16, 0.15)])
def test_lower_precision_is_close(tmp_path, dtype, close):
    folder = make_model("deberta-v2", tmp_path / "m", **TestDeBERTaV2XXL.changes)
    batch = sentences(8, 3, longest=200, types=False)

    def hidden(one):
        model = packed_model.PackedModel(pretrained.load_base(folder, one), [run_of("lora")])
        return model.encoder.encode(model.batch([collate.RunSequences(0, *batch)])).double()

    wanted = hidden(torch.float64)
    assert ((hidden(dtype) - wanted).norm() / wanted.norm()) < close


def test_masks_do_not_depend_on_the_micro_batch(tmp_path):
    """A step in two micro-batches has the same logits as whole, positions' dropout included."""
    folder = make_model("deberta-v2", tmp_path / "m", conv_kernel_size=3)
    model = packed_model.PackedModel(pretrained.load_base(folder, torch.float64), [run_of("lora")])
    ids, types, lengths = sentences(6, 3, types=False)
    at = lengths[:2].sum()
    whole = model(model.batch([collate.RunSequences(0, ids, types, lengths, 1, 2)]))[0]
    first = collate.RunSequences(0, ids[:at], types[:at], lengths[:2], 1, 2)
    second = collate.RunSequences(0, ids[at:], types[at:], lengths[2:], 1, 2, first_example=2)
    parts = torch.cat([model(model.batch([part]))[0] for part in (first, second)])
    assert (whole - parts).abs().max() < 1e-12


REFUSED = {
    "relative_attention": [False, None],
    "position_biased_input": [True, None],
    "type_vocab_size": [2],
    "pooler_dropout": [0.1],
    "pooler_hidden_act": ["tanh"],
    "pos_att_type": ["", None, [], "c2c", ["c2p", "x"], 3, {"c2p": 1}],
    "position_buckets": [2, "256", 1.5],
    "max_relative_positions": ["512", 0.5],
    "conv_kernel_size": [2, "3"],
    "conv_act": ["swish", 3],
    "conv_groups": [2],
    "embedding_size": [16],
    "pooler_hidden_size": [16],
    "attention_head_size": [4],
    "norm_rel_ebd": [3],
    "cls_dropout": [1, "0.1"],
}


@pytest.mark.parametrize("key, value", [(key, one) for key, of in REFUSED.items() for one in of])
def test_what_is_not_computed_is_refused_by_name(tmp_path, key, value):
    make_model("deberta-v2", tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(content | {key: value}))
    with pytest.raises(ConfigError, match=f"(?s)not supported.*{key} is .*allowed"):
        config.read(tmp_path)


def test_the_published_configs_are_accepted(tmp_path):
    """Keys of config.json of DeBERTa-v2-xxlarge and v3-base, as published."""
    common = dict(
        model_type="deberta-v2",
        attention_probs_dropout_prob=0.1,
        hidden_act="gelu",
        hidden_dropout_prob=0.1,
        initializer_range=0.02,
        max_position_embeddings=512,
        relative_attention=True,
        position_buckets=256,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type="p2c|c2p",
        layer_norm_eps=1e-7,
        max_relative_positions=-1,
        position_biased_input=False,
        pooler_dropout=0,
        pooler_hidden_act="gelu",
        type_vocab_size=0,
        vocab_size=128100,
        pad_token_id=0,
    )
    xxl = dict(hidden_size=1536, intermediate_size=6144, num_attention_heads=24)
    xxl |= dict(num_hidden_layers=48, conv_kernel_size=3, conv_act="gelu", pooler_hidden_size=1536)
    base = dict(hidden_size=768, intermediate_size=3072, num_attention_heads=12)
    base |= dict(num_hidden_layers=12, pooler_hidden_size=768)
    for settings in (xxl, base):
        (tmp_path / "config.json").write_text(json.dumps(common | settings))
        read = config.read(tmp_path)
        with torch.device("meta"):
            model = transformers.DebertaV2Model(transformers.DebertaV2Config(**read))
        architecture = modules.architecture_of(model)
        names = architecture.family.tensor_names(
            architecture.layers, False, architecture.relative, architecture.convolution
        )
        assert names == set(model.state_dict())
