"""Optimizer steps against torch's AdamW, transformers' schedule and peft, in float64."""

import dataclasses

import pytest
import torch
import transformers
from helpers.encoders import padded, peft_twin
from helpers.training import begun, course_hparams, make_spec

from lora.data import tokens
from lora.model import collate, methods, packed_model, pretrained
from lora.training import batching, optim, pack_step


@pytest.mark.parametrize(
    "steps, warmup_frac", [(10, 0.06), (100, 0.06), (237, 0.1), (20, 0.0), (5, 0.9)]
)
def test_learning_rate_equals_the_linear_schedule_of_transformers(steps, warmup_frac):
    hparams = dataclasses.replace(course_hparams(), warmup_frac=warmup_frac, learning_rate=0.5)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    arguments = transformers.TrainingArguments(output_dir="x", warmup_steps=warmup_frac or 0)
    warmup = arguments.get_warmup_steps(steps)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, warmup, steps)
    for step in range(steps):
        expected = schedule.get_last_lr()[0]
        assert optim.learning_rate(step, steps, hparams) == pytest.approx(expected, abs=1e-15)
        optimizer.step()
        schedule.step()


def test_five_steps_match_peft_and_torch_adamw(model_dir, family, tokens_dir, tmp_path):
    """In float64 without dropout, with clipping and the linear schedule.

    The reference is transformers on padded batches, peft, and torch's AdamW.
    """
    spec = make_spec(tmp_path, 0, lora_dropout=0, max_grad_norm=0.5, epochs=1)
    base = pretrained.load_base(model_dir, torch.float64)
    base.config.hidden_dropout_prob = base.config.attention_probs_dropout_prob = 0.0
    model = packed_model.PackedModel(base, [methods.AdapterSpec(0, "qv", 4, 2, spec.hparams)])
    model.heads.dropout = 0.0
    reference = peft_twin(model_dir, model, 0, tmp_path / "twin").eval()  # eval: no dropout
    trained = {name: value for name, value in reference.named_parameters() if value.requires_grad}
    decay = [value for name, value in trained.items() if not name.endswith("bias")]
    no_decay = [value for name, value in trained.items() if name.endswith("bias")]
    optimizer = torch.optim.AdamW(
        [dict(params=decay, weight_decay=0.1), dict(params=no_decay, weight_decay=0.0)], lr=3e-3
    )
    train_set = tokens.load(tokens_dir)["train"]
    run = begun(spec, model, train_set)
    total = tokens.steps_per_epoch(len(train_set), 8)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, 1, total)
    for step in range(5):
        ids, types, lengths, labels = train_set.gather(run.order[step * 8 : step * 8 + 8])
        inputs = padded(ids, types, lengths, base.config.pad_token_id)
        logits = reference(**inputs).logits
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels).long()).backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), 0.5)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        pack_step.optimizer_step(model, [run], batching.TokenBudget(4096))
    ours = sum(value.detach().abs().sum() for value in model.parameters_of(0).values())
    theirs = sum(value.detach().abs().sum() for value in trained.values())
    assert abs(ours - theirs) < 1e-10
    batch = model.batch([collate.RunSequences(0, ids, types, lengths)])
    assert (model(batch)[0] - reference(**inputs).logits).abs().max() < 1e-10
