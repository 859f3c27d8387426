"""One optimizer step: its examples, and gradients that do not depend on the micro-batches."""

import pytest
import torch
from helpers.encoders import padded, peft_twin
from helpers.training import begun, make_spec

from lora.data import tokens
from lora.model import methods, packed_model, pretrained
from lora.training import batching, pack_step


def begin(model_dir, tokens_dir, tmp_path, dropout=True):
    """Return a model in float64 with one run at the beginning of its first epoch."""
    spec = make_spec(tmp_path, 0, lora_dropout=0.1 if dropout else 0, epochs=1)
    base = pretrained.load_base(model_dir, torch.float64)
    if not dropout:
        base.config.hidden_dropout_prob = base.config.attention_probs_dropout_prob = 0.0
    model = packed_model.PackedModel(base, [methods.AdapterSpec(0, "qv", 4, 2, spec.hparams)])
    if not dropout:
        model.heads.dropout = 0.0
    return model, begun(spec, model, tokens.load(tokens_dir)["train"])


def gradients(model, run, tokens_a_pass):
    """Return copies of the run's gradients after the passes of its next step, then clear them."""
    chosen = [(run, pack_step.step_examples(run))]
    passes = batching.split_step(chosen, batching.TokenBudget(tokens_a_pass))
    for batches in passes:
        pack_step.forward_backward(model, batches)
    found = {name: value.clone() for name, value in model.gradients_of(0).items()}
    for value in model.gradients_of(0).values():
        value.zero_()
    return found, len(passes)


def test_steps_take_the_examples_of_an_epoch_in_order(bert_dir, tokens_dir, tmp_path):
    model, run = begin(bert_dir, tokens_dir, tmp_path)
    seen = []
    for step in range(run.steps_per_epoch):
        run.step = step
        seen.append(pack_step.step_examples(run))
    count, size = len(run.order), run.spec.hparams.examples_per_step
    assert [len(one) for one in seen] == [size] * (count // size) + [count % size] * (
        count % size > 0
    )
    assert sorted(index for one in seen for index in one.tolist()) == list(range(count))


@pytest.mark.parametrize("step", ["first", "last"])
def test_gradients_do_not_depend_on_the_micro_batches(bert_dir, tokens_dir, tmp_path, step):
    """With dropout, to the rounding of float64; the last step of an epoch is a short one."""
    model, run = begin(bert_dir, tokens_dir, tmp_path)
    run.step = 0 if step == "first" else run.steps_per_epoch - 1
    (whole, one), (split, many) = (gradients(model, run, size) for size in (4096, 12))
    assert one == 1 and many > 1
    assert any(value.abs().max() > 0 for value in whole.values())
    for name, value in whole.items():
        assert torch.allclose(split[name], value, rtol=1e-9, atol=1e-12), name


def test_the_loss_of_a_short_step_is_the_mean_over_its_examples(bert_dir, tokens_dir, tmp_path):
    """Against the mean cross entropy of transformers and peft, without dropout."""
    model, run = begin(bert_dir, tokens_dir, tmp_path, dropout=False)
    run.step = run.steps_per_epoch - 1
    chosen = pack_step.step_examples(run)
    assert 0 < len(chosen) < run.spec.hparams.examples_per_step
    found, _ = gradients(model, run, 4096)
    reference = peft_twin(bert_dir, model, 0, tmp_path / "twin").eval()
    ids, types, lengths, labels = run.tokens["train"].gather(chosen)
    logits = reference(**padded(ids, types, lengths, 0)).logits
    torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels).long()).backward()
    theirs = [value.grad for value in reference.parameters() if value.grad is not None]
    expected = sum(value.square().sum() for value in theirs) ** 0.5
    norm = sum(value.square().sum() for value in found.values()) ** 0.5
    assert norm.item() == pytest.approx(expected.item(), rel=1e-9)
