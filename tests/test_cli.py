"""The parser: every command has help and runs one function."""

import subprocess
import sys

import pytest
from helpers.models import ROOT

from lora import cli
from lora.data import fetch


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help_for_all_its_arguments(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.parser().parse_args([name, "--help"])
    assert stopped.value.code == 0 and "--log" in capsys.readouterr().out
    commands = next(action for action in cli.parser()._actions if action.dest == "name").choices
    without = [action.dest for action in commands[name]._actions if not action.help]
    assert without == []


def test_the_parser_loads_no_heavy_library():
    """Snakemake starts a command for every job."""
    program = "import sys; from lora import cli; cli.parser()\n"
    program += "print(*{'torch', 'transformers', 'pandas', 'matplotlib'} & set(sys.modules))"
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout == "\n"


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
