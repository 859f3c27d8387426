"""Demo tasks: four small tasks made from rated sentences in a package on PyPI.

They replace GLUE where only a package index can be reached. No published scores compare with
theirs. The sentences were rated from -4 to 4 for Hutto and Gilbert (ICWSM 2014).
"""

import hashlib
import html
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lora.data.examples import Examples, RawSplit, read_lines
from lora.errors import shown
from lora.experiment.task import Task

TRAIN_SIZE = 500  # examples
EVAL_SIZE = 400  # drawn first, so another training size leaves the evaluation set unchanged
MIN_WORDS = 3  # shorter snippets ("!", "great player.") carry too little
RATINGS = (-4.0, 4.0)


@dataclass(frozen=True)
class DemoTask:
    """Recipe of a demo task.

    Attributes:
        file: Name of its file of rated sentences.
        thresholds: Mean ratings between the classes; None if the label is the rating.
        gap: Sentences closer than this to a threshold are left out.
        pairs: Whether the task is about neighbouring sentences instead of ratings.
        train: Number of training examples.
        evaluation: Number of evaluation examples.
    """

    file: str
    thresholds: tuple[float, ...] | None = None
    gap: float = 0.0
    pairs: bool = False
    train: int = TRAIN_SIZE
    evaluation: int = EVAL_SIZE


DEMO_TASKS = {
    "movie-polarity": DemoTask("movieReviewSnippets_GroundTruth.txt", thresholds=(0.0,), gap=0.5),
    "same-article": DemoTask("nytEditorialSnippets_GroundTruth.txt", pairs=True, train=600),
    "tweet-intensity": DemoTask("tweets_GroundTruth.txt"),
    "product-sentiment": DemoTask("amazonReviewSnippets_GroundTruth.txt", thresholds=(-0.5, 0.5)),
}


class Rated(NamedTuple):
    """A sentence with its id in the file and its mean rating."""

    id: str
    rating: float
    text: str


class Pair(NamedTuple):
    """Two neighbouring sentences of an article."""

    article: str
    first: str
    second: str


def read(task: Task, folder: Path) -> dict[str, RawSplit]:
    """Return the splits of a demo task, without repeated sentences.

    The order is that of the sentences' hashes, so no library's random numbers can change it.

    Raises:
        ValueError: If the task is not in DEMO_TASKS, or the file is wrong or too short.
    """
    if task.name not in DEMO_TASKS or len(task.eval_splits) != 1:
        raise ValueError(
            f"task {task.name}: format vader has the tasks {', '.join(DEMO_TASKS)}, with one eval "
            "split"
        )
    recipe = DEMO_TASKS[task.name]
    if len(task.text_columns) != 1 + recipe.pairs:
        raise ValueError(
            f"task {task.name}: text_columns has {len(task.text_columns)} names; allowed: "
            f"{1 + recipe.pairs}"
        )
    path = folder / recipe.file
    sentences = _read_rated(path)
    make_splits = _split_pairs if recipe.pairs else _split_rated
    evaluation, train = make_splits(recipe, sentences, path)
    return {
        split: RawSplit(
            where=f"{path}, split {split}",
            texts=dict(zip(task.text_columns, [one.first, one.second or []], strict=False)),
            labels=one.labels,
            rows=range(len(one)),
            unit="example",
        )
        for split, one in ((task.eval_splits[0], evaluation), ("train", train))
    }


def normalised(text: str) -> str:
    """Return a text without its case and spacing: two sentences equal in this are the same."""
    return " ".join(text.lower().split())


def _order(text: str) -> str:
    """Return the sort key of a fixed shuffle: the text's own hash."""
    return hashlib.sha256(normalised(text).encode()).hexdigest()


def _read_rated(path: Path) -> list[Rated]:
    """Read a file's sentences, with HTML entities replaced and repetitions left out."""
    rows, seen = [], set()
    for number, line in enumerate(read_lines(path), start=1):
        cells = line.split("\t")
        if len(cells) != 3:
            raise ValueError(
                f"{path}, line {number}: {len(cells)} columns; expected 3: id, mean rating, text"
            )
        try:
            rating = float(cells[1])
        except ValueError:
            rating = math.nan
        if not RATINGS[0] <= rating <= RATINGS[1]:
            raise ValueError(
                f"{path}, line {number}: rating {shown(cells[1])}; allowed: a number from -4 to 4"
            )
        text = html.unescape(cells[2]).strip()
        if len(text.split()) >= MIN_WORDS and normalised(text) not in seen:
            seen.add(normalised(text))
            rows.append(Rated(cells[0], rating, text))
    return rows


def _split_rated(recipe: DemoTask, sentences: list[Rated], path: Path) -> tuple[Examples, Examples]:
    """Return the evaluation and training examples of a task about ratings."""
    thresholds = recipe.thresholds or ()
    kept = [
        row
        for row in sentences
        if all(abs(row.rating - threshold) >= recipe.gap for threshold in thresholds)
    ]
    kept.sort(key=lambda row: _order(row.text))
    end = recipe.evaluation + recipe.train
    if len(kept) < end:
        raise ValueError(
            f"{path}: {len(kept)} sentences; {recipe.evaluation} + {recipe.train} are needed. "
            "Fetch the source again"
        )

    def examples(rows: list[Rated]) -> Examples:
        labels = [row.rating for row in rows]
        if thresholds:
            labels = [float(sum(rating > at for at in thresholds)) for rating in labels]
        return Examples([row.text for row in rows], None, labels)

    return examples(kept[: recipe.evaluation]), examples(kept[recipe.evaluation : end])


def _split_pairs(recipe: DemoTask, sentences: list[Rated], path: Path) -> tuple[Examples, Examples]:
    """Return the evaluation and training examples of a task about neighbouring sentences.

    Half of the pairs are neighbours (label 1), half have second sentences of other articles (label
    0). No sentence is in two pairs and no article in two splits. Both halves have the same kinds of
    first and second sentences; only whether they belong together differs.
    """
    articles: dict[str, list[tuple[int, str]]] = {}
    for row in sentences:
        article, _, number = row.id.partition("_")
        if not number.isdecimal():
            raise ValueError(f"{path}: id {shown(row.id)}; expected <article>_<sentence>")
        articles.setdefault(article, []).append((int(number), row.text))
    remaining = iter(sorted(articles, key=lambda article: _order(articles[article][0][1])))

    def take(size: int) -> Examples:
        pairs: list[Pair] = []
        while len(pairs) < size:
            article = next(remaining, None)
            if article is None:
                raise ValueError(
                    f"{path}: too few articles; {recipe.evaluation} + {recipe.train} pairs are "
                    "needed. Fetch the source again"
                )
            pairs += _neighbours(article, articles[article])
        return _swap_half(pairs[:size])

    evaluation = take(recipe.evaluation)
    return evaluation, take(recipe.train)


def _neighbours(article: str, sentences: list[tuple[int, str]]) -> Iterator[Pair]:
    """Yield pairs of consecutive sentences, no sentence in two pairs."""
    last: tuple[int, str] | None = None
    for number, text in sorted(sentences):
        if last is not None and number == last[0] + 1:
            yield Pair(article, last[1], text)
            last = None
        else:
            last = (number, text)


def _swap_half(pairs: list[Pair]) -> Examples:
    """Give every other pair, in hash order, the second sentence of another article.

    The chosen pairs are sorted by article. Their second sentences move on by as many pairs as the
    largest article has, so none stays within its article.
    """
    by_hash = sorted(pairs, key=lambda pair: _order(pair.first))
    chosen = set(by_hash[1::2])
    swapped = [pair for pair in pairs if pair in chosen]
    names = [pair.article for pair in swapped]
    shift = max(names.count(name) for name in set(names))
    if 2 * shift > len(swapped):
        raise ValueError(
            f"{len(pairs)} sentence pairs are too few to swap between articles; one has {shift} of "
            "them. Fetch the source again"
        )
    seconds = {
        pair: swapped[(index + shift) % len(swapped)].second for index, pair in enumerate(swapped)
    }
    return Examples(
        [pair.first for pair in by_hash],
        [seconds.get(pair, pair.second) for pair in by_hash],
        [float(pair not in chosen) for pair in by_hash],
    )
