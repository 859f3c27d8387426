"""Tokenise a task for a model, once for each task, model and length, without all in memory.

Tokenising costs more than reading arrays, and all runs of a task need the same tokens. The
ids are those of transformers' AutoTokenizer (`lora.data.tokenizer`).
"""

import logging
from array import array
from collections.abc import Iterable
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from lora import files
from lora.data import formats, tokenizer
from lora.data.examples import Examples
from lora.data.fetch import identity_of, verify
from lora.data.mapped_arrays import write_arrays
from lora.data.scratch import GrowingArray
from lora.data.tokenizer import ModelTokenizer, Text
from lora.data.tokens import (
    ARRAYS,
    DTYPES,
    FACTS,
    SplitFacts,
    TokenFacts,
    Tokens,
    arrays_sha256,
    misfits,
)
from lora.errors import ConfigError, shown
from lora.experiment.task import Task
from lora.model import config as model_config
from lora.paths import MANIFEST

log = logging.getLogger(__name__)
CHUNK = 10_000  # examples tokenised at a time: an encoding takes some 100 bytes a token
SAMPLE = 1000  # examples of each split on which tokenizer.json alone is compared


def prepare(
    task: Task, source_folder: Path, model_folder: Path, max_tokens: int, destination: Path
) -> TokenFacts:
    """Tokenise the splits of a task into `destination`.

    Writes tokens.safetensors and, last, tokens.json. Longer examples are cut; of a pair, the longer
    text is cut first.

    Args:
        task: Names the splits and the format of the data.
        source_folder: Folder with the texts and labels.
        model_folder: Folder with the model's config.json and tokenizer.json.
        max_tokens: Longest example, special tokens included: 4 up to the model's positions.
        destination: Folder to write to; created if necessary.

    Returns:
        The content of tokens.json.

    Raises:
        ValueError: If the data or the model folder is wrong, or `destination` has the tokens of
            another task or length. Nothing is written then.
        FetchError: If the data changed since they were fetched. Nothing is written then.
    """
    source_folder, model_folder = Path(source_folder), Path(model_folder)
    destination = Path(destination)
    if destination.is_file():
        raise ValueError(f"{destination} is a file; give a folder, or a name that is not there yet")
    _check_replaceable(task, max_tokens, destination)
    if (source_folder / MANIFEST).is_file():
        verify(source_folder)
    config = _read_config(model_folder, max_tokens)
    model_tokenizer = tokenizer.load(model_folder, max_tokens)
    tokens: dict[str, Tokens] = {}
    splits: dict[str, SplitFacts] = {}
    task, texts = formats.read_with_task(task, source_folder)
    for name, examples in texts.items():
        tokens[name], truncated = tokenise(model_tokenizer, examples)
        facts_of_split = _count(task, tokens[name], truncated, asdict(examples.counts))
        splits[name] = replace(facts_of_split, made=examples.made or None)
        if truncated:
            log.warning(
                "task %s, split %s: %d of %d examples are cut at %d tokens",
                task.name,
                name,
                truncated,
                len(examples),
                max_tokens,
            )
    if problems := list(misfits(tokens, config)):
        raise ConfigError(f"{model_folder}: its tokenizer does not fit the model:", problems)
    arrays = {
        f"{name}.{part}": getattr(one, part) for name, one in tokens.items() for part in DTYPES
    }
    facts = TokenFacts(
        task=task.name,
        max_tokens=max_tokens,
        num_labels=task.num_labels,
        splits=splits,
        sha256=arrays_sha256(arrays),
        source=identity_of(source_folder),
        tokenizer_sha256=files.file_sha256(model_folder / tokenizer.FILE),
        label_names=task.label_names,
    )
    destination.mkdir(parents=True, exist_ok=True)
    (destination / FACTS).unlink(missing_ok=True)
    with files.atomic_write(destination / ARRAYS) as temporary, open(temporary, "wb") as handle:
        write_arrays(handle, arrays)
    files.write_json(destination / FACTS, _facts_json(facts, task))
    return facts


def _check_replaceable(task: Task, max_tokens: int, destination: Path) -> None:
    """Raise ValueError if a folder has the tokens of another task or length."""
    path = destination / FACTS
    try:
        facts = files.read_object(path, "") if path.is_file() else {}
    except ValueError:
        return  # damaged: tokens are made again
    for name, value in (("task", task.name), ("max_tokens", max_tokens)):
        if name in facts and facts[name] != value:
            raise ValueError(
                f"{destination} has tokens with {name} {shown(facts[name])}, not {value}; give "
                "another folder, or delete it"
            )


def _facts_json(facts: TokenFacts, task: Task) -> files.JsonObject:
    """Return tokens.json. Format and columns of the task are written for people only."""
    splits = {
        name: {key: value for key, value in asdict(counts).items() if value is not None}
        for name, counts in facts.splits.items()
    }
    more = {"splits": splits, "format": task.format, "text_columns": list(task.text_columns)}
    if task.table is not None:
        more["table"] = asdict(task.table)
    return files.with_checksum(asdict(facts) | more)


def _read_config(model_folder: Path, max_tokens: int) -> dict[str, Any]:
    """Return the model's config.json with defaults. Raises ValueError if text does not fit it."""
    tokenizer.check_file(model_folder)
    config = model_config.with_defaults(model_config.read(model_folder))
    longest = model_config.longest_sequence(config)
    if not 4 <= max_tokens <= longest:
        raise ValueError(
            f"max_tokens is {max_tokens}; allowed: 4 to {longest}, the positions of "
            f"{model_folder.name}"
        )
    return config


def tokenise(model_tokenizer: ModelTokenizer, examples: Examples) -> tuple[Tokens, int]:
    """Return the tokens of one split, and how many examples were cut."""
    model_tokenizer.check(texts_of(examples, 0, SAMPLE))
    ids, types = (GrowingArray(DTYPES[part]) for part in ("ids", "types"))
    lengths, truncated, segments = array("q"), 0, False
    for start in range(0, len(examples), CHUNK):
        encodings = model_tokenizer.encode(texts_of(examples, start, start + CHUNK))
        truncated += sum(bool(encoding.overflowing) for encoding in encodings)
        lengths.extend(len(encoding) for encoding in encodings)
        ids.append(_array("ids", (encoding.ids for encoding in encodings)))
        part = _array("types", (encoding.type_ids for encoding in encodings))
        segments |= bool(part.any())
        types.append(part if model_tokenizer.has_segments else np.zeros_like(part))
    if segments and not model_tokenizer.has_segments:
        log.warning(
            "%s: AutoTokenizer gives this model no segment ids, so all are 0. To have them, set "
            'in tokenizer_config.json "model_input_names": ["input_ids", "token_type_ids", '
            '"attention_mask"]',
            model_tokenizer.folder,
        )
    tokens = Tokens(
        ids=ids.mapped(),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(DTYPES["offsets"]),
        types=types.mapped(),
        labels=np.array(examples.labels, dtype=DTYPES["labels"]),
    )
    return tokens, truncated


def texts_of(examples: Examples, start: int, end: int) -> list[Text]:
    """Return the texts or pairs of some examples."""
    first = list(examples.first[start:end])
    if examples.second is None:
        return [*first]
    return list(zip(first, examples.second[start:end], strict=True))


def _array(part: str, numbers: Iterable[list[int]]) -> np.ndarray:
    """Return numbers one after another. Raises ValueError if one is beyond the part's type."""
    values = np.fromiter(chain.from_iterable(numbers), np.int64)
    cast = values.astype(DTYPES[part])
    if (cast != values).any():
        raise ValueError(
            f"the tokenizer gives {part} up to {values.max()}, more than any supported model has; "
            "use the tokenizer of this model"
        )
    return cast


def _count(task: Task, tokens: Tokens, truncated: int, read_counts: dict[str, int]) -> SplitFacts:
    labels = tokens.labels
    facts = SplitFacts(len(labels), len(tokens.ids), truncated, read_counts=read_counts)
    if task.is_regression:
        return replace(facts, label_mean=float(labels.mean(dtype=np.float64)))
    counts = {str(label): int((labels == label).sum()) for label in range(task.num_labels)}
    return replace(facts, label_counts=counts)
