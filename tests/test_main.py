"""Exit statuses and messages of `lora`."""

import logging
import signal

import pytest

from lora import cli
from lora.__main__ import main
from lora.errors import FetchError, Interrupted

pytestmark = pytest.mark.usefixtures("logging_as_before")


def run(monkeypatch, error, *options):
    """Run a command that raises `error`; return the exit status."""

    def command(arguments):
        if error:
            raise error

    monkeypatch.setitem(
        cli.COMMANDS, "queue", cli.Command("group", "raise", "", lambda parser: None, command)
    )
    return main(["queue", *options])


@pytest.mark.parametrize(
    "error, status, message",
    [
        (None, 0, ""),
        (ValueError("rank is 0; allowed: 1"), 2, "lora queue: error: rank is 0; allowed: 1\n"),
        (FetchError("no network"), 2, "lora queue: error: no network\n"),
        (MemoryError(), 2, "lora queue: error: out of memory\n"),
        (
            OSError(28, "No space left on device", "a.csv"),
            2,
            "a.csv: No space left on device. Nothing was lost. Fix this and run the same command "
            "again.\n",
        ),
        (Interrupted(signal.SIGTERM), 128 + signal.SIGTERM, "lora queue: stopped by SIGTERM"),
        (KeyError("x"), 1, "KeyError: 'x'"),
    ],
)
def test_errors_are_one_message_and_a_status(monkeypatch, capsys, error, status, message):
    """A stack trace is for what a user can't fix."""
    assert run(monkeypatch, error) == status
    written = capsys.readouterr().err
    assert message in written and ("Traceback" in written) == (status == 1)


def test_log_file_has_everything_and_the_terminal_warnings(monkeypatch, capsys, tmp_path):
    path = tmp_path / "logs/train.log"
    assert run(monkeypatch, None, "--log", str(path)) == 0
    logging.getLogger("lora").info("some progress")
    logging.getLogger("lora").warning("a warning")
    for handler in logging.getLogger().handlers:
        handler.close()
    written, kept = capsys.readouterr().err, path.read_text()
    assert "a warning" in written and "some progress" not in written
    assert "a warning" in kept and "some progress" in kept


def test_log_that_cannot_be_written_is_an_error(monkeypatch, capsys, tmp_path):
    assert run(monkeypatch, None, "--log", str(tmp_path)) == 2
    assert "lora queue: error: --log cannot be written" in capsys.readouterr().err
