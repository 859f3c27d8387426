"""Small trainings for tests: a made task of random sentences, runs that are asked for on it, and what they left."""

import dataclasses
from pathlib import Path

import numpy as np

from helpers.models import sentences
from lora import files
from lora.data import tokens
from lora.experiment import registry
from lora.experiment.cell import Cell
from lora.experiment.hparams import run_settings
from lora.experiment.task import Task
from lora.training import loop, run_state

TASK = Task("toy", "Toy", "toy", "glue", ("sentence",), 2, "accuracy", ("validation",), "")
OVERRIDES = dict(
    epochs=3, examples_per_step=8, max_tokens=20, learning_rate=3e-3, alpha=6, lora_dropout=0.2
)


def make_tokens(folder, train_examples=42, seed=0):
    """A prepared data set as `data.prepare` writes it: random sentences whose label is whether token 7 is among them."""
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
    from safetensors.numpy import save_file

    save_file(arrays, folder / "tokens.safetensors")
    facts = dict(
        task="toy", max_tokens=20, num_labels=2, splits=splits, source="toy", tokenizer_sha256=""
    )
    facts["sha256"] = tokens.arrays_sha256(arrays)
    files.write_json(folder / "tokens.json", facts)
    return folder


def asked(folder, seed, weights="qv", rank=4, method="lora", **changes) -> run_state.Asked:
    cell = Cell("tiny", "toy", method, weights, rank, "course")
    hparams = registry.resolve(
        registry.read_rows("hparams.csv"),
        dataclasses.replace(cell, method="lora", weights="q", rank=max(1, rank)),
        OVERRIDES | changes,
    )
    return run_state.Asked(
        run_settings(cell, seed, hparams),
        TASK,
        Path(),
        folder / f"{method}{weights}{rank}seed{seed}",
    )


def go(wanted, model_dir, tokens_dir, state_dir, **options):
    """Train; the runs that do not say which tokens they train on take `tokens_dir`."""
    placed = [
        one if one.tokens_dir != Path() else dataclasses.replace(one, tokens_dir=tokens_dir)
        for one in wanted
    ]
    loop.train(placed, model_dir, state_dir, **(dict(device="cpu", precision="fp32") | options))


def rows_of(one: run_state.Asked) -> bytes:
    return (one.output_dir / "metrics.csv").read_bytes()


def adapter_of(one: run_state.Asked) -> bytes:
    return (one.output_dir / "adapter/adapter_model.safetensors").read_bytes()


def course_hparams():
    return registry.resolve(
        registry.read_rows("hparams.csv"), Cell("m", "sst2", "lora", "qv", 4, "course"), {}
    )
