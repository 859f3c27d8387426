"""Cutting steps into passes: nothing lost, memory predicted, and running out of it changes no
result.
"""

import types

import numpy as np
import pytest
import torch
from helpers.training import adapter_of, make_spec, rows_of, train

from lora.columns import METRICS_COLUMNS
from lora.data.tokens import Tokens
from lora.experiment.cell import BASE_METHODS, Cell
from lora.files import read_csv
from lora.model import attention, collate, memory, methods, packed_model, pretrained
from lora.training import batching, loop
from lora.training import device as machine


def made_run(lengths) -> types.SimpleNamespace:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    nothing = np.zeros(offsets[-1], np.int32)
    train_set = Tokens(
        nothing, offsets, nothing.astype(np.uint8), np.zeros(len(lengths), np.float32)
    )
    return types.SimpleNamespace(tokens=dict(train=train_set))


def test_a_pass_holds_whole_steps_until_it_is_full():
    runs = [made_run([5, 5]), made_run([4, 4]), made_run([9, 9])]
    found = batching.split_step([(run, np.arange(2)) for run in runs], batching.TokenBudget(20))
    assert [[runs.index(piece.run) for piece in one] for one in found] == [[0, 1], [2]]
    assert [sum(piece.tokens for piece in one) for one in found] == [18, 18]


def test_a_step_too_large_is_cut_into_micro_batches_and_nothing_is_lost():
    run = made_run([7, 3, 9, 9, 2])
    found = [
        piece
        for one in batching.split_step([(run, np.array([4, 2, 0, 1, 3]))], batching.TokenBudget(12))
        for piece in one
    ]
    assert np.concatenate([piece.indices for piece in found]).tolist() == [4, 2, 0, 1, 3]
    assert [piece.first for piece in found] == [0, 2, 4] and all(
        piece.tokens <= 12 for piece in found
    )
    assert {piece.step_size for piece in found} == {5}


def test_running_out_of_memory_splits_the_pack_and_changes_no_bit(
    bert_dir, tokens_dir, tmp_path, monkeypatch, caplog
):
    """The device refuses passes of more than 150 tokens, whatever was planned: rows and adapters
    are the same.
    """
    monkeypatch.setitem(
        batching.EVAL_TOKENS, "cpu", 60
    )  # a run's part of an evaluation, which is not cut further
    whole = [make_spec(tmp_path / "whole", seed, epochs=1) for seed in (0, 1, 2)]
    train(whole, bert_dir, tokens_dir, tmp_path / "whole-state")
    forward, refused = packed_model.PackedModel.forward, []

    def small(self, step):
        if len(step.ids_T) > 150:
            refused.append(len(step.ids_T))
            raise torch.OutOfMemoryError("made up")
        return forward(self, step)

    monkeypatch.setattr(packed_model.PackedModel, "forward", small)
    parts = [make_spec(tmp_path / "parts", seed, epochs=1) for seed in (0, 1, 2)]
    train(parts, bert_dir, tokens_dir, tmp_path / "parts-state")
    assert refused and "out of memory in a pass of" in caplog.text
    for one, other in zip(whole, parts, strict=True):
        assert rows_of(one) == rows_of(other) and adapter_of(one) == adapter_of(other)


def test_running_out_of_memory_halfway_through_a_backward_pass_counts_nothing_twice(
    bert_dir, tokens_dir, tmp_path, monkeypatch
):
    """Gradients and losses of the passes that went well before the failing one are undone."""
    whole, parts = make_spec(tmp_path / "a", 0, epochs=1), make_spec(tmp_path / "b", 0, epochs=1)
    train([whole], bert_dir, tokens_dir, tmp_path / "sa", micro_batch=4)
    add, calls = loop._forward_backward, []

    def failing(model, pieces):
        add(model, pieces)
        calls.append(pieces)
        if len(calls) == 2:
            raise RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"
            )

    monkeypatch.setattr(loop, "_forward_backward", failing)
    monkeypatch.setattr(batching.TokenBudget, "shrink", lambda *_: None)
    train([parts], bert_dir, tokens_dir, tmp_path / "sb", micro_batch=4)
    assert rows_of(whole) == rows_of(parts)


def test_one_example_that_does_not_fit_is_said(bert_dir, tokens_dir, tmp_path, monkeypatch):
    def never(self, step):
        raise torch.OutOfMemoryError("made up")

    monkeypatch.setattr(packed_model.PackedModel, "forward", never)
    with pytest.raises(
        MemoryError, match="a single example of .* tokens; free memory, pack fewer runs"
    ):
        train([make_spec(tmp_path, 0)], bert_dir, tokens_dir, tmp_path / "state")


def test_other_errors_are_not_taken_for_memory(bert_dir, tokens_dir, tmp_path, monkeypatch):
    def broken(self, step):
        raise RuntimeError("something else")

    monkeypatch.setattr(packed_model.PackedModel, "forward", broken)
    with pytest.raises(RuntimeError, match="something else"):
        train([make_spec(tmp_path, 0)], bert_dir, tokens_dir, tmp_path / "state")


def test_a_pack_that_cannot_fit_says_the_largest_that_would(
    bert_dir, tokens_dir, tmp_path, monkeypatch
):
    base = pretrained.load_base(bert_dir)
    count = methods.trainable_parameters(
        base, methods.AdapterSpec(0, "qv", 4, 2, make_spec(tmp_path, 0).hparams)
    )
    example = machine.activation_bytes(
        base.config, np.array([20]), np.array([32]), 4, torch.float32
    )
    monkeypatch.setattr(
        batching, "free_bytes", lambda device: int((2.5 * 20 * count + example) / batching.SHARE)
    )
    wanted = [make_spec(tmp_path, seed) for seed in (0, 1, 2)]
    with pytest.raises(
        ValueError, match="a pack of 3 runs needs .* the largest pack that fits has 2 of its runs"
    ):
        train(wanted, bert_dir, tokens_dir, tmp_path / "state")
    train(wanted[:2], bert_dir, tokens_dir, tmp_path / "state")


@pytest.mark.parametrize(
    "method, weights, rank",
    [
        ("lora", "qv", 4),
        ("lora", "qkvo", 4),
        ("ft", "all", 0),
        ("bitfit", "bias", 0),
        ("adapter_houlsby", "both", 4),
        ("adapter_drop", "ffn1", 4),
    ],
)
def test_trainable_parameters_are_those_of_the_model(bert_dir, method, weights, rank, tmp_path):
    base = pretrained.load_base(bert_dir)
    member = methods.AdapterSpec(
        0, weights, rank, 2, make_spec(tmp_path, 0).hparams, method, int(method == "adapter_drop")
    )
    counts = packed_model.PackedModel(base, [member]).counts(0)
    assert methods.trainable_parameters(base, member) == counts["trainable"] + counts["head"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dropout", [0, 0.1])
@pytest.mark.parametrize(
    "method, weights, lengths",
    [
        ("lora", "qv", (10, 20)),
        ("lora", "qkvo", (30, 60)),
        ("lora", "q", (100, 128)),
        ("adapter_houlsby", "both", (30, 60)),
        ("adapter_pfeiffer", "ffn", (30, 60)),
        ("ft", "all", (30, 60)),
        ("bitfit", "bias", (30, 60)),
    ],
)
def test_predicted_activations_are_what_autograd_keeps(
    method, weights, lengths, dropout, dtype, tmp_path
):
    """The bytes that a pass saves for its gradient, counted by torch itself, are within a quarter
    of the prediction: never more than predicted by more than a twentieth.
    """
    import transformers

    config = transformers.BertConfig(
        hidden_size=128,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=512,
        vocab_size=100,
    )
    torch.manual_seed(0)
    base = transformers.BertModel(config).to(dtype).requires_grad_(False).eval()
    one = make_spec(tmp_path, 0, "q", 8, lora_dropout=dropout)
    model = packed_model.PackedModel(
        base, [methods.AdapterSpec(0, weights, 8, 2, one.hparams, method)]
    )
    random = np.random.default_rng(0)
    count = random.integers(lengths[0], lengths[1] + 1, 16)
    step = model.batch(
        [
            collate.RunSequences(
                0, random.integers(5, 99, count.sum()), np.zeros(count.sum(), int), count, 0, 0
            )
        ]
    )
    frozen = {value.untyped_storage().data_ptr() for value in base.parameters()}
    kept = {}

    def note(tensor):
        place = tensor.untyped_storage().data_ptr()
        if tensor.dtype == dtype and place not in frozen:
            kept[place] = (
                tensor.untyped_storage().nbytes(),
                tensor,
            )  # held, so that no place is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model(step)[0].sum().backward()
    measured = sum(size for size, _ in kept.values())
    worked_with = 4 * count.sum() * 512 * dtype.itemsize
    cell = Cell("m", "t", method, weights, 0 if method in BASE_METHODS else 4, "p")
    lora_inputs = memory.lora_inputs(cell.method, cell.weights, one.hparams.lora_dropout)
    predicted = (
        machine.activation_bytes(config, count, attention.widths_of(count), lora_inputs, dtype)
        - worked_with
    )
    assert 0.75 * predicted < measured < 1.05 * predicted


def test_metrics_file_is_untouched_by_the_memory_plan(
    bert_dir, tokens_dir, tmp_path, monkeypatch, caplog
):
    """Little memory: more passes, the same bits, and the prediction is told."""
    roomy, tight = make_spec(tmp_path / "a", 0, epochs=1), make_spec(tmp_path / "b", 0, epochs=1)
    train([roomy, make_spec(tmp_path / "a", 1, epochs=1)], bert_dir, tokens_dir, tmp_path / "sa")
    monkeypatch.setattr(batching, "TRAIN_TOKENS", {"cpu": 170})
    with caplog.at_level("INFO"):
        train(
            [tight, make_spec(tmp_path / "b", 1, epochs=1)], bert_dir, tokens_dir, tmp_path / "sb"
        )
    assert "GiB of tensors predicted (model" in caplog.text and "passes of up to 1" in caplog.text
    assert rows_of(roomy) == rows_of(tight)
    assert read_csv(tight.output_dir / "metrics.csv", METRICS_COLUMNS)[0]["status"] == "ok"
