"""What is trained on: model shapes, sentence lengths like those of GLUE, and the arithmetic a training needs.

Speed depends on shapes and lengths, not on what is written in the sentences, so models have random weights, token ids
and labels are random, and lengths follow what was measured on GLUE. Nothing has to be downloaded, and every way of
training reads the same folders. What this cannot show is whether a way learns.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np

EXAMPLES_PER_STEP = 16
PAD_TO = 128  # the longest sentence, and what the course's way pads every sentence to
EVAL_EXAMPLES = 16  # one batch, so that what is timed is training


@dataclass(frozen=True)
class Shape:
    """A BERT or RoBERTa encoder's sizes."""

    family: str
    layers: int
    width: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    types: int


MODELS = {
    "demo": Shape(
        "bert", 6, 384, 12, 1536, 30522, 512, 2
    ),  # sentence-transformers/all-MiniLM-L6-v2
    "roberta-base": Shape("roberta", 12, 768, 12, 3072, 50265, 514, 1),  # FacebookAI/roberta-base
}


@dataclass(frozen=True)
class Lengths:
    """Tokens of a sentence or pair: facts of a GLUE training set, and the distribution that is drawn from in its place.

    `squares` is E[L^2] / E[L], which the cost of attention goes by; None is a fact that nobody measured. `curve` is
    lognormal (center: median, spread: sigma of the logarithm) or normal (mean, standard deviation), rounded and clipped to
    `low` and `maximum`.
    """

    classes: int
    mean: float
    median: float | None
    p95: float | None
    maximum: int
    squares: float
    source: str
    curve: str
    center: float
    spread: float
    low: int


MEASURED = "measured on the official train file, in RoBERTa's tokens with the special ones"
ESTIMATED = "estimated from bytes an example and the bytes a token of six other tasks; the spread from E[L^2]/E[L]"
LENGTHS = {
    "sst2": Lengths(2, 13.36, 10, 33, 66, 19.9, MEASURED, "lognormal", 10.6, 0.68, 3),
    "mrpc": Lengths(2, 54.08, 54, 75, 104, 57.1, MEASURED, "normal", 54.0, 12.9, 12),
    "mnli": Lengths(3, 40.5, None, None, 128, 52.0, ESTIMATED, "lognormal", 35.7, 0.52, 5),
}


def draw_lengths(facts: Lengths, count: int, seed: int = 0) -> np.ndarray:
    """`count` lengths [count] int64 in random order: evenly spaced quantiles of the curve, so that a few hundred have the
    mean and spread of all."""
    quantiles = np.array([NormalDist().inv_cdf((place + 0.5) / count) for place in range(count)])
    if facts.curve == "lognormal":
        lengths = facts.center * np.exp(facts.spread * quantiles)
    else:
        lengths = facts.center + facts.spread * quantiles
    lengths = np.clip(np.rint(lengths), facts.low, facts.maximum).astype(np.int64)
    return np.random.default_rng(seed).permutation(lengths)


def write_tokens(folder: Path, facts: Lengths, steps: int, vocabulary: int) -> np.ndarray:
    """A prepared folder as `lora.data.prepare` writes it, of random tokens; returns the training lengths."""
    from safetensors.numpy import save_file

    from lora import files
    from lora.data.tokens import ARRAYS, FACTS, arrays_sha256

    random, arrays, splits = np.random.default_rng(1), {}, {}
    for split, count in (("train", steps * EXAMPLES_PER_STEP), ("validation", EVAL_EXAMPLES)):
        lengths = draw_lengths(facts, count)
        total = int(lengths.sum())
        parts = dict(
            ids=random.integers(5, vocabulary, total).astype(np.int32),
            types=np.zeros(total, np.uint8),
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            labels=random.integers(0, facts.classes, count).astype(np.float32),
        )
        arrays |= {f"{split}.{name}": array for name, array in parts.items()}
        splits[split] = dict(examples=count, tokens=total)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(arrays, folder / ARRAYS)
    told = dict(
        task="benchmark",
        max_tokens=PAD_TO,
        num_labels=facts.classes,
        splits=splits,
        source="random tokens",
    )
    files.write_json(folder / FACTS, told | dict(sha256=arrays_sha256(arrays), tokenizer_sha256=""))
    return np.diff(arrays["train.offsets"])


def write_model(folder: Path, shape: Shape) -> None:
    """The encoder with random weights, as `save_pretrained` writes it; the same bits each time, whole or not at all."""
    import torch
    import transformers

    torch.manual_seed(0)
    sizes = dict(
        num_hidden_layers=shape.layers,
        hidden_size=shape.width,
        num_attention_heads=shape.heads,
        intermediate_size=shape.inner,
        vocab_size=shape.vocabulary,
        max_position_embeddings=shape.positions,
        type_vocab_size=shape.types,
    )
    if shape.family == "bert":
        model = transformers.BertModel(transformers.BertConfig(**sizes))
    else:
        config = transformers.RobertaConfig(
            pad_token_id=1, bos_token_id=0, eos_token_id=2, layer_norm_eps=1e-5, **sizes
        )
        model = transformers.RobertaModel(config, add_pooling_layer=False)
    part = folder.with_name(f"{folder.name}.part")
    model.save_pretrained(part)
    part.replace(folder)


def training_flops(
    shape: Shape, lengths, rank: int, classes: int = 2, first_token_only: bool = True
) -> int:
    """Floating point operations of one LoRA training pass (rank on query and value, head trained) over these sentences.

    A product of [m, k] and [k, n] counts 2 m k n. Forward, and backward for activations only: the frozen weights need no
    gradient, and neither do the inputs of the first layer's q, k and v. LoRA pairs and the head also need their weights'.
    With `first_token_only`, what of the last layer only feeds other tokens than the first, which no head reads, is not
    counted: it is not needed, even where a way of training computes it. Padding is never counted.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    width, sentences, tokens, pairs = (
        shape.width,
        len(lengths),
        int(lengths.sum()),
        int((lengths**2).sum()),
    )
    total = 0
    for layer in range(shape.layers):
        last = first_token_only and layer == shape.layers - 1
        rows, places = (sentences, tokens) if last else (tokens, pairs)
        query, key_value = 2 * width**2 * rows, 4 * width**2 * tokens
        after = 2 * width * (width + 2 * shape.inner) * rows  # output projection and feed-forward
        attention = 4 * width * places
        adapters = 2 * rank * width * (rows + tokens)  # one of the two products of both pairs
        total += query + key_value + after + attention + 2 * adapters
        total += after + 2 * attention + 3 * adapters
        total += (
            query + key_value + adapters if layer else -2 * width * places
        )  # the first layer's keys need no gradient
    return total + 6 * sentences * (width**2 + width * classes)
