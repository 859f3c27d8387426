"""The packed, unpadded forward pass against padded transformers and peft, in float64, for both model families."""

import numpy as np
import pytest
import torch
import transformers
from helpers.encoders import member, packed, padded, peft_twin
from helpers.models import sentences

from lora.adapters import peft_folder
from lora.model import encoder, packed_model


@pytest.mark.filterwarnings("ignore:.*newly initialized.*")
def test_exported_adapter_gives_same_logits_in_peft(model_dir, family, tmp_path):
    """Two runs of other rank, weights and labels in one pass: each equals its own peft model on padded sentences."""
    model = packed(model_dir, member(0, "qv", 4), member(1, "qkvo", 2, num_labels=2))
    batches = [sentences(5, 1, types=family == "bert"), sentences(7, 2, types=family == "bert")]
    step = model.batch([encoder.Part(run, *batch) for run, batch in enumerate(batches)])
    pad = model.base.config.pad_token_id
    for run, (batch, logits) in enumerate(zip(batches, model(step), strict=True)):
        theirs = peft_twin(model_dir, model, run, tmp_path / str(run)).eval()
        wanted = theirs(**padded(*batch, pad)).logits
        assert (logits - wanted).abs().max() < 1e-12


def test_gradients_match_peft(model_dir, family, tmp_path):
    model = packed(model_dir, member(0, "qkvo", 3))
    batch = sentences(6, 3, types=family == "bert")
    step = model.batch([encoder.Part(0, *batch)])
    theirs = peft_twin(model_dir, model, 0, tmp_path).eval()
    model(step)[0].pow(2).sum().backward()
    theirs(**padded(*batch, model.base.config.pad_token_id)).logits.pow(2).sum().backward()
    wanted = {
        name.replace(".default", ""): value
        for name, value in theirs.named_parameters()
        if value.requires_grad
    }
    gradients = model.gradients_of(0)
    assert gradients.keys() == model.parameters_of(0).keys()
    for name, gradient in gradients.items():
        twin = peft_folder.peft_name(name, family)
        if twin not in wanted:  # peft wraps a module to save one level deeper
            twin = next(key for key in wanted if key.replace(".modules_to_save", "") == twin)
        assert (gradient - wanted[twin].grad).abs().max() < 1e-11, name


def test_only_adapter_and_head_train(model_dir):
    model = packed(model_dir, member(0, "qv", 4))
    step = model.batch([encoder.Part(0, *sentences(4, 1, types=False))])
    model(step)[0].sum().backward()
    assert all(value.grad is None and not value.requires_grad for value in model.base.parameters())
    assert model.gradients_of(0).keys() == model.parameters_of(0).keys()
    assert all(value.any() for name, value in model.gradients_of(0).items())


def test_sentences_never_attend_to_each_other(model_dir):
    """Changing one sentence moves its own logits and no other's bit."""
    model = packed(model_dir, member())
    ids, types, lengths = sentences(4, 5, types=False)
    other = ids.copy()
    other[lengths[0] + 1] = (other[lengths[0] + 1] + 1) % 50 + 5
    step = [model.batch([encoder.Part(0, rows, types, lengths)]) for rows in (ids, other)]
    before, after = (model(one)[0] for one in step)
    moved = (before != after).any(dim=1)
    assert moved.tolist() == [False, True, False, False]


def test_merge_and_unmerge(model_dir):
    """Merged into the base, the run needs no adapter; afterwards the base is what it was, bit for bit."""
    model = packed(model_dir, member(0, "qkvo", 4))
    step = model.batch([encoder.Part(0, *sentences(5, 1, types=False))])
    before = {name: value.clone() for name, value in model.base.state_dict().items()}
    wanted = encoder.encode(
        model.base,
        {name.replace("_", "."): pair for name, pair in model.adapters.items()},
        {},
        [0.0],
        step,
    )
    with model.merged(0) as base:
        assert (encoder.encode(base, {}, {}, [0.0], step) - wanted).abs().max() < 1e-12
        name = "encoder.layer.0.attention.self.query.weight"
        assert not torch.equal(base.get_parameter(name), before[name])
    assert all(torch.equal(value, before[name]) for name, value in model.base.state_dict().items())


@pytest.mark.parametrize(
    "layers, width, heads, wanted", [(12, 768, 12, 294_912), (24, 1024, 16, 786_432)]
)
def test_counts_are_the_papers(layers, width, heads, wanted):
    """RoBERTa-base r=8 on q and v: 294,912 (the paper's 0.3M); large 786,432 (0.8M); the head is counted apart."""
    config = transformers.RobertaConfig(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=4 * width,
        vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, pad_token_id=1,
    )  # fmt: skip
    with torch.device("meta"):
        base = transformers.RobertaModel(config, add_pooling_layer=False)
    model = packed_model.PackedModel(
        base, [member(0, "qv", 8, num_labels=2), member(0, "qv", 8, num_labels=3)], "meta"
    )
    assert [model.counts(run)["trainable"] for run in (0, 1)] == [wanted, wanted]
    if width == 768:
        assert [model.counts(run)["head"] for run in (0, 1)] == [592_130, 592_899]
        assert (
            model.counts(0)["frozen"] == 124_055_040
        )  # RoBERTa-base without pooler and language-model head


def test_initial_values_depend_on_seed_name_and_shape_only(model_dir):
    alone = packed_model.PackedModel(packed_model.load_base(model_dir), [member(3)])
    beside = packed_model.PackedModel(
        packed_model.load_base(model_dir), [member(9, "qkvo", 8), member(3)]
    )
    mine, same = alone.parameters_of(0), beside.parameters_of(1)
    assert all(torch.equal(mine[name], same[name]) for name in mine)
    rank_8 = beside.parameters_of(0)
    assert not torch.equal(rank_8["0.q.a"][:4], mine["0.q.a"])
    assert (mine["0.q.b"] == 0).all()


@pytest.mark.parametrize("init_a, spread", [("kaiming", 1 / np.sqrt(3 * 32)), ("gaussian", 0.02)])
def test_a_starts_as_named(model_dir, init_a, spread):
    model = packed_model.PackedModel(
        packed_model.load_base(model_dir), [member(0, "qkvo", 32, init_a=init_a)]
    )
    values = torch.cat(
        [value.flatten() for name, value in model.parameters_of(0).items() if name.endswith(".a")]
    )
    assert abs(values.std().item() / spread - 1) < 0.03


def test_a_model_of_another_family_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match="model family 'gpt2'; allowed: bert, roberta"):
        packed_model.load_base(tmp_path)


def test_pickled_weights_are_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="safetensors"):
        packed_model.load_base(tmp_path)
