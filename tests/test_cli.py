"""The commands: every one has help for all its arguments, and none loads a heavy library."""

import subprocess
import sys

import pytest
from helpers.models import ROOT

from lora import cli


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
