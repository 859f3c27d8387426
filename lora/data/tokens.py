"""Text to tokens, once for each model, task and length; then batches of real tokens, unpadded, in a run's own order.

Tokenising costs more than reading arrays back, and every run of a task needs the same tokens, so they are written once,
flat: all examples' token ids one after another with the offsets between them. The arrays are memory-mapped, and a batch
is one gather. The tokenizer is read from the model folder's `tokenizer.json` with `tokenizers`, which loads in
milliseconds and gives the ids that `transformers` gives (a test compares them for BERT and RoBERTa); the cost is that a
model folder without that file is refused.

It does not pad, make tensors, or sort by length: an epoch's order is a plain shuffle, as in the paper's scripts.
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lora import files
from lora.data.examples import Examples, read
from lora.data.fetch import MANIFEST, identity_of, verify
from lora.errors import ConfigError, shown
from lora.experiment.names import NAME
from lora.experiment.task import Task
from lora.files import write_json
from lora.model import config as model_config

ARRAYS, FACTS = "tokens.safetensors", "tokens.json"
CHUNK = 10_000  # examples tokenised at a time: an encoding takes some 100 bytes a token until it is an array
PARTS = {"ids": np.int32, "offsets": np.int64, "types": np.uint8, "labels": np.float32}
FACT_KINDS = dict(
    task=str,
    max_tokens=int,
    num_labels=int,
    splits=dict,
    sha256=str,
    source=str,
    tokenizer_sha256=str,
)


@dataclass(frozen=True, eq=False)
class Tokens:
    """One split's examples. ids, types [total tokens] int32, uint8: token and segment of every real token, special ones
    included; offsets [n + 1] int64: example i is `offsets[i]:offsets[i + 1]`; labels [n] float32."""

    ids: np.ndarray
    offsets: np.ndarray
    types: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example, [n] int64."""
        return np.diff(self.offsets)

    def lengths_of(self, indices: np.ndarray) -> np.ndarray:
        """Tokens of the examples at `indices`, [len(indices)] int64."""
        return self.offsets[indices + 1] - self.offsets[indices]

    def gather(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """ids, types, lengths and labels of the examples at `indices`, in that order, their tokens one after another.

        ids and types have shape [lengths.sum()], lengths and labels [len(indices)].
        """
        indices = np.asarray(indices, dtype=np.int64)
        starts, lengths = self.offsets[indices], self.lengths_of(indices)
        ends = np.cumsum(lengths)
        # token t of the batch stands at its example's start plus its place within the example
        at = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)
        return self.ids[at], self.types[at], lengths, self.labels[indices]


def epoch_order(seed: int, epoch: int, examples: int) -> np.ndarray:
    """The order a run sees its training examples in: each once, [examples] int64; a function of its arguments alone.

    The shuffle is of single examples, without buckets of like length.
    """
    return np.random.default_rng(np.random.SeedSequence([seed, epoch])).permutation(examples)


def steps_per_epoch(examples: int, per_step: int) -> int:
    """Optimiser steps of an epoch; the last may see fewer examples."""
    return -(-examples // per_step)


def prepare(
    task: Task, source_folder: Path, model_folder: Path, max_tokens: int, destination: Path
) -> dict:
    """Tokenise the task's splits into `destination`: tokens.safetensors and, last, tokens.json, which is returned.

    Examples longer than `max_tokens`, special tokens included, are cut; of a pair the longer text is cut first. Raises
    ValueError for data or a model folder that does not fit, FetchError for data changed since they were fetched, and then
    writes nothing.
    """
    from safetensors.numpy import save

    source_folder, model_folder, destination = (
        Path(source_folder),
        Path(model_folder),
        Path(destination),
    )
    if destination.is_file():
        raise ValueError(f"{destination} is a file; give a folder, or a name that is not there yet")
    if (source_folder / MANIFEST).is_file():
        verify(source_folder)  # what is written below as the tokens' source
    tokenizer = _tokenizer(model_folder, max_tokens)
    arrays, splits = {}, {}
    for name, examples in read(task, source_folder).items():
        parts, truncated = _tokenise(tokenizer, examples)
        arrays |= {f"{name}.{part}": array for part, array in parts.items()}
        splits[name] = _summary(task, parts, truncated)
    _check_vocabulary(model_folder, arrays)
    facts = files.with_checksum(
        {
            "task": task.name,
            "max_tokens": max_tokens,
            "num_labels": task.num_labels,
            "format": task.format,
            "text_columns": list(task.text_columns),
            "splits": splits,
            "sha256": arrays_sha256(arrays),
            "source": identity_of(source_folder),
            "tokenizer_sha256": hashlib.sha256(
                (model_folder / "tokenizer.json").read_bytes()
            ).hexdigest(),
        }
    )
    destination.mkdir(parents=True, exist_ok=True)
    (destination / FACTS).unlink(missing_ok=True)
    temporary = destination / f".{ARRAYS}.tmp"
    temporary.write_bytes(save(arrays))
    temporary.replace(destination / ARRAYS)
    write_json(destination / FACTS, facts)
    return facts


def load(folder: Path) -> dict[str, Tokens]:
    """Every split of a prepared folder, as read-only arrays mapped from the file.

    Raises ValueError if the folder is not whole, its arrays do not fit together, or they are not those that
    `tokens.json` has the hash of; OSError that names the file where the system does not let it be read.
    """
    folder = Path(folder)
    facts = read_facts(folder)
    try:
        arrays = _mapped(folder / ARRAYS)
        splits = {
            name: Tokens(**{part: arrays[f"{name}.{part}"] for part in PARTS})
            for name in facts["splits"]
        }
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise ValueError(
            f"{folder / ARRAYS} cannot be read ({str(error)[:300]}); prepare it again"
        ) from None
    except OSError as error:  # whole perhaps, but the system does not map it, and does not say what
        raise OSError(error.errno, error.strerror or str(error), str(folder / ARRAYS)) from None
    untold = sorted({name.rpartition(".")[0] for name in arrays} - set(splits))
    if untold:
        raise ValueError(
            f"{folder / FACTS} does not name the split {shown(', '.join(untold))}; prepare it again"
        )
    for name, tokens in splits.items():
        _check_shapes(folder, name, tokens)
    if arrays_sha256(arrays) != facts["sha256"]:
        raise ValueError(
            f"{folder}: the arrays are not those {FACTS} was written for; prepare them again"
        )
    return splits


def read_facts(folder: Path) -> dict:
    """tokens.json of a prepared folder; raises ValueError where there is none, or it is not what `prepare` writes."""
    path = Path(folder) / FACTS
    if not path.is_file():
        raise ValueError(
            f"{folder} has no {FACTS}: tokens were not prepared there, or not to the end; prepare them again"
        )
    facts = files.verify_checksum(
        files.read_object(path, "prepare it again"), path, "prepare it again"
    )
    wrong = [
        f"{key} is {shown(facts.get(key))}; allowed: {'a whole number' if kind is int else kind.__name__}"
        for key, kind in FACT_KINDS.items()
        if type(facts.get(key)) is not kind
    ]
    if not wrong:
        wrong = [
            f"split {shown(name)}; allowed: a name"
            for name in facts["splits"]
            if not NAME.fullmatch(name)
        ]
    if wrong:
        raise ConfigError(f"{path} is not of prepared tokens; prepare it again:", wrong)
    return facts


def arrays_sha256(arrays: dict[str, np.ndarray]) -> str:
    """One hash of named arrays: names, types, shapes and bytes in the names' order, however they lie in a file."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array)
    return digest.hexdigest()


def _tokenizer(model_folder: Path, max_tokens: int):
    """The model folder's fast tokenizer, cutting at `max_tokens` and not padding."""
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
            f"max_tokens is {max_tokens}; allowed: 4 to {longest}, the positions of {model_folder.name}"
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing more special
        raise ValueError(
            f"{path} is no tokenizer ({shown(str(error))}); fetch the model again"
        ) from None
    if tokenizer.num_special_tokens_to_add(is_pair=False) < 2:
        raise ValueError(
            f"{path} adds no special tokens around a sentence; allowed: the tokenizer of a BERT or RoBERTa, as the head "
            "reads the first of them"
        )
    tokenizer.enable_truncation(max_tokens, strategy="longest_first")
    tokenizer.no_padding()
    return tokenizer


def _tokenise(tokenizer, examples: Examples) -> tuple[dict[str, np.ndarray], int]:
    """The arrays of one split, and how many of its examples were cut."""
    ids, types, lengths, truncated = [], [], [], 0
    for start in range(0, len(examples), CHUNK):
        texts = examples.first[start : start + CHUNK]
        if examples.second is not None:
            texts = list(zip(texts, examples.second[start : start + CHUNK], strict=True))
        encodings = tokenizer.encode_batch_fast(texts)
        truncated += sum(bool(encoding.overflowing) for encoding in encodings)
        lengths += [len(encoding) for encoding in encodings]
        ids.append(
            np.array(
                [token for encoding in encodings for token in encoding.ids], dtype=PARTS["ids"]
            )
        )
        types.append(
            np.array(
                [kind for encoding in encodings for kind in encoding.type_ids], dtype=PARTS["types"]
            )
        )
    parts = {
        "ids": np.concatenate(ids),
        "offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(PARTS["offsets"]),
        "types": np.concatenate(types),
        "labels": np.array(examples.labels, dtype=PARTS["labels"]),
    }
    return parts, truncated


def _summary(task: Task, parts: dict[str, np.ndarray], truncated: int) -> dict:
    labels = parts["labels"]
    told = {"examples": len(labels), "tokens": len(parts["ids"]), "truncated": truncated}
    if task.is_regression:
        return told | {"label_mean": float(labels.mean(dtype=np.float64))}
    return told | {
        "label_counts": {
            str(label): int((labels == label).sum()) for label in range(task.num_labels)
        }
    }


def _check_vocabulary(model_folder: Path, arrays: dict[str, np.ndarray]) -> None:
    size = model_config.read(model_folder).get("vocab_size")
    highest = max(int(array.max()) for name, array in arrays.items() if name.endswith(".ids"))
    if size is not None and highest >= size:
        raise ValueError(
            f"{model_folder}: tokenizer.json gives token {highest}; allowed by config.json: below {size}"
        )


def _mapped(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file without reading them: its header gives each one's place."""
    whole = np.memmap(path, dtype=np.uint8, mode="r")
    start = 8 + int.from_bytes(whole[:8].tobytes(), "little")
    if start > len(whole):
        raise ValueError(
            f"it is cut off: its header ends at byte {start}, the file at {len(whole)}"
        )
    header = files.parse_object(
        whole[8:start].tobytes().decode("utf-8"), "its header", "it is damaged"
    )
    arrays = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, last, shape, kind = _place(name, entry, len(whole) - start)
            arrays[name] = whole[start + first : start + last].view(kind).reshape(shape)
    return arrays


def _place(name: str, entry, size: int) -> tuple[int, int, list[int], type]:
    """First and last byte, shape and type of an array by its entry in the header, of a file with `size` bytes of arrays."""
    kind = PARTS.get(name.rpartition(".")[2])
    offsets, shape = (
        entry.get(key) if isinstance(entry, dict) else None for key in ("data_offsets", "shape")
    )
    numbers = (
        [*offsets, *shape] if isinstance(offsets, list) and isinstance(shape, list) else [None]
    )
    if (
        kind is None
        or any(type(number) is not int or number < 0 for number in numbers)
        or len(offsets) != 2
    ):
        raise ValueError(f"its header says of {shown(name)}: {shown(entry)}")
    first, last = offsets
    if last > size:
        raise ValueError(
            f"it is cut off: {shown(name)} ends at byte {last} of the arrays, they at {size}"
        )
    if last - first != math.prod(shape) * np.dtype(kind).itemsize:
        raise ValueError(
            f"{shown(name)} takes {last - first} bytes, which shape {shown(shape)} does not fit"
        )
    return first, last, shape, kind


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
            f"{folder}, split {name}: offsets, ids, types and labels do not fit together; prepare it again"
        )
