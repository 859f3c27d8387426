"""Prepared tokens of a task: load them, gather batches, and shuffle the examples of an epoch.

The tokens of a split are one flat array with offsets, memory-mapped from a safetensors file, and a
batch is one gather. Nothing is padded or sorted by length: the order of an epoch is a plain
shuffle, as in the paper's scripts.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lora import files, paths
from lora.data.mapped_arrays import map_arrays
from lora.errors import ConfigError, shown
from lora.experiment.names import NAME

ARRAYS, FACTS = paths.TOKENS_ARRAYS, paths.TOKENS_JSON
DTYPES: dict[str, type[np.generic]] = {
    "ids": np.int32,
    "offsets": np.int64,
    "types": np.uint8,
    "labels": np.float32,
}
REBUILD = "delete it and prepare it again"
COUNT_TYPES: dict[str, type] = {
    "examples": int,
    "tokens": int,
    "truncated": int,
    "label_counts": dict,
    "label_mean": float,
    "read_counts": dict,
    "made": str,
}
FACT_TYPES: dict[str, type] = {
    "task": str,
    "max_tokens": int,
    "num_labels": int,
    "splits": dict,
    "sha256": str,
    "source": str,
    "tokenizer_sha256": str,
}
TYPE_WORDS = {str: "text", int: "a whole number", float: "a number", dict: "a JSON object"}


@dataclass(frozen=True, eq=False)
class Tokens:
    """Examples of one split, n of them.

    Attributes:
        ids: Token ids of all examples one after another, special tokens included,
            [total tokens] int32.
        offsets: Example i is `offsets[i]:offsets[i + 1]` of `ids`, [n + 1] int64.
        types: Segment of each token, 0 or 1, [total tokens] uint8.
        labels: Class number or score of each example, [n] float32.
    """

    ids: np.ndarray
    offsets: np.ndarray
    types: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each example, [n] int64."""
        return np.diff(self.offsets)

    def lengths_of(self, indices: np.ndarray) -> np.ndarray:
        """Return the number of tokens of the examples at `indices`, [len(indices)] int64."""
        return self.offsets[indices + 1] - self.offsets[indices]

    def gather(self, indices: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return the examples at `indices`, in that order, their tokens one after another.

        Returns:
            ids and types, each [sum of lengths]; lengths and labels, each [len(indices)].
        """
        indices = np.asarray(indices, dtype=np.int64)
        starts, lengths = self.offsets[indices], self.lengths_of(indices)
        ends = np.cumsum(lengths)
        total = ends[-1] if len(ends) else 0
        # Token t of the batch is at its example's start plus its index within the example.
        at = np.arange(total) + np.repeat(starts - (ends - lengths), lengths)
        return self.ids[at], self.types[at], lengths, self.labels[indices]


@dataclass(frozen=True)
class SplitFacts:
    """Counts of one split in tokens.json.

    Attributes:
        examples: Number of examples.
        tokens: Number of tokens, special tokens included.
        truncated: Number of examples that were cut at `max_tokens`.
        label_counts: Examples of each class number; None for regression.
        label_mean: Mean score; None for classification.
        read_counts: What was counted while the data were read (`ReadCounts`); None in files of
            earlier versions.
        made: How the split was made of train; None if it was given.
    """

    examples: int = 0
    tokens: int = 0
    truncated: int = 0
    label_counts: dict[str, int] | None = None
    label_mean: float | None = None
    read_counts: dict[str, int] | None = None
    made: str | None = None


@dataclass(frozen=True)
class TokenFacts:
    """Content of tokens.json: what was tokenised, and how.

    Attributes:
        task: Name of the task.
        max_tokens: Longest example, special tokens included.
        num_labels: Number of classes, 1 for regression.
        splits: Counts by name of the split: "train" and the task's `eval_splits`.
        sha256: Hash of the arrays (`arrays_sha256`). It is part of the digest of every run.
        source: What pins the content of the data folder, or "local folder".
        tokenizer_sha256: Hash of tokenizer.json.
        label_names: Names of the classes, class 0 first; empty for scores, unknown names, and in
            files of earlier versions.
    """

    task: str
    max_tokens: int
    num_labels: int
    splits: dict[str, SplitFacts]
    sha256: str
    source: str
    tokenizer_sha256: str
    label_names: tuple[str, ...] = ()


def epoch_order(seed: int, epoch: int, examples: int) -> np.ndarray:
    """Return the order in which a run sees its training examples in an epoch.

    A function of its arguments alone. Single examples are shuffled, without buckets of like length.

    Returns:
        A permutation of 0 to `examples` - 1, [examples] int64.
    """
    return np.random.default_rng(np.random.SeedSequence([seed, epoch])).permutation(examples)


def steps_per_epoch(examples: int, per_step: int) -> int:
    """Return the number of optimizer steps in an epoch. The last one may have fewer examples."""
    return -(-examples // per_step)


def read_facts(folder: Path) -> TokenFacts:
    """Return the content of tokens.json in a prepared folder, as a frozen `TokenFacts`.

    Files of earlier versions are read too. The arrays are not touched.

    Raises:
        ValueError: If there is no tokens.json, its checksum does not fit, or a value has the wrong
            type. The message lists all wrong values.
    """
    path = Path(folder) / FACTS
    if not path.is_file():
        raise ValueError(f"{folder} has no {FACTS}: it was not prepared completely; {REBUILD}")
    facts = files.verify_checksum(files.read_object(path, REBUILD), path, REBUILD)
    problems = _wrong_types(facts, FACT_TYPES)
    if not problems:
        for name, counts in facts["splits"].items():
            if not NAME.fullmatch(name):
                problems.append(f"split {shown(name)}; allowed: a name")
            elif not isinstance(counts, dict):
                problems.append(f"split {name} is {shown(counts)}; allowed: counts")
            else:
                given = {key: kind for key, kind in COUNT_TYPES.items() if key in counts}
                wrong = _wrong_types(counts, given)
                if isinstance(read := counts.get("read_counts"), dict):
                    wrong += _wrong_types(read, dict.fromkeys(read, int))
                problems += [f"split {name}: {problem}" for problem in wrong]
    names = facts.get("label_names", [])
    if type(names) is not list or not all(isinstance(name, str) for name in names):
        problems.append(f"label_names is {shown(names)}; allowed: a list of texts")
    if problems:
        raise ConfigError(f"{path} is damaged; {REBUILD}:", problems)
    splits = {
        name: SplitFacts(**{key: counts[key] for key in COUNT_TYPES if key in counts})
        for name, counts in facts["splits"].items()
    }
    values = {key: facts[key] for key in FACT_TYPES}
    return TokenFacts(**values | {"splits": splits, "label_names": tuple(names)})


def _wrong_types(values: files.JsonObject, types: dict[str, type]) -> list[str]:
    """Return a sentence for each value that is not exactly of the type in `types`."""
    return [
        f"{key} is {shown(values.get(key))}; allowed: {TYPE_WORDS[kind]}"
        for key, kind in types.items()
        if type(values.get(key)) is not kind
    ]


def load(folder: Path, facts: TokenFacts | None = None) -> dict[str, Tokens]:
    """Return every split of a prepared folder, as read-only arrays mapped from the file.

    Args:
        folder: The folder that `lora.data.prepare` wrote.
        facts: What `read_facts` returned for this folder; read from the folder if None.

    Returns:
        `Tokens` by name of the split, with the names of `facts.splits`.

    Raises:
        ValueError: If an array is missing or damaged, the arrays do not fit together, or their hash
            is not `facts.sha256`.
        OSError: If the system cannot map the file. The message names the file.
    """
    folder = Path(folder)
    path = folder / ARRAYS
    facts = facts or read_facts(folder)
    try:
        arrays = map_arrays(path, DTYPES)
        splits = {
            name: Tokens(**{part: arrays[f"{name}.{part}"] for part in DTYPES})
            for name in facts.splits
        }
    except FileNotFoundError:
        raise ValueError(f"{folder} has no {ARRAYS}; {REBUILD}") from None
    except KeyError as error:
        raise ValueError(f"{path} is damaged (it has no {error}); {REBUILD}") from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({str(error)[:300]}); {REBUILD}") from None
    except OSError as error:  # the system's message does not name the file
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None
    unknown = sorted({name.rpartition(".")[0] for name in arrays} - set(splits))
    if unknown:
        raise ValueError(
            f"{folder / FACTS} does not name the split {shown(', '.join(unknown))}; {REBUILD}"
        )
    for name, tokens in splits.items():
        _check_shapes(folder, name, tokens)
    if arrays_sha256(arrays) != facts.sha256:
        raise ValueError(f"{path} does not have the hash in {FACTS}; {REBUILD}")
    return splits


def misfits(splits: Mapping[str, Tokens], config: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each reason why tokens are not those of a model.

    Args:
        splits: The tokens by split.
        config: Keys of the model's config.json, defaults included.
    """
    own = "Use the tokenizer of this model"
    no_segments = (
        'or leave segments out: set model_input_names to ["input_ids", "attention_mask"] in its '
        "tokenizer_config.json"
    )
    for key, part, name, advice in (
        ("vocab_size", "ids", "token id", own),
        ("type_vocab_size", "types", "segment id", f"{own}, {no_segments}"),
    ):
        if key == "type_vocab_size" and config.get(key, 0) == 0:
            continue  # the model has no segments, and ignores their ids
        highest = max(int(np.max(getattr(tokens, part), initial=0)) for tokens in splits.values())
        if highest >= config[key]:
            yield (
                f"the tokens have {name} {highest}; allowed by config.json: below {config[key]} "
                f"({key}). {advice}"
            )


def _check_shapes(folder: Path, name: str, tokens: Tokens) -> None:
    count, total = len(tokens.labels), len(tokens.ids)
    fits = (
        tokens.offsets.shape == (count + 1,)
        and tokens.types.shape == (total,)
        and tokens.labels.shape == (count,)
    )
    if (
        not fits
        or tokens.offsets[0] != 0
        or tokens.offsets[-1] != total
        or (np.diff(tokens.offsets) < 1).any()
    ):
        raise ValueError(
            f"{folder}, split {name}: offsets, ids, types and labels do not fit together; {REBUILD}"
        )


def arrays_sha256(arrays: dict[str, np.ndarray]) -> str:
    """Return one hash of named arrays: their names, types, shapes and bytes, sorted by name.

    It does not depend on the order or the position of the arrays in a file.
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()
