"""Inputs of the benchmarks: model shapes, sentence lengths as in GLUE, and operation counts.

Speed depends on shapes and lengths, not on the text. So the weights, token ids and labels are
random, and the lengths follow those measured on GLUE. Nothing is downloaded, and every way of
training reads the same folders. The benchmarks do not show whether a way learns.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np

EXAMPLES_PER_STEP = 16
PAD_TO = 128  # the longest sentence; the course pads every sentence to it
EVAL_EXAMPLES = 16  # one batch, so that evaluation takes no time


@dataclass(frozen=True)
class Shape:
    """Sizes of a BERT or RoBERTa encoder."""

    family: str
    layers: int
    width: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    types: int


MODELS = {
    # sentence-transformers/all-MiniLM-L6-v2
    "demo": Shape("bert", 6, 384, 12, 1536, 30522, 512, 2),
    # FacebookAI/roberta-base
    "roberta-base": Shape("roberta", 12, 768, 12, 3072, 50265, 514, 1),
    # FacebookAI/roberta-large
    "roberta-large": Shape("roberta", 24, 1024, 16, 4096, 50265, 514, 1),
}


@dataclass(frozen=True)
class Lengths:
    """Lengths of the sentences or pairs of a GLUE training set in tokens.

    The statistics are of the data set; None means not measured. The lengths of the benchmark are
    drawn from a distribution, rounded and clipped to `low` and `maximum`.

    Attributes:
        classes: Number of labels.
        mean, median, p95, maximum: Statistics of the lengths.
        squares: E[L^2] / E[L], on which the cost of attention depends.
        source: Source of the statistics.
        curve: Distribution: "lognormal" or "normal".
        center: Its median or mean.
        spread: Its standard deviation; for "lognormal" that of the logarithm.
        low: Least length.
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
ESTIMATED = (
    "estimated from the bytes per example and the bytes per token of six other tasks; "
    "the spread from E[L^2]/E[L]"
)
LENGTHS = {
    "sst2": Lengths(2, 13.36, 10, 33, 66, 19.9, MEASURED, "lognormal", 10.6, 0.68, 3),
    "mrpc": Lengths(2, 54.08, 54, 75, 104, 57.1, MEASURED, "normal", 54.0, 12.9, 12),
    "mnli": Lengths(3, 40.5, None, None, 128, 52.0, ESTIMATED, "lognormal", 35.7, 0.52, 5),
}


def draw_lengths(facts: Lengths, count: int, seed: int = 0) -> np.ndarray:
    """Return `count` lengths, shape [count], int64, in random order.

    They are evenly spaced quantiles of the curve, so a few hundred have its mean and spread.
    """
    quantiles = np.array([NormalDist().inv_cdf((index + 0.5) / count) for index in range(count)])
    if facts.curve == "lognormal":
        lengths = facts.center * np.exp(facts.spread * quantiles)
    else:
        lengths = facts.center + facts.spread * quantiles
    lengths = np.clip(np.rint(lengths), facts.low, facts.maximum).astype(np.int64)
    return np.random.default_rng(seed).permutation(lengths)


def write_tokens(
    folder: Path, facts: Lengths, steps: int, vocabulary: int, task: str = "benchmark"
) -> np.ndarray:
    """Write random tokens as `lora prepare` does; return the lengths of the training examples."""
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
    facts_of_tokens = dict(
        task=task,
        max_tokens=PAD_TO,
        num_labels=facts.classes,
        splits=splits,
        source="random tokens",
    )
    files.write_json(
        folder / FACTS, facts_of_tokens | dict(sha256=arrays_sha256(arrays), tokenizer_sha256="")
    )
    return np.diff(arrays["train.offsets"])


def write_model(folder: Path, shape: Shape) -> None:
    """Write the encoder with random weights, as `save_pretrained` does; the same bits each time."""
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
    shape: Shape, lengths: np.ndarray, rank: int, classes: int = 2, first_token_only: bool = True
) -> int:
    """Floating point operations of one training pass of LoRA on query and value, head included.

    A product of [m, k] and [k, n] counts 2 m k n. Counted are the forward pass and the gradients of
    activations: frozen weights need no gradient, nor do the inputs of q, k and v in the first
    layer. LoRA pairs and the head also need the gradients of their weights. With
    `first_token_only`, the part of the last layer that only feeds tokens after the first is not
    counted, because no head reads it. Padding is never counted.
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
        queries, products = (sentences, tokens) if last else (tokens, pairs)
        query, key_value = 2 * width**2 * queries, 4 * width**2 * tokens
        # output projection and feed-forward
        after = 2 * width * (width + 2 * shape.inner) * queries
        attention = 4 * width * products
        adapters = 2 * rank * width * (queries + tokens)  # one of the two products of both pairs
        total += query + key_value + after + attention + 2 * adapters
        total += after + 2 * attention + 3 * adapters
        # the inputs of the first layer need no gradient
        total += query + key_value + adapters if layer else -2 * width * products
    return total + 6 * sentences * (width**2 + width * classes)
