"""Small trainings for tests: a made-up task of random sentences, run specs, and their outputs."""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from helpers.models import sentences
from lora import files
from lora.data import tokens
from lora.data.tokens import TokenFacts
from lora.experiment import hparam_rows
from lora.experiment.cell import Cell
from lora.experiment.hparams import Hparams
from lora.experiment.run_spec import JobOptions, RunSpec
from lora.experiment.task import Task
from lora.model.packed_model import PackedModel
from lora.training import loop
from lora.training.optim import Optimizer
from lora.training.run_state import RunState

TASK = Task("toy", "Toy", "toy", "glue", ("sentence",), 2, "accuracy", ("validation",), "")
OVERRIDES = dict(
    epochs=3, examples_per_step=8, max_tokens=20, learning_rate=3e-3, alpha=6, lora_dropout=0.2
)
FACTS = TokenFacts("toy", 20, 2, {}, "", "toy", "")


def make_tokens(folder: Path, train_examples: int = 42, seed: int = 0) -> Path:
    """Write a prepared data set: random sentences, labelled by whether they have token 7."""
    arrays, splits = {}, {}
    for split, count in (("train", train_examples), ("validation", 30)):
        ids, types, lengths = sentences(count, seed + len(split), types=False)
        starts = np.cumsum(lengths) - lengths
        marked = np.random.default_rng(seed + 1).random(count) < 0.5
        ids[starts + 1] = np.where(marked, 7, 8)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        labels = marked.astype(np.float32)
        arrays |= {
            f"{split}.ids": ids,
            f"{split}.types": types,
            f"{split}.offsets": offsets,
            f"{split}.labels": labels,
        }
        splits[split] = dict(examples=count, tokens=int(lengths.sum()))
    folder.mkdir(parents=True)
    save_file(arrays, folder / "tokens.safetensors")
    facts = dict(
        task="toy", max_tokens=20, num_labels=2, splits=splits, source="toy", tokenizer_sha256=""
    )
    facts["sha256"] = tokens.arrays_sha256(arrays)
    files.write_json(folder / "tokens.json", facts)
    return folder


def make_spec(
    folder: Path,
    seed: int,
    weights: str = "qv",
    rank: int = 4,
    method: str = "lora",
    **changes: object,
) -> RunSpec:
    """Return a run whose outputs go to a folder below `folder`; `train` sets its tokens."""
    cell = Cell("tiny", "toy", method, weights, rank, "course")
    hparams = hparam_rows.resolve(
        hparam_rows.read_hparam_rows(),
        dataclasses.replace(cell, method="lora", weights="q", rank=max(1, rank)),
        OVERRIDES | changes,
    )
    output_dir = folder / f"{method}{weights}{rank}seed{seed}"
    return RunSpec(cell, seed, hparams, TASK, Path(), output_dir)


def train(
    specs: list[RunSpec], model_dir: Path, tokens_dir: Path, state_dir: Path, **options: object
) -> None:
    """Train the runs in one job; those without a tokens folder take `tokens_dir`."""
    placed = [
        spec if spec.tokens_dir != Path() else dataclasses.replace(spec, tokens_dir=tokens_dir)
        for spec in specs
    ]
    defaults = dict(device="cpu", precision="fp32")
    loop.train(placed, JobOptions(model_dir, state_dir, **(defaults | options)))


def begun(spec: RunSpec, model: PackedModel, train_set: tokens.Tokens, index: int = 0) -> RunState:
    """Return the state of a run of `model` at the beginning of its first epoch."""
    run = RunState(spec, FACTS, "fp32", "digest", index=index, tokens=dict(train=train_set))
    run.parameters = model.parameters_of(index)
    run.optimizer = Optimizer(run.parameters, model.gradients_of(index))
    run.begin_epoch(torch.device(model.device))
    return run


def rows_of(spec: RunSpec) -> bytes:
    """Return the run's metrics.csv."""
    return (spec.output_dir / "metrics.csv").read_bytes()


def adapter_of(spec: RunSpec) -> bytes:
    """Return the run's adapter_model.safetensors."""
    return (spec.output_dir / "adapter/adapter_model.safetensors").read_bytes()


def course_hparams() -> Hparams:
    """Return the hyperparameters of protocol `course`."""
    return hparam_rows.resolve(
        hparam_rows.read_hparam_rows(), Cell("m", "sst2", "lora", "qv", 4, "course"), {}
    )
