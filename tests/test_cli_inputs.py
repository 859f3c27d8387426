"""What a command was not given is fetched and prepared."""

from argparse import Namespace
from pathlib import Path

from lora import cli_inputs
from lora.data import fetch, prepare
from lora.experiment import registry


def test_data_are_fetched_unless_they_are_given(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(fetch, "fetch", lambda source, to: calls.append((source.name, to)))
    monkeypatch.setattr(prepare, "prepare", lambda task, *given: calls.append((task.name, *given)))
    task, tokens, model = registry.task("sst2"), tmp_path / "tokens", tmp_path / "model"
    sources = registry.read_sources()
    for data_dir in (None, Path("mine")):
        arguments = Namespace(data_dir=data_dir, cache_dir=tmp_path)
        cli_inputs.prepare(task, model, 64, tokens, arguments, sources)
    fetched = tmp_path / "sources/glue-sst2"
    assert calls == [
        ("glue-sst2", fetched),
        ("sst2", fetched, model, 64, tokens),
        ("sst2", Path("mine"), model, 64, tokens),
    ]
