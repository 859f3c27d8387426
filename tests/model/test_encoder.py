"""The packed, unpadded forward pass against padded transformers and peft, in float64."""

import numpy as np
import pytest
import torch
from helpers.encoders import member, packed, padded, peft_twin
from helpers.models import make_model, sentences

from lora.adapters import peft_names
from lora.model import collate, config, encoder
from lora.model.run_biases import RunBiases


@pytest.mark.filterwarnings("ignore:.*newly initialized.*")
def test_exported_adapter_gives_same_logits_in_peft(model_dir, family, tmp_path):
    """Two runs of different rank, weights and labels: each equals its own peft model."""
    model = packed(model_dir, member(0, "qv", 4), member(1, "qkvo", 2, num_labels=2))
    batches = [sentences(5, 1, types=family == "bert"), sentences(7, 2, types=family == "bert")]
    step = model.batch([collate.RunSequences(run, *batch) for run, batch in enumerate(batches)])
    pad = model.base.config.pad_token_id
    for run, (batch, logits) in enumerate(zip(batches, model(step), strict=True)):
        theirs = peft_twin(model_dir, model, run, tmp_path / str(run)).eval()
        wanted = theirs(**padded(*batch, pad)).logits
        assert (logits - wanted).abs().max() < 1e-12


@pytest.mark.filterwarnings("ignore:.*newly initialized.*")
@pytest.mark.parametrize("pad", [-1, 0, 1, 4, 20, None])
@pytest.mark.parametrize("types", [1, 2, 3])
def test_pad_id_and_segments_are_those_of_transformers(family, pad, types, tmp_path):
    """Any pad id and number of segments, up to the last position.

    To the kind belong: pad ids of either family from 0 to beyond the usual ones, none, negative,
    and padding tokens inside a text, at its start and at its end.
    """
    if family == "roberta" and pad is None:
        pytest.skip("refused by lora.model.config: transformers fails too")
    folder = make_model(family, tmp_path / "model", pad_token_id=pad, type_vocab_size=types)
    model = packed(folder, member(0, "qv", 4))
    longest = config.longest_sequence(model.base.config.to_dict())
    assert longest == 40 - (0 if family == "bert" else pad + 1)
    ids, halves, lengths = sentences(6, 4, longest=longest)
    lengths[0] = longest
    total = lengths.sum()
    batch = [np.resize(ids, total), np.resize(halves, total) * (types - 1), lengths]
    if pad is not None and pad >= 0:
        batch[0][[1, 2, longest - 1, longest, total - 1]] = pad
    step = model.batch([collate.RunSequences(0, *batch)])
    theirs = peft_twin(folder, model, 0, tmp_path / "twin").eval()
    for row, logits in enumerate(model(step)[0]):
        start, end = lengths[:row].sum(), lengths[: row + 1].sum()
        wanted = theirs(
            input_ids=torch.tensor(batch[0][None, start:end].astype(int)),
            token_type_ids=torch.tensor(batch[1][None, start:end].astype(int)),
        ).logits[0]
        assert (logits - wanted).abs().max() < 1e-12


def test_gradients_match_peft(model_dir, family, tmp_path):
    model = packed(model_dir, member(0, "qkvo", 3))
    batch = sentences(6, 3, types=family == "bert")
    step = model.batch([collate.RunSequences(0, *batch)])
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
        twin = peft_names.peft_name(name, family)
        if twin not in wanted:  # peft wraps a module to save one level deeper
            twin = next(key for key in wanted if key.replace(".modules_to_save", "") == twin)
        assert (gradient - wanted[twin].grad).abs().max() < 1e-11, name


def test_only_adapter_and_head_train(model_dir):
    model = packed(model_dir, member(0, "qv", 4))
    step = model.batch([collate.RunSequences(0, *sentences(4, 1, types=False))])
    model(step)[0].sum().backward()
    assert all(value.grad is None and not value.requires_grad for value in model.base.parameters())
    assert model.gradients_of(0).keys() == model.parameters_of(0).keys()
    assert all(value.any() for name, value in model.gradients_of(0).items())


def test_sentences_never_attend_to_each_other(model_dir):
    """Changing one sequence changes its own logits only, bit for bit."""
    model = packed(model_dir, member())
    ids, types, lengths = sentences(4, 5, types=False)
    other = ids.copy()
    other[lengths[0] + 1] = (other[lengths[0] + 1] + 1) % 50 + 5
    step = [model.batch([collate.RunSequences(0, rows, types, lengths)]) for rows in (ids, other)]
    before, after = (model(one)[0] for one in step)
    moved = (before != after).any(dim=1)
    assert moved.tolist() == [False, True, False, False]


def test_merge_and_unmerge(model_dir):
    """The merged base needs no adapter; unmerging restores it bit for bit."""
    model = packed(model_dir, member(0, "qkvo", 4))
    step = model.batch([collate.RunSequences(0, *sentences(5, 1, types=False))])
    before = {name: value.clone() for name, value in model.base.state_dict().items()}
    wanted = model.encoder.encode(step)
    with model.merged(0) as base:
        alone = encoder.Encoder(base, {}, {}, [0.0], RunBiases(base, [[]]))
        assert (alone.encode(step) - wanted).abs().max() < 1e-12
        name = "encoder.layer.0.attention.self.query.weight"
        assert not torch.equal(base.get_parameter(name), before[name])
    assert all(torch.equal(value, before[name]) for name, value in model.base.state_dict().items())
