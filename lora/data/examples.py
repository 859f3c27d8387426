"""Text and labels of a task from a fetched folder: GLUE as saved from the hub, GLUE's official TSV files, or the demo's
rated sentences.

All forms end as the same `Examples`, with the hub's label numbers, so nothing after this module knows where a data set
came from. Nothing is skipped or repaired: whatever cannot be read raises a ValueError that names file, line and what is
allowed. The price is that QQP's official train file, which has a few broken lines, must be mended by hand or taken from
the hub, where they are left out. An empty text cell is text; test splits, which have no labels, are never read.

The demo's four tasks stand in for GLUE where only a package index can be reached. They are made of sentences rated from
-4 to 4 for Hutto and Gilbert (ICWSM 2014), and are no GLUE tasks: their scores compare with nothing published.
"""

import hashlib
import html
import math
from dataclasses import dataclass
from pathlib import Path

from lora.errors import shown
from lora.experiment.task import Task
from lora.files import NUMBER, read_text

DEMO_TRAIN, DEMO_EVAL = (
    500,
    400,
)  # examples; evaluation is drawn first, so another training size leaves it as it is
MIN_WORDS = 3  # shorter snippets ("!", "great player.") say too little


@dataclass(frozen=True)
class DemoTask:
    """How a demo task is made of rated sentences. `thresholds` cut the mean rating into classes (None: the label is
    the rating); sentences closer than `gap` to one are left out. `pairs`: neighbours in an article, not ratings."""

    file: str
    thresholds: tuple[float, ...] | None = None
    gap: float = 0.0
    pairs: bool = False
    train: int = DEMO_TRAIN
    evaluation: int = DEMO_EVAL


DEMO_TASKS = {
    "movie-polarity": DemoTask("movieReviewSnippets_GroundTruth.txt", thresholds=(0.0,), gap=0.5),
    "same-article": DemoTask("nytEditorialSnippets_GroundTruth.txt", pairs=True, train=600),
    "tweet-intensity": DemoTask("tweets_GroundTruth.txt"),
    "product-sentiment": DemoTask("amazonReviewSnippets_GroundTruth.txt", thresholds=(-0.5, 0.5)),
}
RATINGS = (-4.0, 4.0)

ENTAILMENT = {"entailment": 0, "not_entailment": 1}


@dataclass(frozen=True)
class Layout:
    """An official TSV data set: its folder, `header` where the file has none, and the names of what is read."""

    folder: str
    texts: tuple[str, ...]
    label: str = "label"
    names: dict[str, int] | None = None
    header: tuple[str, ...] | None = None
    limits: tuple[float, float] = (-math.inf, math.inf)


# gluebenchmark.com's files; label numbers as in nyu-mll/glue@bcdcba7
OFFICIAL = {
    "cola": Layout("CoLA", ("sentence",), header=("source", "label", "mark", "sentence")),
    "sst2": Layout("SST-2", ("sentence",)),
    "mrpc": Layout("MRPC", ("#1 String", "#2 String"), "Quality"),
    "stsb": Layout("STS-B", ("sentence1", "sentence2"), "score", limits=(0.0, 5.0)),
    "qqp": Layout("QQP", ("question1", "question2"), "is_duplicate"),
    "mnli": Layout(
        "MNLI",
        ("sentence1", "sentence2"),
        "gold_label",
        {"entailment": 0, "neutral": 1, "contradiction": 2},
    ),
    "qnli": Layout("QNLI", ("question", "sentence"), names=ENTAILMENT),
    "rte": Layout("RTE", ("sentence1", "sentence2"), names=ENTAILMENT),
}
DEV_FILES = {
    "validation": "dev",
    "validation_matched": "dev_matched",
    "validation_mismatched": "dev_mismatched",
}


@dataclass(frozen=True)
class Examples:
    """The texts and labels of one split, in the file's order; `second` is None where a task has one text an example."""

    first: list[str]
    second: list[str] | None
    labels: list[float]

    def __len__(self) -> int:
        return len(self.labels)


def read(task: Task, folder: Path) -> dict[str, Examples]:
    """The split "train" and each of the task's `eval_splits`, from a folder as `fetch` leaves it or as GLUE ships it.

    Raises ValueError for a file, line or label that is not as it should be.
    """
    folder = Path(folder)
    if task.format == "vader":
        return _read_demo(task, folder)
    if task.format != "glue":
        raise ValueError(f"task {task.name}: format is {task.format!r}; allowed: glue, vader")
    if (folder / "dataset_dict.json").is_file():
        return _read_saved(task, folder)
    return _read_official(task, folder)


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file without byte-order mark and line ends; raises ValueError naming the line not text.

    Only \\n and \\r\\n end a line: `str.splitlines` would also cut at characters that occur inside sentences.
    """
    text = read_text(path)
    lines = (
        [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []
    )
    if not lines:
        raise ValueError(f"{path} is empty; expected at least one line")
    return lines


def _label(
    task: Task,
    written,
    where: str,
    names: dict[str, int] | None = None,
    limits=(-math.inf, math.inf),
) -> float:
    """A label as a number; raises ValueError saying what is allowed."""
    if names is not None:
        if written not in names:
            raise ValueError(f"{where}: label {shown(written)}; allowed: {', '.join(names)}")
        return float(names[written])
    try:
        value = (
            math.nan
            if isinstance(written, str) and not NUMBER.fullmatch(written.strip())
            else float(written)
        )
    except (TypeError, ValueError):
        value = math.nan
    if task.is_regression:
        if not (math.isfinite(value) and limits[0] <= value <= limits[1]):
            span = (
                f"a number from {limits[0]:g} to {limits[1]:g}"
                if math.isfinite(limits[0])
                else "a finite number"
            )
            raise ValueError(f"{where}: label {shown(written)}; allowed: {span}")
    elif value not in range(task.num_labels):
        raise ValueError(
            f"{where}: label {shown(written)}; allowed: the whole numbers 0 to {task.num_labels - 1}"
        )
    return value


def _read_saved(task: Task, folder: Path) -> dict[str, Examples]:
    """A data set that `datasets` saved with `save_to_disk`."""
    from datasets import load_from_disk

    try:
        saved = load_from_disk(str(folder))
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:  # of damaged JSON inside
        why = f"{type(error).__name__}: {str(error)[:300]}"
        raise ValueError(
            f"{folder} is no data set that datasets can load ({why}); save or fetch it again"
        ) from None
    splits = {}
    for split in ("train", *task.eval_splits):
        if split not in saved:
            raise ValueError(f"{folder}: no split {split!r}; it has: {', '.join(saved)}")
        table, wanted = saved[split], (*task.text_columns, "label")
        missing = [name for name in wanted if name not in table.column_names]
        if missing:
            raise ValueError(
                f"{folder}, split {split}: no column {missing}; it has: {', '.join(table.column_names)}"
            )
        texts = [table[name][:] for name in task.text_columns]
        for name, column in zip(task.text_columns, texts, strict=True):
            for row, text in enumerate(column):
                if not isinstance(text, str):
                    raise ValueError(
                        f"{folder}, split {split}, row {row}, column {name}: {text!r}; expected text"
                    )
        labels = [_label(task, label, f"{folder}, split {split}, row {row}")
                  for row, label in enumerate(table["label"][:])]  # fmt: skip
        splits[split] = _examples(texts, labels, f"{folder}, split {split}")
    return splits


def _read_official(task: Task, folder: Path) -> dict[str, Examples]:
    """Official TSV files, in the folder or in its subfolder of the official name; another task's need `text_columns`
    and `label` in the header. A cell is what stands between two tabs: GLUE's files have quotes but no quoting."""
    layout = OFFICIAL.get(task.name, Layout(task.name, task.text_columns))
    if not (folder / "train.tsv").is_file():
        if not (folder / layout.folder / "train.tsv").is_file():
            raise ValueError(
                f"task {task.name}: no data in {folder}; allowed: a folder with dataset_dict.json (datasets' "
                f"save_to_disk), train.tsv, or {layout.folder}/train.tsv"
            )
        folder = folder / layout.folder
    files = {
        "train": "train.tsv",
        **{split: f"{DEV_FILES.get(split, split)}.tsv" for split in task.eval_splits},
    }
    return {split: _read_tsv(task, layout, folder / name) for split, name in files.items()}


def _read_tsv(task: Task, layout: Layout, path: Path) -> Examples:
    lines = read_lines(path)
    header = list(layout.header or lines[0].split("\t"))
    first = 0 if layout.header else 1
    wanted = (*layout.texts, layout.label)
    missing = [name for name in wanted if name not in header]
    if missing:
        raise ValueError(
            f"{path}: no column {missing}; its header is {shown(header)}, expected {', '.join(wanted)}"
        )
    twice = sorted({name for name in wanted if header.count(name) > 1})
    if twice:
        raise ValueError(
            f"{path}: column {', '.join(twice)} is in its header more than once; keep one"
        )
    texts, labels = [[] for _ in layout.texts], []
    at, label_at = [header.index(name) for name in layout.texts], header.index(layout.label)
    for number, line in enumerate(lines[first:], start=first + 1):
        cells = line.split("\t")
        if len(cells) != len(header):
            hint = (
                " (the hub's copy, glue:qqp, leaves such lines out)" if task.name == "qqp" else ""
            )
            raise ValueError(
                f"{path}, line {number}: {len(cells)} columns; expected {len(header)}: {shown(header)}{hint}"
            )
        for column, index in zip(texts, at, strict=True):
            column.append(cells[index])
        labels.append(
            _label(task, cells[label_at], f"{path}, line {number}", layout.names, layout.limits)
        )
    return _examples(texts, labels, str(path))


def _examples(texts: list[list[str]], labels: list[float], where: str) -> Examples:
    if not labels:
        raise ValueError(f"{where} holds no example; expected at least one")
    return Examples(texts[0], texts[1] if len(texts) == 2 else None, labels)


def normalised(text: str) -> str:
    """What makes two sentences the same one: letters' case and white space do not count."""
    return " ".join(text.lower().split())


def _order(text: str) -> str:
    """A fixed shuffle's sort key: the text's own hash, which no library's random numbers can change."""
    return hashlib.sha256(normalised(text).encode()).hexdigest()


def _read_demo(task: Task, folder: Path) -> dict[str, Examples]:
    """A demo task's splits: sentences in the order of their hashes, evaluation first; none occurs twice."""
    if task.name not in DEMO_TASKS or len(task.eval_splits) != 1:
        raise ValueError(
            f"task {task.name}: format vader has the tasks {', '.join(DEMO_TASKS)}, with one eval split"
        )
    demo = DEMO_TASKS[task.name]
    path = folder / demo.file
    rows = _read_rated(path)
    make = _article_pairs if demo.pairs else _rated_sentences
    splits = dict(zip((*task.eval_splits, "train"), make(demo, rows, path), strict=True))
    for split in splits.values():
        for label in split.labels:
            _label(task, label, str(path))
    return splits


def _read_rated(path: Path) -> list[tuple[str, float, str]]:
    """(id, mean rating, text) of a file's lines, the first of each sentence, HTML entities replaced."""
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
            rows.append((cells[0], rating, text))
    return rows


def _rated_sentences(demo: DemoTask, rows: list, path: Path) -> list[Examples]:
    thresholds = demo.thresholds or ()
    kept = [
        (text, rating)
        for _, rating, text in rows
        if all(abs(rating - at) >= demo.gap for at in thresholds)
    ]
    kept.sort(key=lambda row: _order(row[0]))
    if len(kept) < demo.evaluation + demo.train:
        raise ValueError(
            f"{path}: {len(kept)} sentences; {demo.evaluation} + {demo.train} are needed"
        )
    splits = []
    for part in (kept[: demo.evaluation], kept[demo.evaluation : demo.evaluation + demo.train]):
        labels = [
            float(sum(rating > at for at in thresholds)) if thresholds else rating
            for _, rating in part
        ]
        splits.append(Examples([text for text, _ in part], None, labels))
    return splits


def _article_pairs(demo: DemoTask, rows: list, path: Path) -> list[Examples]:
    """Half pairs of neighbouring sentences (label 1), half with second sentences swapped between articles (label 0).

    No sentence is in two pairs and no article in two splits, so both halves have the same kind of first and of second
    sentence, and only whether they belong together tells them apart.
    """
    articles: dict[str, list[tuple[int, str]]] = {}
    for identity, _, text in rows:
        article, _, number = identity.partition("_")
        if not number.isdecimal():
            raise ValueError(f"{path}: id {shown(identity)}; expected <article>_<sentence>")
        articles.setdefault(article, []).append((int(number), text))
    ordered = iter(sorted(articles, key=lambda article: _order(articles[article][0][1])))
    splits = []
    for wanted in (demo.evaluation, demo.train):
        pairs = []
        while len(pairs) < wanted:
            article = next(ordered, None)
            if article is None:
                raise ValueError(
                    f"{path}: too few articles; {demo.evaluation} + {demo.train} pairs are needed"
                )
            pairs += [(article, *pair) for pair in _neighbours(articles[article])]
        splits.append(_swap_half(pairs[:wanted]))
    return splits


def _neighbours(sentences: list[tuple[int, str]]) -> list[tuple[str, str]]:
    """Pairs of sentences that follow each other, none in two pairs."""
    pairs, last = [], None
    for number, text in sorted(sentences):
        if last is not None and number == last[0] + 1:
            pairs.append((last[1], text))
            last = None
        else:
            last = (number, text)
    return pairs


def _swap_half(pairs: list[tuple[str, str, str]]) -> Examples:
    """Every other pair in hash order gets another article's second sentence: those pairs stand article by article, and
    their second sentences move on by the most pairs that one article has."""
    by_hash = sorted(pairs, key=lambda pair: _order(pair[1]))
    chosen = set(by_hash[1::2])
    swapped = [pair for pair in pairs if pair in chosen]
    shift = max(
        sum(pair[0] == article for pair in swapped) for article in {pair[0] for pair in swapped}
    )
    if 2 * shift > len(swapped):
        raise ValueError(
            f"{len(pairs)} sentence pairs are too few to swap between articles; one has {shift} of them"
        )
    seconds = {pair: swapped[(at + shift) % len(swapped)][2] for at, pair in enumerate(swapped)}
    labels = [float(pair not in chosen) for pair in by_hash]
    return Examples(
        [pair[1] for pair in by_hash], [seconds.get(pair, pair[2]) for pair in by_hash], labels
    )
