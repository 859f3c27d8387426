"""Initial values: what they depend on, and their spread."""

import numpy as np
import pytest
import torch
from helpers.encoders import member

from lora.model import packed_model, pretrained


def test_initial_values_depend_on_seed_name_and_shape_only(model_dir):
    alone = packed_model.PackedModel(pretrained.load_base(model_dir), [member(3)])
    pack = packed_model.PackedModel(
        pretrained.load_base(model_dir), [member(9, "qkvo", 8), member(3)]
    )
    mine, same = alone.parameters_of(0), pack.parameters_of(1)
    assert all(torch.equal(mine[name], same[name]) for name in mine)
    rank_8 = pack.parameters_of(0)
    assert not torch.equal(rank_8["0.q.a"][:4], mine["0.q.a"])
    assert (mine["0.q.b"] == 0).all()


@pytest.mark.parametrize("init_a, spread", [("kaiming", 1 / np.sqrt(3 * 32)), ("gaussian", 0.02)])
def test_a_has_the_named_initial_distribution(model_dir, init_a, spread):
    model = packed_model.PackedModel(
        pretrained.load_base(model_dir), [member(0, "qkvo", 32, init_a=init_a)]
    )
    values = torch.cat(
        [value.flatten() for name, value in model.parameters_of(0).items() if name.endswith(".a")]
    )
    assert abs(values.std().item() / spread - 1) < 0.03
