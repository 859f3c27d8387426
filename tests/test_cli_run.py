"""Commands that come before training."""

import json

import pytest

from lora import cli, files
from lora.data import fetch
from lora.planning import plan


def test_fetch_takes_a_source_of_the_registry_with_changes(monkeypatch, tmp_path):
    found = []
    monkeypatch.setattr(fetch, "fetch", lambda source, folder: found.append((source, folder)))
    for words in (
        ["roberta-base", "--kind", "file", "--locator", "here"],
        ["mine", "--role", "data", "--kind", "file", "--locator", "there"],
    ):
        arguments = cli.parser().parse_args(["fetch", *words, "--output-dir", str(tmp_path)])
        arguments.run(arguments)
    sources = [(source.name, source.role, source.kind, source.locator) for source, _ in found]
    assert sources == [("roberta-base", "model", "file", "here"), ("mine", "data", "file", "there")]
    arguments = cli.parser().parse_args(["fetch", "mine", "--output-dir", str(tmp_path)])
    with pytest.raises(ValueError, match="no source 'mine' .*; allowed: roberta-base"):
        arguments.run(arguments)


def test_plan_prints_and_writes(tmp_path, capsys):
    arguments = cli.parse(["plan", "--output-dir", str(tmp_path / "plan")])
    arguments.run(arguments)
    text = capsys.readouterr().out
    assert text == (tmp_path / "plan/plan.txt").read_text() and "GiB" in text
    arguments = cli.parse(["plan", "--json"])
    arguments.run(arguments)
    found = json.loads(capsys.readouterr().out)
    written = files.read_csv(tmp_path / "plan/jobs.csv", plan.JOBS_COLUMNS)
    seconds = [row["seconds"] for row in written]
    assert [job["seconds"] for job in found["jobs"]] == pytest.approx(seconds, rel=1e-6)
    assert {row["devices"] for row in found["makespan"]} >= {1, 2, 1000}
    names = {"plan.txt", "jobs.csv", *(f"makespan.{kind}" for kind in ("csv", "svg", "png", "txt"))}
    assert {path.name for path in (tmp_path / "plan").iterdir()} == names
