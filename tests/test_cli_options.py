"""Options that several commands have."""

from argparse import ArgumentParser
from pathlib import Path

from lora import cli_options


def test_each_option_is_parsed_with_its_type(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    parser = ArgumentParser()
    cli_options.add_configs(parser)
    cli_options.add_output_dir(parser)
    cli_options.add_runs_dir(parser)
    words = ["--config", "a.yaml", "b.yaml", "--output-dir", "~/out", "--runs-dir", "runs"]
    found = parser.parse_args(words)
    assert found.config == ["a.yaml", "b.yaml"]
    assert (found.output_dir, found.runs_dir) == (Path("/home/someone/out"), Path("runs"))
    single = ArgumentParser()
    cli_options.add_config(single)
    assert single.parse_args(["--config", "{}"]).config == "{}"
