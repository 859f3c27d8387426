"""Tokenise a task for a model, once for each task, model and length.

Tokenising costs more than reading arrays, and all runs of a task need the same tokens. The
tokenizer is read from tokenizer.json with `tokenizers`: it loads in milliseconds and gives the ids
that `transformers` gives (tested for BERT and RoBERTa). A model folder without that file is
refused.
"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lora import files
from lora.data import formats
from lora.data.examples import Examples
from lora.data.fetch import MANIFEST, identity_of, verify
from lora.data.tokens import ARRAYS, DTYPES, FACTS, SplitFacts, TokenFacts, arrays_sha256
from lora.errors import shown
from lora.experiment.task import Task
from lora.model import config as model_config

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CHUNK = 10_000  # examples tokenised at a time: an encoding takes some 100 bytes a token


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
    from safetensors.numpy import save

    source_folder, model_folder = Path(source_folder), Path(model_folder)
    destination = Path(destination)
    if destination.is_file():
        raise ValueError(f"{destination} is a file; give a folder, or a name that is not there yet")
    _check_replaceable(task, max_tokens, destination)
    if (source_folder / MANIFEST).is_file():
        verify(source_folder)
    tokenizer = _load_tokenizer(model_folder, max_tokens)
    arrays: dict[str, np.ndarray] = {}
    splits: dict[str, SplitFacts] = {}
    for name, examples in formats.read(task, source_folder).items():
        parts, truncated = _tokenise(tokenizer, examples)
        arrays |= {f"{name}.{part}": array for part, array in parts.items()}
        splits[name] = _count(task, parts, truncated)
    _check_vocabulary(model_folder, arrays)
    facts = TokenFacts(
        task=task.name,
        max_tokens=max_tokens,
        num_labels=task.num_labels,
        splits=splits,
        sha256=arrays_sha256(arrays),
        source=identity_of(source_folder),
        tokenizer_sha256=files.file_sha256(model_folder / "tokenizer.json"),
    )
    destination.mkdir(parents=True, exist_ok=True)
    (destination / FACTS).unlink(missing_ok=True)
    with files.atomic_write(destination / ARRAYS) as temporary:
        temporary.write_bytes(save(arrays))
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
    return files.with_checksum(asdict(facts) | more)


def _load_tokenizer(model_folder: Path, max_tokens: int) -> "Tokenizer":
    """Return the model's fast tokenizer, cutting at `max_tokens` and not padding."""
    from tokenizers import Tokenizer

    path = model_folder / "tokenizer.json"
    if not path.is_file():
        raise ValueError(
            f"{model_folder} has no tokenizer.json; transformers writes one: "
            "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        )
    config = model_config.read(model_folder)
    longest = config.get("max_position_embeddings", max_tokens)
    if config.get("model_type") == "roberta":
        longest -= 2  # its positions are counted from padding_idx + 1
    if not 4 <= max_tokens <= longest:
        raise ValueError(
            f"max_tokens is {max_tokens}; allowed: 4 to {longest}, the positions of "
            f"{model_folder.name}"
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing more special
        raise ValueError(
            f"{path} is not a tokenizer ({shown(str(error))}); fetch the model again"
        ) from None
    if tokenizer.num_special_tokens_to_add(is_pair=False) < 2:
        raise ValueError(
            f"{path} adds no special tokens around a sentence; allowed: the tokenizer of a BERT or "
            "RoBERTa, because the head reads the first special token"
        )
    tokenizer.enable_truncation(max_tokens, strategy="longest_first")
    tokenizer.no_padding()
    return tokenizer


def _tokenise(tokenizer: "Tokenizer", examples: Examples) -> tuple[dict[str, np.ndarray], int]:
    """Return the arrays of one split, by the names of DTYPES, and how many examples were cut."""
    ids, types, lengths, truncated = [], [], [], 0
    for start in range(0, len(examples), CHUNK):
        end = start + CHUNK
        texts: list[str] | list[tuple[str, str]] = examples.first[start:end]
        if examples.second is not None:
            texts = list(zip(examples.first[start:end], examples.second[start:end], strict=True))
        encodings = tokenizer.encode_batch_fast(texts)
        truncated += sum(bool(encoding.overflowing) for encoding in encodings)
        lengths += [len(encoding) for encoding in encodings]
        ids.append(np.array([one for encoding in encodings for one in encoding.ids], DTYPES["ids"]))
        types.append(
            np.array([one for encoding in encodings for one in encoding.type_ids], DTYPES["types"])
        )
    parts = {
        "ids": np.concatenate(ids),
        "offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(DTYPES["offsets"]),
        "types": np.concatenate(types),
        "labels": np.array(examples.labels, dtype=DTYPES["labels"]),
    }
    return parts, truncated


def _count(task: Task, parts: dict[str, np.ndarray], truncated: int) -> SplitFacts:
    labels = parts["labels"]
    if task.is_regression:
        mean = float(labels.mean(dtype=np.float64))
        return SplitFacts(len(labels), len(parts["ids"]), truncated, label_mean=mean)
    counts = {str(label): int((labels == label).sum()) for label in range(task.num_labels)}
    return SplitFacts(len(labels), len(parts["ids"]), truncated, label_counts=counts)


def _check_vocabulary(model_folder: Path, arrays: dict[str, np.ndarray]) -> None:
    size = model_config.read(model_folder).get("vocab_size")
    highest = max(int(array.max()) for name, array in arrays.items() if name.endswith(".ids"))
    if size is not None and highest >= size:
        raise ValueError(
            f"{model_folder}: tokenizer.json gives token {highest}; allowed by config.json: below "
            f"{size}"
        )
