"""Modules of an encoder by shared names; the families' tests compare their outputs."""

import torch
from helpers.models import make_model, sentences

from lora.model import modules, pretrained


def test_embeddings_have_the_bits_of_transformers(model_dir, family):
    base = pretrained.load_base(model_dir)
    ids, types, _ = (torch.from_numpy(part).long() for part in sentences(3, 1))
    types = types if family == "bert" else torch.zeros_like(types)
    positions = torch.arange(len(ids)) % 30 + 2
    ours = modules.embed(base, ids, types, positions)
    theirs = base.embeddings(
        input_ids=ids[None], token_type_ids=types[None], position_ids=positions[None]
    )[0]
    assert torch.equal(ours, theirs)


def test_modules_are_those_of_distilbert(tmp_path):
    base = pretrained.load_base(make_model("distilbert", tmp_path))
    for index, (one, theirs) in enumerate(
        zip(modules.layers_of(base), base.transformer.layer, strict=True)
    ):
        assert one.inner is theirs.ffn.lin1 and one.outer is theirs.ffn.lin2
        assert one.attention_norm is theirs.sa_layer_norm
        assert one.ffn_norm is theirs.output_layer_norm
        for letter, linear in one.projections.items():
            assert modules.linear_of(base, index, letter) is linear
        assert one.projections["o"] is theirs.attention.out_lin
    assert modules.embedding_projection_of(base, modules.architecture_of(base)) is None
