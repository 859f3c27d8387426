"""Operations and parameters against torch's counter, published values and finished runs."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
import transformers
from helpers.methods import WEIGHTS, hparams_of
from helpers.models import ROOT
from helpers.synthetic import SIZES, parameters
from torch.utils.flop_counter import FlopCounterMode

from lora.experiment.cell import BASE_METHODS, METHODS, Cell
from lora.model import collate, methods, packed_model
from lora.planning import flops as arithmetic
from lora.planning import workload
from lora.planning.workload import Split

MFLOP = 1e6


@pytest.mark.parametrize("embedding", [0, 32])
@pytest.mark.parametrize(
    "method, weights, rank, head",
    [
        *(("lora", weights, 8, "trained") for weights in ("q", "k", "v", "o", "qv", "qk", "qkvo")),
        ("lora", "qv", 64, "frozen"),
        *(
            (method, WEIGHTS[method], 0 if method in BASE_METHODS else 8, "trained")
            for method in METHODS
            if method != "lora"
        ),
    ],
)
def test_operations_agree_with_torch(method, weights, rank, head, embedding):
    """Forward and backward pass of the engine's encoder, also with embeddings of another width. The
    sentences have a length and a number that need no padding.
    """
    shape = workload.Shape(
        layers=3, width=64, inner=160, heads=4, vocabulary=100, positions=64, types=2
    )
    shape = dataclasses.replace(shape, embedding=embedding)
    config = transformers.ElectraConfig(
        embedding_size=embedding or shape.width,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.inner,
        vocab_size=shape.vocabulary,
        max_position_embeddings=shape.positions,
    )
    base = transformers.ElectraModel(config).requires_grad_(False).eval()
    cell = Cell("m", "t", method, weights, rank, "p")
    hparams = dataclasses.replace(hparams_of(), head=head, lora_dropout=0.0)
    model = packed_model.PackedModel(
        base, [methods.AdapterSpec(0, weights, rank, 3, hparams, method, cell.first_layer)]
    )
    lengths = np.full(40, 16)
    random = np.random.default_rng(0)
    given = (0, random.integers(5, 99, lengths.sum()), np.zeros(lengths.sum(), int), lengths)
    mapping = {  # not counted by torch: in-place products, fused attention of a CPU
        torch.ops.aten.addmm_: lambda out, a, b, *rest, out_shape=None, **more: (
            2 * math.prod(a) * b[1]
        ),
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, *rest, **more: (
            4 * math.prod(q) * k[2]
        ),
    }

    def counted(step, backward):
        with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
            logits = model(model.batch([collate.RunSequences(*given, *step)]))[0]
            if backward:
                logits.sum().backward()
        return counter.get_total_flops() / lengths.sum()

    expected = arithmetic.per_token(shape, cell, Split(40, 16, 16), 3, head == "trained")
    assert counted((0, 0), True) == pytest.approx(expected.training, rel=1e-9)
    with torch.no_grad():
        assert counted((), False) == pytest.approx(expected.forward, rel=1e-9)


def test_operations_agree_with_published_values():
    """FlopCounterMode on transformers' RoBERTa with r=8 on q and v, 40 tokens: 342.4 and 1,218
    MFLOP a token, forward 172.0 and 609.5, full fine-tuning 514.1 and 1,824. The last layer's
    first token alone saves 6.4 to 6.9 % of base.
    """
    for model, whole, tuned, saved in (
        ("roberta-base", 342.4, 514.1, (0.064, 0.069)),
        ("roberta-large", 1218, 1824, (0.03, 0.04)),
    ):
        shape, _ = workload.shape_of("/nowhere", model)
        split = Split(1, 40, 40)
        flops = (
            arithmetic.per_token(
                shape, Cell(model, "mnli", "lora", "qv", 8, "paper"), split, 3
            ).training
            / MFLOP
        )
        assert saved[0] <= 1 - flops / whole <= saved[1]
        full = (
            arithmetic.per_token(
                shape, Cell(model, "mnli", "ft", "all", 0, "paper"), split, 3
            ).training
            / MFLOP
        )
        assert saved[0] <= 1 - full / tuned <= saved[1]


def test_trained_parameters_agree_with_finished_runs_and_known_counts():
    for model in SIZES:
        shape, _ = workload.shape_of("/nowhere", model)
        for method, weights in WEIGHTS.items():
            cell = Cell(model, "sst2", method, weights, 0 if method in BASE_METHODS else 8, "p")
            assert arithmetic.trainable(shape, cell) == parameters(cell)
    record = json.loads(
        next((ROOT / "results/reference/runs").rglob("product-sentiment/**/run.json")).read_text()
    )
    shape, _ = workload.shape_of("/nowhere", "minilm")
    assert arithmetic.head(shape, 3) == record["parameters"]["head"]
