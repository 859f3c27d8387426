"""A task of the user's own, by config alone: real sentences of a package, from CSV to tables."""

import csv
import json

import pytest
import yaml
from helpers.models import make_model, make_tokenizer
from helpers.workflow import snakemake, trained

from lora.adapters import merge
from lora.data import fetch
from lora.errors import FetchError
from lora.experiment import registry


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    """The folder of reviews.csv: product reviews that people rated, as three classes."""
    folder = tmp_path_factory.mktemp("own")
    try:
        fetch.fetch(registry.read_sources()["vader"], folder / "vader")
    except FetchError as error:
        pytest.skip(f"no package index: {str(error).splitlines()[0]}")
    text = (folder / "vader/amazonReviewSnippets_GroundTruth.txt").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines()[:240]]
    with open(folder / "reviews.csv", "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["review", "verdict"])
        for _, rating, review in rows:
            score = float(rating)
            verdict = "bad" if score < -0.5 else "good" if score > 0.5 else "so-so"
            writer.writerow([review, verdict])
    make_tokenizer(make_model("bert", folder / "tiny"))
    return folder


def write_config(folder, **task):
    axes = dict(models=["tiny"], tasks=["reviews"], method="lora", weights=["qv"])
    config = dict(
        protocol="demo",
        seeds=[0],
        device="cpu",
        threads=1,
        overrides=dict(max_tokens=20, epochs=1),
        sources={"tiny": dict(role="model", kind="file", locator="tiny")},
        tasks={"reviews": dict(path="reviews.csv", text="review", label="verdict") | task},
        tables=dict(table2=axes | dict(ranks=[2]), table6=axes | dict(ranks=[1, 2])),
    )
    (folder / "mine.yaml").write_text(yaml.safe_dump(config))
    return ["--configfile", folder / "mine.yaml", "--directory", folder]


def test_a_csv_becomes_tables_and_a_model_with_the_names_of_its_classes(reviews):
    options = write_config(reviews)
    assert trained(snakemake(*options)) == 2
    names = ["bad", "good", "so-so"]
    run = reviews / "results/runs/demo/tiny/reviews/lora/qv/r2/seed0"
    data = json.loads((run / "run.json").read_text())["data"]
    assert data["label_names"] == names
    assert data["made_splits"] == {"validation": "0.2 of the rows of train, seed 0"}
    merge.merge(run / "adapter", reviews / "tiny", reviews / "merged")
    merged = json.loads((reviews / "merged/config.json").read_text())
    assert merged["id2label"] == {str(at): name for at, name in enumerate(names)}
    for table in ("table2", "table6"):
        text = (reviews / f"results/tables/{table}.md").read_text()
        assert "reviews" in text and "bad, good and so-so" in " ".join(text.split())
    lines = (reviews / "results/tables/table2_published.csv").read_text().splitlines()
    assert not [line for line in lines if ",reviews," in line]
    assert trained(snakemake("-n", *options)) == 0
    # Another column is refused before any job; an edited file trains again.
    code, output = snakemake("-n", *write_config(reviews, text="reviews"), check=False)
    assert code and "reviews.csv, line 1: there is no column 'reviews'" in output
    with open(reviews / "reviews.csv", "a", encoding="utf-8") as handle:
        handle.write("one more review,good\n")
    assert trained(snakemake("-n", *write_config(reviews))) == 2
