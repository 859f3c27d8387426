"""Help in groups, suggestions for mistyped words, and exit statuses."""

import pytest

import lora
from lora import cli, cli_parser
from lora.__main__ import main


def stopped(capsys, *argv):
    """Return exit status, standard output and standard error of a command that argparse ends."""
    with pytest.raises(SystemExit) as end:
        main(list(argv))
    written = capsys.readouterr()
    return end.value.code, written.out, written.err


def test_lora_alone_prints_help_that_fits_a_terminal(capsys):
    status, out, _ = stopped(capsys)
    assert status == 0 and all(len(line) <= 100 for line in out.splitlines())
    for name, command in cli.COMMANDS.items():
        assert f"  {name} " in out and command.help in out and f"lora {name} " in out
    assert "exit status:" in out and "128 + n" in out
    groups = [line for line in out.splitlines() if line.endswith(":") and line[0] != " "]
    assert groups[-6:-1] == [
        f"{title}:"
        for title in (
            "train",
            "results",
            "trained runs and adapters",
            "cluster",
            "steps of the workflow",
        )
    ]


def test_version(capsys):
    assert stopped(capsys, "--version") == (0, f"lora {lora.__version__}\n", "")


@pytest.mark.parametrize(
    "argv, meant",
    [
        (["trian"], "train"),
        (["stats"], "status"),
        (["colect"], "collect"),
        (["train", "--rnak", "8"], "--rank"),
        (["train", "--wieghts=qv"], "--weights"),
        (
            ["merge", "--adapter-dirs", "x", "--model-dir", "y"],
            "--adapter-dir",
        ),
        (["table", "tabel2", "--config", "x", "--runs-csv", "y", "--output-dir", "z"], "table2"),
        (["show", "--format", "txt"], "text"),
        (["train", "--device", "cudaa"], "cuda"),
    ],
)
def test_a_mistyped_word_gets_a_suggestion(capsys, argv, meant):
    status, _, err = stopped(capsys, *argv)
    assert status == 2 and f"Did you mean {meant}?" in err and "Traceback" not in err


def test_a_word_like_no_other_gets_no_suggestion(capsys):
    assert "Did you mean" not in stopped(capsys, "xyzzy")[2]
    assert "Did you mean" not in stopped(capsys, "train", "--xyzzy")[2]
    assert cli_parser.closest("rank", []) == ""


def test_every_example_is_accepted_by_its_parser():
    for name, command in cli.COMMANDS.items():
        assert cli.parse([name, *command.example.split()]).name == name


def test_examples_are_shell_commands_when_they_are_wrapped():
    """A backslash ends every line but the last."""
    text = cli_parser.grouped_help([("group", [("name", "help", "--a 1 " * 30)])])
    lines = [line for line in text.splitlines() if "--a" in line]
    assert len(lines) > 1 and all(line.endswith(" \\") for line in lines[:-1])
    joined = " ".join(line.rstrip("\\").strip() for line in lines)
    assert joined.split() == ["lora", "name", *("--a 1 " * 30).split()]


@pytest.mark.parametrize(
    "option", ["--output-dir", "--config", "--model-dir", "--runs-dir", "--log"]
)
def test_an_option_has_one_name(option):
    """What means the same has the same name in every command."""
    commands = next(action for action in cli.parser()._actions if action.dest == "name").choices
    names = {name for one in commands.values() for a in one._actions for name in a.option_strings}
    assert option in names
    assert not names & {"--output", "--out", "--results-dir", "--base-dir", "--runs_dir"}
