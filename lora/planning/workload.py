"""Sizes of a training before anything is downloaded: model shapes and tokens of tasks.

Rows come from config/models.csv and config/lengths.csv. The config.json of a model and the
tokens.json of prepared data replace them. An unknown model is assumed to be like roberta-base, an
unknown task like MNLI, and each assumption is returned as text. Snakemake imports this module in
every job, so it imports neither numpy nor torch.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

from lora import paths
from lora.experiment import csv_tables, local_data, registry
from lora.experiment.source import Source
from lora.model import config as model_config
from lora.model.architecture import Architecture

LINES = (".csv", ".tsv", ".jsonl", ".ndjson")  # files with an example a line
DEFAULT_MODEL, DEFAULT_TASK = "roberta-base", "mnli"


@dataclass(frozen=True)
class Shape:
    """Sizes of an encoder.

    `width` is D, `inner` the inner width of the feed-forward block, `vocabulary`, `positions` and
    `types` the rows of the embeddings, `embedding` their width; 0 is the model's. `other` and
    `other_biases` are the parameters of relative positions and a convolution, `relative_terms` the
    terms of attention's scores from relative positions, `table_rows` the rows of their table,
    `kernel` the width of the convolution.
    """

    layers: int
    width: int
    inner: int
    heads: int
    vocabulary: int
    positions: int
    types: int
    embedding: int = 0
    other: int = 0
    other_biases: int = 0
    relative_terms: int = 0
    table_rows: int = 0
    kernel: int = 0

    @property
    def parameters(self) -> int:
        """Number of parameters of the encoder, without pooler and head."""
        attention, norms = 4 * self.width * (self.width + 1), 4 * self.width
        feed_forward = 2 * self.width * self.inner + self.inner + self.width
        rows = self.vocabulary + self.positions + self.types + 2  # and LayerNorm's two
        embeddings = rows * (self.embedding or self.width)
        if self.embedding:
            embeddings += (self.embedding + 1) * self.width  # the projection to the model's width
        return embeddings + self.layers * (attention + feed_forward + norms) + self.other


@dataclass(frozen=True)
class Split:
    """Number of examples of a split, and their lengths in tokens.

    For lengths L, `mean` is E[L], and `attended` is E[L^2] / E[L]: the mean number of positions
    that a token attends to.
    """

    examples: int
    mean: float
    attended: float

    @property
    def tokens(self) -> float:
        """Number of tokens of all examples."""
        return self.examples * self.mean

    def cut(self, max_tokens: int) -> "Split":
        """Return the split with both means at most `max_tokens`."""
        return Split(self.examples, min(self.mean, max_tokens), min(self.attended, max_tokens))


@functools.cache
def _shapes(folder: Path = paths.CONFIG_DIR) -> dict[str, Shape]:
    """Sizes of the models of models.csv, by name."""
    return {
        row["model"]: Shape(*(int(row[key]) for key in csv_tables.COLUMNS["models.csv"][1:-1]))
        for row in csv_tables.read_rows("models.csv", folder)
    }


@functools.cache
def _splits(folder: Path = paths.CONFIG_DIR) -> dict[tuple[str, str], tuple[Split, bool]]:
    """Sizes of the splits of lengths.csv by (task, split), and whether they were measured."""
    return {
        (row["task"], row["split"]): (
            Split(int(row["examples"]), float(row["mean_tokens"]), float(row["attended_tokens"])),
            row["known"] == "measured",
        )
        for row in csv_tables.read_rows("lengths.csv", folder)
    }


def read() -> None:
    """Read devices.csv, models.csv and lengths.csv, and raise ConfigError if a row is wrong."""
    registry.devices(), _shapes(), _splits()


def shape_of(results: str | Path, model: str, source: Source | None = None) -> tuple[Shape, str]:
    """Return the sizes of a model, and the assumption about them.

    Args:
        results: The results folder. If the model was fetched, its own config.json is read.
        model: Name of the model.
        source: Where it comes from. If that is a folder, the config.json there is read.

    Returns:
        The sizes, and the assumption in words; the words are empty if the model is known.
    """
    folders = []
    if Path(paths.manifest(results, model)).is_file():
        folders.append(Path(paths.source_dir(results, model)))
    if source is not None and source.kind == "file":
        folders.append(Path(source.locator))
    for folder in folders:
        try:
            return shape_of_folder(folder), ""
        except ValueError:
            pass  # fetching and training report what is wrong with it
    shapes = _shapes()
    if model in shapes:
        return shapes[model], ""
    assumption = f"model {model} is not fetched: assumed to be like {DEFAULT_MODEL}"
    return shapes[DEFAULT_MODEL], assumption


def shape_of_folder(folder: Path) -> Shape:
    """Return the sizes of the model in a folder; raise ValueError if its config.json is wrong."""
    one = Architecture.of(model_config.read(folder))
    other, other_biases = one.other_parameters
    return Shape(
        layers=one.layers,
        width=one.width,
        inner=one.inner,
        heads=one.heads,
        vocabulary=one.vocabulary,
        positions=one.positions,
        types=one.types,
        embedding=one.embedding_width if one.projects_embeddings else 0,
        other=other,
        other_biases=other_biases,
        relative_terms=0 if one.relative is None else len(one.relative.kinds),
        table_rows=0 if one.relative is None else one.relative.rows,
        kernel=0 if one.convolution is None else one.convolution.kernel,
    )


def splits_of(
    results: str | Path,
    model: str,
    task: registry.Task,
    max_tokens: int,
    path: Path | None = None,
) -> tuple[dict[str, Split], list[str]]:
    """Return the sizes of a task's training and evaluation splits, and the assumptions about them.

    Args:
        results: The results folder. If the task was prepared for the model, its tokens.json is
            read.
        model: Name of the model.
        task: The task.
        max_tokens: Number of tokens that longer examples are cut to.
        path: Local data of a task of the config, whose size gives an estimate.

    Returns:
        The sizes by split, and the assumptions in words.
    """
    assumptions, splits = [], {}
    folder = paths.tokens_dir(results, model, task.name, max_tokens)
    prepared = _prepared(Path(folder, paths.TOKENS_JSON))
    for name in ("train", *task.eval_splits):
        known = _splits().get((task.name, name))
        if name in prepared:
            examples, tokens = prepared[name]
            mean = tokens / examples
            attended = mean * (known[0].attended / known[0].mean if known else 1.25)
            splits[name] = Split(examples, mean, attended).cut(max_tokens)
            continue
        size = _size_of_files(path) if known is None and path else None
        if size is not None:
            rows, length = size
            share = 1.0 if task.table is None else task.table.dev_fraction
            examples = max(1, round(rows * (1 - share if name == "train" else share)))
            assumptions.append(
                f"{task.name} {name}: {examples:,} examples of {length:.0f} tokens, an estimate "
                f"from the size of {path}"
            )
            known = Split(examples, length, 1.25 * length), False
        elif known is None:
            assumptions.append(
                f"{task.name} {name} is in no row of config/lengths.csv: "
                f"assumed to be like {DEFAULT_TASK}"
            )
            known = _splits()[DEFAULT_TASK, "train" if name == "train" else "validation_matched"]
        elif not known[1]:
            assumptions.append(f"{task.name} {name}: tokens are an estimate (config/lengths.csv)")
        splits[name] = known[0].cut(max_tokens)
    return splits, assumptions


def _size_of_files(path: Path) -> tuple[int, float] | None:
    """Return the lines and the mean tokens a line of text files, None if there are none.

    A token is taken for 5 bytes; the other columns count as text.
    """
    files = local_data.select(path).values() if path.exists() else ()
    lines = size = 0
    for one in files:
        if one.suffix.lower() in LINES:
            with open(one, "rb") as handle:
                lines += sum(
                    chunk.count(b"\n") for chunk in iter(lambda: handle.read(1 << 20), b"")
                )
            size += one.stat().st_size
    return (lines, max(3.0, size / lines / 5 + 2)) if lines else None


def _prepared(path: Path) -> dict[str, tuple[int, int]]:
    """Number of examples and tokens of each split in a tokens.json.

    Empty if the file is missing or cannot be read.
    """
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))["splits"]
        counts = {
            name: (int(size["examples"]), int(size["tokens"])) for name, size in splits.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {name: count for name, count in counts.items() if min(count) > 0}
