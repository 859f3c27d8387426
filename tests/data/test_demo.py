"""Demo tasks from made sentences, and from the package that holds the real ones."""

import dataclasses
from collections import Counter
from pathlib import Path

import pytest

from lora.data import fetch
from lora.data.demo import DEMO_TASKS, normalised
from lora.data.formats import read
from lora.errors import FetchError
from lora.experiment import registry

TASKS = registry.read_tasks()


def rated(folder: Path, name: str, lines: list[str]) -> Path:
    """Write the file of rated sentences of a demo task."""
    folder.mkdir(exist_ok=True)
    (folder / DEMO_TASKS[name].file).write_bytes("".join(f"{line}\r\n" for line in lines).encode())
    return folder


def made_sentences(count: int) -> list[str]:
    return [
        f"{i}\t{(i % 81 - 40) / 10}\tThis &amp; that  sentence {i // 2 if i < 40 else i}"
        for i in range(count)
    ]


@pytest.mark.parametrize("name", ["movie-polarity", "tweet-intensity", "product-sentiment"])
def test_splits_are_disjoint_and_labelled_by_the_ratings(tmp_path, name):
    lines = made_sentences(2000)
    splits = read(TASKS[name], rated(tmp_path, name, lines))
    demo = DEMO_TASKS[name]
    assert (len(splits["train"]), len(splits["validation"])) == (demo.train, demo.evaluation)
    texts = [normalised(text) for examples in splits.values() for text in examples.first]
    assert len(set(texts)) == len(texts)
    rating = {}
    for line in lines:
        _, value, text = line.replace("&amp;", "&").split("\t")
        rating.setdefault(normalised(text), float(value))
    for examples in splits.values():
        for text, label in zip(examples.first, examples.labels, strict=True):
            value = rating[normalised(text)]
            assert "&amp;" not in text
            if name == "movie-polarity":
                assert abs(value) >= demo.gap and label == (value > 0)
            elif name == "product-sentiment":
                assert label == (0 if value <= -0.5 else 1 if value <= 0.5 else 2)
            else:
                assert label == value
    doubled = [
        line.upper().replace("&AMP;", "&amp;") for line in lines
    ]  # the same sentence in another case
    again = read(TASKS[name], rated(tmp_path, name, lines + doubled))
    assert again == splits


def test_pairs_are_neighbours_or_of_two_articles(tmp_path):
    lines = [
        f"{a}_{s}\t0.1\tArticle {a} says thing number {s}"
        for a in range(600)
        for s in range(1, 10)
        if s != 4
    ]
    splits, demo = (
        read(TASKS["same-article"], rated(tmp_path, "same-article", lines)),
        DEMO_TASKS["same-article"],
    )
    where = {line.split("\t")[2]: tuple(map(int, line.split("\t")[0].split("_"))) for line in lines}
    assert len(splits["train"]) == demo.train and len(splits["validation"]) == demo.evaluation
    used, articles = [], []
    for examples in splits.values():
        assert Counter(examples.labels) == {0.0: len(examples) / 2, 1.0: len(examples) / 2}
        for first, second, label in zip(
            examples.first, examples.second, examples.labels, strict=True
        ):
            (a, s), (b, t) = where[first], where[second]
            assert (a == b and t == s + 1) if label else a != b
        used += examples.first + examples.second
        articles.append({where[text][0] for text in examples.first + examples.second})
    assert len(set(used)) == len(used)
    assert not articles[0] & articles[1]


@pytest.mark.parametrize(
    "name, lines, message",
    [
        ("tweet-intensity", ["1\t0.5"], "line 1: 2 columns; expected 3"),
        (
            "tweet-intensity",
            ["1\t0.5\tone two three", "2\t4.5\tx"],
            "line 2: rating '4.5'; allowed: a number from -4 to 4",
        ),
        ("tweet-intensity", ["1\tnan\tone two three"], "rating 'nan'"),
        ("tweet-intensity", made_sentences(100), r"80 sentences; 400 \+ 500 are needed"),
        ("same-article", ["7\t0.5\tone two three"], "id '7'; expected <article>_<sentence>"),
        ("same-article", ["7_1\t0.5\tone two three"], "too few articles"),
    ],
)
def test_bad_rated_files_are_refused(tmp_path, name, lines, message):
    with pytest.raises(ValueError, match=message):
        read(TASKS[name], rated(tmp_path, name, lines))


def test_pairs_of_one_article_cannot_be_swapped(monkeypatch, tmp_path):
    monkeypatch.setitem(
        DEMO_TASKS,
        "same-article",
        dataclasses.replace(DEMO_TASKS["same-article"], train=2, evaluation=2),
    )
    lines = [f"{a}_{s}\t0.1\tArticle {a} thing {s}" for a in range(2) for s in range(1, 5)]
    with pytest.raises(ValueError, match="too few to swap"):
        read(TASKS["same-article"], rated(tmp_path, "same-article", lines))


def test_an_unknown_demo_task_is_refused(tmp_path):
    with pytest.raises(ValueError, match="format vader has the tasks movie-polarity"):
        read(dataclasses.replace(TASKS["movie-polarity"], name="film"), tmp_path)


def test_the_package_gives_the_demos_data(tmp_path):
    try:
        manifest = fetch.fetch(registry.read_sources()["vader"], tmp_path / "vader")
    except FetchError as error:
        if "another sha256" in str(error):
            raise
        pytest.skip(f"no package index: {str(error).splitlines()[0]}")
    assert manifest["files"]["tweets_GroundTruth.txt"]["bytes"] == 389886
    for name, demo in DEMO_TASKS.items():
        splits = read(TASKS[name], tmp_path / "vader")
        assert (len(splits["train"]), len(splits["validation"])) == (demo.train, demo.evaluation)


@pytest.mark.parametrize(
    "name, columns", [("movie-polarity", ("a", "b")), ("same-article", ("sentence",))]
)
def test_another_number_of_text_columns_is_refused(tmp_path, name, columns):
    task = dataclasses.replace(TASKS[name], text_columns=columns)
    with pytest.raises(ValueError, match=f"text_columns has {len(columns)} names; allowed: "):
        read(task, tmp_path)
