"""Micro-batches: complete, within the token budget, and without effect on results.

Also the predicted memory, against what autograd saves, and recovery from out-of-memory errors.
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
from lora.model import attention, collate, memory, methods, modules, packed_model, pretrained
from lora.training import batching, device, pack_step


def make_run(lengths: list[int]) -> types.SimpleNamespace:
    """Return a stand-in for a run whose training examples have these lengths in tokens."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.zeros(offsets[-1], np.int32)
    train_set = Tokens(ids, offsets, ids.astype(np.uint8), np.zeros(len(lengths), np.float32))
    return types.SimpleNamespace(tokens=dict(train=train_set))


def test_micro_batch_takes_complete_steps_up_to_the_token_budget():
    runs = [make_run([5, 5]), make_run([4, 4]), make_run([9, 9])]
    steps = [(run, np.arange(2)) for run in runs]
    micro_batches = batching.split_step(steps, batching.TokenBudget(20))
    assert [[runs.index(piece.run) for piece in pieces] for pieces in micro_batches] == [
        [0, 1],
        [2],
    ]
    assert [sum(piece.tokens for piece in pieces) for pieces in micro_batches] == [18, 18]


def test_step_above_the_token_budget_is_split_in_order():
    """Every example is in one micro-batch, and each knows the size of its step."""
    run = make_run([7, 3, 9, 9, 2])
    steps = [(run, np.array([4, 2, 0, 1, 3]))]
    micro_batches = batching.split_step(steps, batching.TokenBudget(12))
    pieces = [piece for micro_batch in micro_batches for piece in micro_batch]
    assert np.concatenate([piece.indices for piece in pieces]).tolist() == [4, 2, 0, 1, 3]
    assert [piece.first for piece in pieces] == [0, 2, 4]
    assert all(piece.tokens <= 12 for piece in pieces)
    assert {piece.step_size for piece in pieces} == {5}


def test_out_of_memory_splits_the_pack_and_changes_no_bit(
    bert_dir, tokens_dir, tmp_path, monkeypatch, caplog
):
    """Every pass of more than 150 tokens fails: rows and adapters are the same."""
    # Tokens of one run in an evaluation batch, which is not split further.
    monkeypatch.setitem(batching.EVAL_TOKENS, "cpu", 60)
    expected = [make_spec(tmp_path / "expected", seed, epochs=1) for seed in (0, 1, 2)]
    train(expected, bert_dir, tokens_dir, tmp_path / "expected-state")
    forward, failed = packed_model.PackedModel.forward, []

    def forward_up_to_150_tokens(self, step):
        if len(step.ids_T) > 150:
            failed.append(len(step.ids_T))
            raise torch.OutOfMemoryError("made up")
        return forward(self, step)

    monkeypatch.setattr(packed_model.PackedModel, "forward", forward_up_to_150_tokens)
    split = [make_spec(tmp_path / "split", seed, epochs=1) for seed in (0, 1, 2)]
    train(split, bert_dir, tokens_dir, tmp_path / "split-state")
    assert failed and "out of memory in a pass of" in caplog.text
    for one, other in zip(expected, split, strict=True):
        assert rows_of(one) == rows_of(other) and adapter_of(one) == adapter_of(other)


def test_out_of_memory_between_micro_batches_repeats_the_step_from_the_start(
    bert_dir, tokens_dir, tmp_path, monkeypatch
):
    """Gradients and losses of the micro-batches before the failing one are cleared."""
    expected = make_spec(tmp_path / "expected", 0, epochs=1)
    train([expected], bert_dir, tokens_dir, tmp_path / "expected-state", micro_batch=4)
    forward_backward, calls = pack_step.forward_backward, []

    def fail_at_second_call(model, pieces):
        forward_backward(model, pieces)
        calls.append(pieces)
        if len(calls) == 2:
            raise RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"
            )

    monkeypatch.setattr(pack_step, "forward_backward", fail_at_second_call)
    monkeypatch.setattr(batching.TokenBudget, "shrink", lambda *_: None)
    repeated = make_spec(tmp_path / "repeated", 0, epochs=1)
    train([repeated], bert_dir, tokens_dir, tmp_path / "repeated-state", micro_batch=4)
    assert rows_of(expected) == rows_of(repeated)


def test_single_example_that_does_not_fit_raises_memory_error(
    bert_dir, tokens_dir, tmp_path, monkeypatch
):
    def forward(self, step):
        raise torch.OutOfMemoryError("made up")

    monkeypatch.setattr(packed_model.PackedModel, "forward", forward)
    with pytest.raises(
        MemoryError, match="a single example of .* tokens; free memory, pack fewer runs"
    ):
        train([make_spec(tmp_path, 0)], bert_dir, tokens_dir, tmp_path / "state")


def test_other_runtime_errors_are_raised(bert_dir, tokens_dir, tmp_path, monkeypatch):
    """They are not taken for a lack of memory."""

    def forward(self, step):
        raise RuntimeError("something else")

    monkeypatch.setattr(packed_model.PackedModel, "forward", forward)
    with pytest.raises(RuntimeError, match="something else"):
        train([make_spec(tmp_path, 0)], bert_dir, tokens_dir, tmp_path / "state")


def test_pack_that_does_not_fit_names_the_largest_pack_that_does(
    bert_dir, tokens_dir, tmp_path, monkeypatch
):
    """With memory for the states of two and a half runs and one example."""
    base = pretrained.load_base(bert_dir)
    adapter = methods.AdapterSpec(0, "qv", 4, 2, make_spec(tmp_path, 0).hparams)
    bytes_per_run = 20 * methods.trainable_parameters(base, adapter)
    bytes_per_example = device.activation_bytes(
        modules.architecture_of(base), np.array([20]), np.array([32]), 4, torch.float32
    )
    free_bytes = int((2.5 * bytes_per_run + bytes_per_example) / batching.SHARE)
    monkeypatch.setattr(batching, "free_bytes", lambda device: free_bytes)
    specs = [make_spec(tmp_path, seed) for seed in (0, 1, 2)]
    with pytest.raises(
        ValueError, match="a pack of 3 runs needs .* the largest pack that fits has 2 of its runs"
    ):
        train(specs, bert_dir, tokens_dir, tmp_path / "state")
    train(specs[:2], bert_dir, tokens_dir, tmp_path / "state")


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
def test_trainable_parameters_equal_those_of_the_model(bert_dir, method, weights, rank, tmp_path):
    base = pretrained.load_base(bert_dir)
    adapter = methods.AdapterSpec(
        0, weights, rank, 2, make_spec(tmp_path, 0).hparams, method, int(method == "adapter_drop")
    )
    counts = packed_model.PackedModel(base, [adapter]).counts(0)
    assert methods.trainable_parameters(base, adapter) == counts["trainable"] + counts["head"]


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
def test_predicted_activation_bytes_match_what_autograd_saves(
    method, weights, lengths, dropout, dtype, tmp_path
):
    """Torch counts the bytes saved for the backward pass: 75 % to 105 % of the prediction."""
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
    hparams = make_spec(tmp_path, 0, "q", 8, lora_dropout=dropout).hparams
    adapter = methods.AdapterSpec(0, weights, 8, 2, hparams, method)
    model = packed_model.PackedModel(base, [adapter])
    random = np.random.default_rng(0)
    counts = random.integers(lengths[0], lengths[1] + 1, 16)
    ids = random.integers(5, 99, counts.sum())
    sequences = collate.RunSequences(0, ids, np.zeros(counts.sum(), int), counts, 0, 0)
    step = model.batch([sequences])
    frozen = {value.untyped_storage().data_ptr() for value in base.parameters()}
    saved = {}

    def save(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if tensor.dtype == dtype and storage.data_ptr() not in frozen:
            saved[storage.data_ptr()] = (storage.nbytes(), tensor)  # keeps the address in use
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        model(step)[0].sum().backward()
    measured = sum(size for size, _ in saved.values())
    workspace = 4 * counts.sum() * 512 * dtype.itemsize
    cell = Cell("m", "t", method, weights, 0 if method in BASE_METHODS else 4, "p")
    lora_inputs = memory.lora_inputs(cell.method, cell.weights, hparams.lora_dropout)
    predicted = device.activation_bytes(
        modules.architecture_of(base), counts, attention.widths_of(counts), lora_inputs, dtype
    )
    predicted -= workspace
    assert 0.75 * predicted < measured < 1.05 * predicted


def test_smaller_token_budget_does_not_change_metrics(
    bert_dir, tokens_dir, tmp_path, monkeypatch, caplog
):
    """More passes give the same bits; the log has the predicted memory."""
    large = [make_spec(tmp_path / "large", seed, epochs=1) for seed in (0, 1)]
    train(large, bert_dir, tokens_dir, tmp_path / "large-state")
    monkeypatch.setattr(batching, "TRAIN_TOKENS", {"cpu": 170})
    small = [make_spec(tmp_path / "small", seed, epochs=1) for seed in (0, 1)]
    with caplog.at_level("INFO"):
        train(small, bert_dir, tokens_dir, tmp_path / "small-state")
    assert "GiB of tensors predicted (model" in caplog.text and "passes of up to 1" in caplog.text
    assert rows_of(large[0]) == rows_of(small[0])
    assert read_csv(small[0].output_dir / "metrics.csv", METRICS_COLUMNS)[0]["status"] == "ok"
