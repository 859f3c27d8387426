"""Tokens: made once per model, task and length, memory-mapped ever after, and handed out in each run's own order.

Texts are tokenised with the model's own fast tokenizer file, cut at `max_tokens` (longest text first, as the paper's
script does) and stored without padding: one flat row of ids per split and the offsets of its examples. The order of an
epoch is a pure function of (seed, epoch, size): i.i.d., no grouping by length, and nothing to save for a resume. The
`tokenizers` library is used directly, since transformers' wrapper takes seconds to load and gives the same ids (a test
compares them). No torch here.
"""

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lora import readers, records
from lora.spec import Task

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tokens:
    """One split: `ids` int32 [T] and token `types` uint8 [T] of all examples, `offsets` int64 [n+1], `labels` float32 [n]."""

    ids: np.ndarray
    types: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Real tokens per example, int64 [n]."""
        return np.diff(self.offsets)

    def gather(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(ids, types, lengths, labels) of the chosen examples, their tokens one after another."""
        lengths = self.lengths[indices]
        starts = np.cumsum(lengths) - lengths
        where = np.arange(lengths.sum()) + np.repeat(self.offsets[indices] - starts, lengths)
        return self.ids[where], self.types[where], lengths, self.labels[indices]


def epoch_order(seed: int, epoch: int, examples: int) -> np.ndarray:
    """The order in which a run sees its examples in an epoch, each once."""
    return np.random.default_rng([seed, epoch, examples]).permutation(examples)


def steps_per_epoch(examples: int, per_step: int) -> int:
    """Optimiser steps of an epoch; a last short step counts."""
    return -(-examples // per_step)


def _tokenizer(model_dir: Path, max_tokens: int):
    from tokenizers import Tokenizer

    path = Path(model_dir) / "tokenizer.json"
    if not path.is_file():
        raise ValueError(f"{model_dir}: no tokenizer.json; give a model folder with its fast tokenizer")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens, strategy="longest_first")
    return tokenizer, hashlib.sha256(path.read_bytes()).hexdigest()


def _tokenise(tokenizer, examples: readers.Examples) -> tuple[Tokens, int]:
    """Tokens of a split and how many of its examples were cut."""
    pairs = examples.first if examples.second is None else list(zip(examples.first, examples.second, strict=True))
    encoded = tokenizer.encode_batch(pairs)
    lengths = [len(one.ids) for one in encoded]
    tokens = Tokens(
        ids=np.concatenate([one.ids for one in encoded]).astype(np.int32),
        types=np.concatenate([one.type_ids for one in encoded]).astype(np.uint8),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        labels=np.array(examples.labels, dtype=np.float32),
    )
    return tokens, sum(bool(one.overflowing) for one in encoded)


def prepare(task: Task, source_dir: Path, model_dir: Path, max_tokens: int, destination: Path) -> None:
    """Tokenise the training and evaluation splits of `task` into tokens.safetensors and, last, tokens.json.

    Raises ValueError for a source or model folder that cannot be read.
    """
    from safetensors.numpy import save_file

    destination = Path(destination)
    tokenizer, tokenizer_sha256 = _tokenizer(model_dir, max_tokens)
    arrays, splits, digest = {}, {}, hashlib.sha256()
    for split, examples in readers.read(task, source_dir).items():
        tokens, cut = _tokenise(tokenizer, examples)
        for name in ("ids", "types", "offsets", "labels"):
            arrays[f"{split}.{name}"] = array = getattr(tokens, name)
            digest.update(f"{split}.{name} {array.dtype} {array.shape}".encode() + array.tobytes())
        splits[split] = dict(examples=len(tokens), tokens=len(tokens.ids), cut=cut) | _labels(task, tokens.labels)
        log.info("%s %s: %d examples, %d tokens, %d cut at %d", task.name, split, len(tokens), len(tokens.ids), cut, max_tokens)
    destination.mkdir(parents=True, exist_ok=True)
    temporary = destination / f".tokens.{os.getpid()}.tmp"
    save_file(arrays, temporary)
    os.replace(temporary, destination / "tokens.safetensors")
    facts = dict(
        task=task.name,
        max_tokens=max_tokens,
        num_labels=task.num_labels,
        splits=splits,
        sha256=digest.hexdigest(),
        source=_source_of(source_dir),
        tokenizer_sha256=tokenizer_sha256,
    )
    records.write_json(destination / "tokens.json", facts)


def _labels(task: Task, labels: np.ndarray) -> dict:
    if task.is_regression:
        return dict(label_mean=float(labels.mean(dtype=np.float64)))
    return dict(label_counts=np.bincount(labels.astype(int), minlength=task.num_labels).tolist())


def _source_of(folder: Path) -> str:
    """What the fetched data is, from its manifest; a folder that was not fetched by us is called that."""
    manifest = Path(folder) / "fetched.json"
    if not manifest.is_file():
        return "a local folder"
    fetched = json.loads(manifest.read_text(encoding="utf-8"))
    return " ".join(fetched[key] for key in ("kind", "locator", "revision") if fetched[key])


def load(folder: Path) -> dict[str, Tokens]:
    """The splits that `prepare` wrote, memory-mapped; raises ValueError when file and facts do not agree."""
    from safetensors.numpy import load_file

    folder = Path(folder)
    facts = json.loads((folder / "tokens.json").read_text(encoding="utf-8"))
    arrays = load_file(folder / "tokens.safetensors")
    splits = {}
    for split, wanted in facts["splits"].items():
        tokens = Tokens(**{name: arrays[f"{split}.{name}"] for name in ("ids", "types", "offsets", "labels")})
        got = (len(tokens), len(tokens.ids), len(tokens.types), len(tokens.offsets) - 1, int(tokens.offsets[-1]))
        if got != (wanted["examples"], *[wanted["tokens"]] * 2, wanted["examples"], wanted["tokens"]):
            raise ValueError(f"{folder}: split {split} of tokens.safetensors does not have the sizes of tokens.json; prepare again")
        splits[split] = tokens
    return splits
