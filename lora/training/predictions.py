"""Labels and probabilities of texts, by a finished run."""

from collections.abc import Iterator, Sequence

import numpy as np

from lora.data import prepare, tokenizer
from lora.data.examples import Examples
from lora.data.texts import Texts
from lora.files import Row
from lora.training.trained_run import TrainedRun

CLASS_COLUMNS = ("id", "label", "probability")
SCORE_COLUMNS = ("id", "value")


def columns(run: TrainedRun) -> tuple[str, ...]:
    """Return the columns of the rows that `predict` returns."""
    return SCORE_COLUMNS if run.num_labels == 1 else CLASS_COLUMNS


def predict(run: TrainedRun, texts: Texts) -> list[Row]:
    """Return the prediction for each text.

    Args:
        run: The run. Longer texts are cut at its max_tokens, as in training.
        texts: The texts.

    Returns:
        For each text, in order: id, the name of the most probable class (its number if the names
        are unknown) and its probability, the softmax of the logits. For regression: id and value.
    """
    unlabelled = Examples(texts.first, texts.second, [0.0] * len(texts))
    model_tokenizer = tokenizer.load(run.model_dir, run.hparams.max_tokens)
    tokens, _ = prepare.tokenise(model_tokenizer, unlabelled)
    logits = run.predict(tokens).astype(np.float64)
    if run.num_labels == 1:
        values = zip(texts.ids, logits[:, 0], strict=True)
        return [{"id": name, "value": float(value)} for name, value in values]
    return list(_rows(texts.ids, logits, run.label_names))


def _rows(ids: Sequence[str], logits: np.ndarray, names: Sequence[str]) -> Iterator[Row]:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    for name, index, row in zip(ids, logits.argmax(axis=1), probabilities, strict=True):
        label = names[index] if names else str(index)
        yield {"id": name, "label": label, "probability": float(row[index])}
