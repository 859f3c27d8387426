"""Measure one way to train in a separate process: `python benchmarks/ways.py JSON`.

It prints one line of JSON. All ways train LoRA on query and value of the same model, with the same
sentences, batch, epochs, dropouts, optimizer (AdamW), schedule and clipping.

The baselines get every cheap setting that makes them faster: fused AdamW; no logging, saving,
evaluation or check for non-finite losses; batches collated from tensors in the same process. PEFT
uses the precision that `lora` picks on this machine. Its frozen model is loaded in that precision,
so autocast does not convert the weights in every step; its trained parameters are fp32. Attention
is sdpa, and eager for PEFT on a CPU, where sdpa with dropout has no fused kernel and eager was up
to 15 % faster. The baselines train BERT's classifier but not its pooler, as PEFT does by default;
`lora` trains both.

The time runs from the end of the first step, which includes lazy set-up, to the end of the last
step. The evaluation and saving of `lora` come after it and are not timed. The function that makes a
step of `lora` is wrapped here to see the steps.
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from shapes import EXAMPLES_PER_STEP, PAD_TO, Shape, write_model
from torch import nn

from lora.data import tokens
from lora.experiment import hparam_rows
from lora.experiment.cell import Cell
from lora.experiment.run_spec import JobOptions, RunSpec
from lora.experiment.task import Task
from lora.training import loop
from lora.training.device import DTYPES, device_name, pick_device, pick_precision

ALPHA = 16
GEMM_SIZE = {"cpu": 2048, "cuda": 8192}  # large enough for the full rate


class Clock:
    """When the first step began, and from the end of the first to the end of the last of `steps`
    steps.
    """

    def __init__(self, steps: int, device: str):
        self.steps, self.device, self.ended, self.marks = steps, device, 0, []

    def _now(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.time()

    def begin(self) -> None:
        if not self.marks:
            self.marks.append(self._now())

    def end(self) -> None:
        self.ended += 1
        if self.ended in (1, self.steps):
            self.marks.append(self._now())

    def read(self, started: float) -> dict:
        if self.ended != self.steps or self.steps < 2:
            raise ValueError(f"{self.ended} steps were made; expected {self.steps}, at least 2")
        begin, first, last = self.marks
        return dict(startup_s=begin - started, first_step_s=first - begin, train_s=last - first)


class LoRALinear(nn.Module):
    """W0 x + (alpha / r) B A x around a frozen linear layer, as one writes it at first."""

    def __init__(self, linear: nn.Linear, rank: int):
        super().__init__()
        self.linear, self.scale = linear, ALPHA / rank
        self.a = nn.Parameter(torch.randn(rank, linear.in_features) * 0.02)
        self.b = nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, x):
        return self.linear(x) + (x @ self.a.T @ self.b.T) * self.scale


def load_classifier(
    asked: dict, dtype: torch.dtype = torch.float32, attention: str = "sdpa"
) -> nn.Module:
    """The model with a new classification head, as transformers loads it."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers.AutoModelForSequenceClassification.from_pretrained(
        asked["model_dir"], num_labels=asked["classes"], dtype=dtype, attn_implementation=attention
    )


def course_model(asked: dict) -> nn.Module:
    model = load_classifier(asked)
    model.requires_grad_(False)
    model.classifier.requires_grad_(True)
    for layer in model.base_model.encoder.layer:
        attention = layer.attention.self
        attention.query = LoRALinear(attention.query, asked["rank"])
        attention.value = LoRALinear(attention.value, asked["rank"])
    return model


def peft_model(asked: dict) -> nn.Module:
    import peft

    attention = "eager" if asked["device"] == "cpu" else "sdpa"
    model = load_classifier(asked, DTYPES[asked["precision"]], attention)
    config = peft.LoraConfig(
        task_type=peft.TaskType.SEQ_CLS,
        r=asked["rank"],
        lora_alpha=ALPHA,
        target_modules=["query", "value"],
    )
    model = peft.get_peft_model(model, config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


def collate(examples: list[dict], pad_id: int, width: int = 0) -> dict:
    """A batch padded to `width`, or to its longest sentence."""
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
    """Examples in batches of like length, by the function that
    `train_sampling_strategy="group_by_length"` uses.

    It sorts within 50 batches of a long training set, and within a quarter of one as short as this;
    here within up to 50, as in a real training. It puts the longest batch first, which is not
    timed: so the middle one goes there instead.
    """
    from transformers.trainer_pt_utils import get_length_grouped_indices

    order = get_length_grouped_indices(lengths, EXAMPLES_PER_STEP, mega_batch_mult=min(50, steps))
    middle = (steps // 2) * EXAMPLES_PER_STEP
    return (
        order[middle : middle + EXAMPLES_PER_STEP]
        + order[:middle]
        + order[middle + EXAMPLES_PER_STEP :]
    )


def train_baseline(asked: dict, clock: Clock) -> dict:
    """One of the ways that go through transformers' Trainer."""
    import transformers

    transformers.set_seed(asked["seed"])
    train_set, way = tokens.load(asked["tokens_dir"])["train"], asked["way"]
    sentences = np.split(train_set.ids, train_set.offsets[1:-1])
    examples = [
        dict(input_ids=torch.from_numpy(ids.astype(np.int64)), labels=int(label))
        for ids, label in zip(sentences, train_set.labels, strict=True)
    ]
    model = course_model(asked) if way == "course" else peft_model(asked)
    pad_id, width, seen = model.config.pad_token_id, PAD_TO if way == "course" else 0, []

    def batch(chosen: list[dict]) -> dict:
        seen.append(sum(len(example["input_ids"]) for example in chosen))
        return collate(chosen, pad_id, width)

    class StepClock(transformers.TrainerCallback):
        def on_step_begin(self, *arguments, **named):
            clock.begin()

        def on_step_end(self, *arguments, **named):
            clock.end()

    class Trainer(transformers.Trainer):
        def _get_train_sampler(self, *arguments, **named):
            if way == "peft_grouped":
                return grouped_order(train_set.lengths.tolist(), asked["steps"])
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
            bf16=way != "course" and asked["precision"] == "bf16",
            use_cpu=asked["device"] == "cpu",
            seed=asked["seed"],
            dataloader_num_workers=0,
            logging_strategy="no",
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        Trainer(model, settings, batch, examples, callbacks=[StepClock()]).train()
    return dict(
        precision="fp32" if way == "course" else asked["precision"],
        examples=len(examples) - EXAMPLES_PER_STEP,
        tokens=sum(seen[1 : asked["steps"]]),
    )


def train_ours(asked: dict, clock: Clock) -> dict:
    """`lora.training.loop.train` on a pack of `asked["pack"]` seeds."""
    step = loop._optimizer_step

    def timed_step(*arguments, **named):
        clock.begin()
        examples = step(*arguments, **named)
        clock.end()
        return examples

    loop._optimizer_step = timed_step
    cell = Cell("benchmark", "benchmark", "lora", "qv", asked["rank"], "course")
    fixed = dict(epochs=1, examples_per_step=EXAMPLES_PER_STEP, max_tokens=PAD_TO, alpha=ALPHA)
    hparams = hparam_rows.resolve(hparam_rows.read_hparam_rows(), cell, fixed)
    task = Task(
        "benchmark",
        "",
        "benchmark",
        "glue",
        ("sentence",),
        asked["classes"],
        "accuracy",
        ("validation",),
        "",
    )
    seeds = range(asked["seed"], asked["seed"] + asked["pack"])
    with tempfile.TemporaryDirectory() as folder:
        specs = [
            RunSpec(cell, seed, hparams, task, Path(asked["tokens_dir"]), Path(folder, str(seed)))
            for seed in seeds
        ]
        loop.train(
            specs,
            JobOptions(Path(asked["model_dir"]), Path(folder, "state"), device=asked["device"]),
        )
        record = (specs[0].output_dir / "run.json").read_text(encoding="utf-8")
        precision = json.loads(record)["precision"]
    lengths = tokens.load(asked["tokens_dir"])["train"].lengths
    first = sum(
        lengths[tokens.epoch_order(seed, 0, len(lengths))[:EXAMPLES_PER_STEP]].sum()
        for seed in seeds
    )
    return dict(
        precision=precision,
        examples=asked["pack"] * (len(lengths) - EXAMPLES_PER_STEP),
        tokens=int(asked["pack"] * lengths.sum() - first),
    )


def measure_machine(asked: dict) -> dict:
    """The device, the precision `lora` picks on it, and the rate of large matrix products, in
    GFLOP/s: median of nine.
    """
    device = pick_device(asked["device"])
    size, found = GEMM_SIZE[device.type], {}
    for name, kind in DTYPES.items():
        left, right = torch.randn(2, size, size, device=device).to(kind)
        seconds = []
        for _ in range(11):
            clock = Clock(2, device.type)
            clock.begin()
            left @ right
            clock.end()
            seconds.append(clock.marks[1] - clock.marks[0])
        found[f"gemm_{name}"] = 2 * size**3 / float(np.median(seconds[2:])) / 1e9
    picked = pick_precision("auto", device)
    return found | dict(device=device.type, device_name=device_name(device), precision=picked)


def measure(asked: dict) -> dict:
    """What `asked["way"]` names, done and measured; see the functions above."""
    torch.set_num_threads(asked["threads"])
    if asked["way"] == "machine":
        return measure_machine(asked)
    if asked["way"] == "model":
        write_model(Path(asked["model_dir"]), Shape(**asked["shape"]))
        return {}
    clock = Clock(asked["steps"], asked["device"])
    found = (train_ours if asked["way"].startswith("ours") else train_baseline)(asked, clock)
    found |= clock.read(asked["started"])
    found["peak_rss_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found["peak_cuda_gib"] = (
        torch.cuda.max_memory_allocated() / 2**30 if asked["device"] == "cuda" else 0.0
    )
    return found


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
