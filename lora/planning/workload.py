"""Sizes of a training before anything is downloaded: model shapes and tokens of tasks.

Rows come from config/models.csv and config/lengths.csv. The config.json of a fetched model and the
tokens.json of prepared data replace them. An unknown model is assumed to be like roberta-base, an
unknown task like MNLI, and each assumption is returned as text. Snakemake imports this module in
every job, so it imports neither numpy nor torch.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

from lora.experiment import csv_tables, registry
from lora.model import config as model_config
from lora.paths import CONFIG_DIR

USUAL_MODEL, USUAL_TASK = "roberta-base", "mnli"
FOLDERS = (
    "fetched.json",
    "tokens.json",
)  # which of the results stand for a whole folder: they are written last


@dataclass(frozen=True)
class Shape:
    """Sizes of a BERT or RoBERTa encoder; `width` is D, `inner` the feed-forward's."""

    layers: int
    width: int
    inner: int
    heads: int
    vocabulary: int
    positions: int
    types: int

    @property
    def parameters(self) -> int:
        """Of the encoder without pooler or head: embeddings and their norm, then projections,
        feed-forward and norms.
        """
        attention, norms = 4 * self.width * (self.width + 1), 4 * self.width
        feed_forward = 2 * self.width * self.inner + self.inner + self.width
        embeddings = (self.vocabulary + self.positions + self.types + 2) * self.width
        return embeddings + self.layers * (attention + feed_forward + norms)


@dataclass(frozen=True)
class Split:
    """Examples of a split and their tokens: the mean, and `attended`, the mean over tokens of
    the length of the sentence that they stand in, E[L^2] / E[L].
    """

    examples: int
    mean: float
    attended: float

    @property
    def tokens(self) -> float:
        return self.examples * self.mean

    def cut(self, max_tokens: int) -> "Split":
        """The split with no mean beyond what examples are cut at."""
        return Split(self.examples, min(self.mean, max_tokens), min(self.attended, max_tokens))


@functools.cache
def _shapes(folder: Path = CONFIG_DIR) -> dict[str, Shape]:
    return {
        row["model"]: Shape(*(int(row[key]) for key in csv_tables.COLUMNS["models.csv"][1:-1]))
        for row in csv_tables.read_rows("models.csv", folder)
    }


@functools.cache
def _splits(folder: Path = CONFIG_DIR) -> dict[tuple[str, str], tuple[Split, bool]]:
    """(task, split) -> its sizes, and whether they were measured."""
    return {
        (row["task"], row["split"]): (
            Split(int(row["examples"]), float(row["mean_tokens"]), float(row["attended_tokens"])),
            row["known"] == "measured",
        )
        for row in csv_tables.read_rows("lengths.csv", folder)
    }


def read() -> None:
    """Read all three files; raises Problems for what is wrong in one of them."""
    registry.devices(), _shapes(), _splits()


def shape_of(results: Path, model: str) -> tuple[Shape, str]:
    """The sizes of a model, and in words what was assumed about them, nothing where they are
    known.
    """
    folder = Path(results) / "sources" / model
    if (folder / FOLDERS[0]).is_file():
        try:
            return _read_shape(folder), ""
        except ValueError:
            pass  # training says what is wrong with it
    found = _shapes().get(model)
    return found or _shapes()[
        USUAL_MODEL
    ], "" if found else f"model {model} is not fetched: taken to be as {USUAL_MODEL}"


def _read_shape(folder: Path) -> Shape:
    config = model_config.with_defaults(model_config.read(folder))
    usual = _shapes()["bert-base-uncased"]  # transformers' defaults are BERT's
    return Shape(
        config.get("num_hidden_layers", usual.layers),
        config.get("hidden_size", usual.width),
        config.get("intermediate_size", usual.inner),
        config.get("num_attention_heads", usual.heads),
        config["vocab_size"],
        config["max_position_embeddings"],
        config["type_vocab_size"],
    )


def splits_of(
    results: Path, model: str, task: registry.Task, max_tokens: int
) -> tuple[dict[str, Split], list[str]]:
    """A task's training and evaluation splits, cut at `max_tokens`, and in words what was
    assumed about them.
    """
    names, said, found = ("train", *task.eval_splits), [], {}
    prepared = _prepared(
        Path(results) / "tokens" / model / task.name / f"t{max_tokens}" / FOLDERS[1]
    )
    for name in names:
        known = _splits().get((task.name, name))
        if name in prepared:
            examples, tokens = prepared[name]
            mean = tokens / examples
            attended = mean * (known[0].attended / known[0].mean if known else 1.25)
            found[name] = Split(examples, mean, attended).cut(max_tokens)
            continue
        if known is None:
            said.append(
                f"{task.name} {name} is in no row of config/lengths.csv: "
                f"taken to be as {USUAL_TASK}"
            )
            known = _splits()[USUAL_TASK, "train" if name == "train" else "validation_matched"]
        elif not known[1]:
            said.append(f"{task.name} {name}: tokens are an estimate (config/lengths.csv)")
        found[name] = known[0].cut(max_tokens)
    return found, said


def _prepared(path: Path) -> dict[str, tuple[int, int]]:
    """Examples and tokens of each split of prepared data; nothing where there is none, or none
    that can be read.
    """
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))["splits"]
        counts = {name: (int(one["examples"]), int(one["tokens"])) for name, one in splits.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {name: count for name, count in counts.items() if min(count) > 0}
