"""Commands that use a trained adapter."""

from pathlib import Path

from lora import cli
from lora.adapters import merge


def test_merge_gets_the_folders_that_are_given(monkeypatch):
    found = []
    monkeypatch.setattr(merge, "merge", lambda *folders, names: found.append((*folders, names)))
    words = [
        "--adapter-dir",
        "a",
        "--model-dir",
        "b",
        "--output-dir",
        "c",
        "--label-names",
        "x",
        "y",
    ]
    arguments = cli.parse(["merge", *words])
    arguments.run(arguments)
    assert found == [(Path("a"), Path("b"), Path("c"), ["x", "y"])]
