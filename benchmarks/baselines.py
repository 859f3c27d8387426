"""The ways of training LoRA that use transformers' Trainer: `course`, `peft`, `peft_grouped`.

They get every cheap setting that makes them faster; see ways.py.
"""

import tempfile

import numpy as np
import torch
from clock import Clock
from shapes import EXAMPLES_PER_STEP, PAD_TO
from torch import nn

from lora.data import tokens
from lora.training.device import DTYPES

ALPHA = 16


class LoRALinear(nn.Module):
    """A simple LoRA layer: W0 x + (alpha / r) B A x around a frozen linear layer."""

    def __init__(self, linear: nn.Linear, rank: int):
        super().__init__()
        self.linear, self.scale = linear, ALPHA / rank
        self.a = nn.Parameter(torch.randn(rank, linear.in_features) * 0.02)
        self.b = nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) + (x @ self.a.T @ self.b.T) * self.scale


def load_classifier(
    request: dict, dtype: torch.dtype = torch.float32, attention: str = "sdpa"
) -> nn.Module:
    """Load a model with a new classification head by transformers."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers.AutoModelForSequenceClassification.from_pretrained(
        request["model_dir"],
        num_labels=request["classes"],
        dtype=dtype,
        attn_implementation=attention,
    )


def course_model(request: dict) -> nn.Module:
    """Return a model with `LoRALinear` as query and value; only these and the head train."""
    model = load_classifier(request)
    model.requires_grad_(False)
    model.classifier.requires_grad_(True)
    for layer in model.base_model.encoder.layer:
        attention = layer.attention.self
        attention.query = LoRALinear(attention.query, request["rank"])
        attention.value = LoRALinear(attention.value, request["rank"])
    return model


def peft_model(request: dict) -> nn.Module:
    """Return a model with PEFT's LoRA on query and value; trained parameters are fp32."""
    import peft

    attention = "eager" if request["device"] == "cpu" else "sdpa"
    model = load_classifier(request, DTYPES[request["precision"]], attention)
    config = peft.LoraConfig(
        task_type=peft.TaskType.SEQ_CLS,
        r=request["rank"],
        lora_alpha=ALPHA,
        target_modules=["query", "value"],
    )
    model = peft.get_peft_model(model, config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


def collate(examples: list[dict], pad_id: int, width: int = 0) -> dict:
    """Return a batch that is padded to `width` tokens, or to its longest sentence if that is 0."""
    lengths = torch.tensor([len(example["input_ids"]) for example in examples])
    ids = torch.full((len(examples), width or int(lengths.max())), pad_id)
    for row, example in zip(ids, examples, strict=True):
        row[: len(example["input_ids"])] = example["input_ids"]
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    return dict(
        input_ids=ids,
        attention_mask=mask,
        labels=torch.tensor([example["labels"] for example in examples]),
    )


def grouped_order(lengths: list[int], steps: int) -> list[int]:
    """Return an order of the examples in which a batch has sentences of similar lengths.

    The order is from the function of `train_sampling_strategy="group_by_length"`. That sorts within
    50 batches of a long training set, but within a quarter of one as short as this; here it sorts
    within up to 50 batches, as for a long one. It puts the longest batch first, which is not timed,
    so the middle batch is moved to the beginning.
    """
    from transformers.trainer_pt_utils import get_length_grouped_indices

    order = get_length_grouped_indices(lengths, EXAMPLES_PER_STEP, mega_batch_mult=min(50, steps))
    middle = (steps // 2) * EXAMPLES_PER_STEP
    return (
        order[middle : middle + EXAMPLES_PER_STEP]
        + order[:middle]
        + order[middle + EXAMPLES_PER_STEP :]
    )


def train_baseline(request: dict, clock: Clock) -> dict:
    """Train by transformers' Trainer.

    Args:
        request: The request of ways.py; its way is `course`, `peft` or `peft_grouped`.
        clock: Clock of the steps.

    Returns:
        Precision, and number of examples and tokens in the timed steps.
    """
    import transformers

    transformers.set_seed(request["seed"])
    train_set, way = tokens.load(request["tokens_dir"])["train"], request["way"]
    sentences = np.split(train_set.ids, train_set.offsets[1:-1])
    examples = [
        dict(input_ids=torch.from_numpy(ids.astype(np.int64)), labels=int(label))
        for ids, label in zip(sentences, train_set.labels, strict=True)
    ]
    model = course_model(request) if way == "course" else peft_model(request)
    pad_id, width = model.config.pad_token_id, PAD_TO if way == "course" else 0
    token_counts: list[int] = []  # of each batch

    def collate_and_count(batch: list[dict]) -> dict:
        token_counts.append(sum(len(example["input_ids"]) for example in batch))
        return collate(batch, pad_id, width)

    class StepClock(transformers.TrainerCallback):
        def on_step_begin(self, *arguments, **named):
            clock.begin_step()

        def on_step_end(self, *arguments, **named):
            clock.end_step()

    class Trainer(transformers.Trainer):
        def _get_train_sampler(self, *arguments, **named):
            if way == "peft_grouped":
                return grouped_order(train_set.lengths.tolist(), request["steps"])
            return super()._get_train_sampler(*arguments, **named)

    with tempfile.TemporaryDirectory() as folder:
        settings = transformers.TrainingArguments(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=EXAMPLES_PER_STEP,
            learning_rate=5e-4,
            lr_scheduler_type="linear",
            warmup_steps=0.06,
            weight_decay=0.1,
            max_grad_norm=1.0,
            optim="adamw_torch_fused",
            bf16=way != "course" and request["precision"] == "bf16",
            use_cpu=request["device"] == "cpu",
            seed=request["seed"],
            dataloader_num_workers=0,
            logging_strategy="no",
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        Trainer(model, settings, collate_and_count, examples, callbacks=[StepClock()]).train()
    return dict(
        precision="fp32" if way == "course" else request["precision"],
        examples=len(examples) - EXAMPLES_PER_STEP,
        tokens=sum(token_counts[1 : request["steps"]]),
    )
