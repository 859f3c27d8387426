"""Packed and solo training at the widths of published models.

How a CPU's library computes a matrix product depends on its sizes. The models of other tests are
too narrow to show that.
"""

import pytest
import torch
from helpers.models import make_model
from helpers.training import adapter_of, make_spec, rows_of, train

from lora.training import device

CPU = torch.device("cpu")

# Of MiniLM, RoBERTa-base and RoBERTa-large.
SIZES = {
    width: dict(
        hidden_size=width, intermediate_size=4 * width, num_attention_heads=heads,
        num_hidden_layers=2, initializer_range=0.02,
    )
    for width, heads in ((384, 12), (768, 12), (1024, 16))
}  # fmt: skip


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("width", SIZES)
def test_a_pack_of_a_published_width_equals_its_runs_trained_alone(
    tokens_dir, tmp_path, two_threads, width, precision
):
    if precision == "bf16" and width > 384 and device.pick_precision("auto", CPU) != "bf16":
        pytest.skip("bf16 is slow on this CPU")
    model_dir = make_model("roberta", tmp_path / "model", **SIZES[width])

    def wanted(folder):
        return [
            make_spec(folder, seed, weights, rank, epochs=1, learning_rate=1e-3)
            for seed, weights, rank in ((0, "qv", 8), (1, "q", 2), (2, "qkvo", 4))
        ]

    train(wanted(tmp_path / "pack"), model_dir, tokens_dir, tmp_path / "state", precision=precision)
    for one in wanted(tmp_path / "solo"):
        train([one], model_dir, tokens_dir, tmp_path / "solo-state", precision=precision)
    for one, other in zip(wanted(tmp_path / "pack"), wanted(tmp_path / "solo"), strict=True):
        assert rows_of(one) == rows_of(other) and adapter_of(one) == adapter_of(other)
