"""Optimiser steps against torch's AdamW, transformers' schedule and peft, in float64."""

import dataclasses

import pytest
import torch
import transformers
from helpers.encoders import padded, peft_twin
from helpers.training import begun, course_hparams, make_spec

from lora.data import tokens
from lora.model import collate, methods, packed_model, pretrained
from lora.training import batching, loop, optim


@pytest.mark.parametrize("total, frac", [(10, 0.06), (100, 0.06), (237, 0.1), (20, 0.0), (5, 0.9)])
def test_learning_rate_is_transformers_linear_schedule(total, frac):
    hparams = dataclasses.replace(course_hparams(), warmup_frac=frac, learning_rate=0.5)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    warmup = transformers.TrainingArguments(
        output_dir="x", warmup_steps=frac or 0
    ).get_warmup_steps(total)
    theirs = transformers.get_linear_schedule_with_warmup(optimizer, warmup, total)
    for step in range(total):
        assert optim.learning_rate(step, total, hparams) == pytest.approx(
            theirs.get_last_lr()[0], abs=1e-15
        )
        optimizer.step()
        theirs.step()


def test_five_steps_match_peft_and_torch_adamw(model_dir, family, tokens_dir, tmp_path):
    """Float64, dropout 0: our steps against padded transformers + peft, torch AdamW, transformers'
    schedule and clipping.
    """
    one = make_spec(tmp_path, 0, lora_dropout=0, max_grad_norm=0.5, epochs=1)
    base = pretrained.load_base(model_dir, torch.float64)
    base.config.hidden_dropout_prob = base.config.attention_probs_dropout_prob = 0.0
    model = packed_model.PackedModel(base, [methods.AdapterSpec(0, "qv", 4, 2, one.hparams)])
    model.heads.dropout = 0.0
    theirs = peft_twin(
        model_dir, model, 0, tmp_path / "twin"
    ).eval()  # eval: no dropout; gradients flow all the same
    wanted = {name: value for name, value in theirs.named_parameters() if value.requires_grad}
    decay = [value for name, value in wanted.items() if not name.endswith("bias")]
    rest = [value for name, value in wanted.items() if name.endswith("bias")]
    optimizer = torch.optim.AdamW(
        [dict(params=decay, weight_decay=0.1), dict(params=rest, weight_decay=0.0)], lr=3e-3
    )
    train_set = tokens.load(tokens_dir)["train"]
    run = begun(one, model, train_set)
    total = tokens.steps_per_epoch(len(train_set), 8)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, 1, total)
    for step in range(5):
        ids, types, lengths, labels = train_set.gather(run.order[step * 8 : step * 8 + 8])
        inputs = padded(ids, types, lengths, base.config.pad_token_id)
        torch.nn.functional.cross_entropy(
            theirs(**inputs).logits, torch.from_numpy(labels).long()
        ).backward()
        torch.nn.utils.clip_grad_norm_(wanted.values(), 0.5)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        loop._optimizer_step(model, [run], batching.TokenBudget(4096))
    ours = sum(value.detach().abs().sum() for value in model.parameters_of(0).values())
    assert abs(ours - sum(value.detach().abs().sum() for value in wanted.values())) < 1e-10
    step = model.batch([collate.RunSequences(0, ids, types, lengths)])
    assert (model(step)[0] - theirs(**inputs).logits).abs().max() < 1e-10
