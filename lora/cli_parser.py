"""Argument parser of the command line: commands in groups, and suggestions for mistyped words."""

import difflib
import re
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from typing import NoReturn

EXAMPLE_WIDTH = 58
EXIT_STATUS = """\
exit status:
  0        done
  2        an error that you can fix; the message says how
  128 + n  stopped by signal n; the same command continues
  1        an unexpected error, with a stack trace"""


class Parser(ArgumentParser):
    """An ArgumentParser that suggests the word that was probably meant."""

    _words: Sequence[str] = ()

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        """Parse, and remember the words for `error`."""
        self._words = args or ()
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Print the message with suggestions, and exit with status 2."""
        meant = []
        if found := re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message):
            meant.append(closest(found[1], re.findall(r"[\w.-]+", found[2])))
        options = [name for action in self._actions for name in action.option_strings]
        for word in (word.partition("=")[0] for word in self._words):
            if word.startswith("--") and not any(name.startswith(word) for name in options):
                meant.append(closest(word, options))
        lines = [message, *(f"Did you mean {word}?" for word in meant if word)]
        text = "\n".join(lines)
        self.exit(2, f"{self.prog}: error: {text}\nHelp: {self.prog} --help\n")


def closest(word: str, allowed: Iterable[str]) -> str:
    """Return the most similar of the allowed words; empty if none is similar."""
    return next(iter(difflib.get_close_matches(word, list(allowed), n=1)), "")


def grouped_help(groups: Iterable[tuple[str, Iterable[tuple[str, str, str]]]]) -> str:
    """Return the list of commands: group by group, each command with its help and an example.

    Args:
        groups: Title of each group, and name, help and example of its commands.
    """
    lines = []
    for title, commands in groups:
        lines.append(f"{title}:")
        for name, text, example in commands:
            lines += [f"  {name:14} {text}", *_wrapped(f"lora {name} {example}")]
        lines.append("")
    return "\n".join([*lines, EXIT_STATUS])


def _wrapped(command: str) -> list[str]:
    """Return a shell command in lines that fit a terminal of 80 columns."""
    whole = command.replace(" --", "\n--").split("\n")  # an option stays with its value
    lines = [""]
    for part in whole:
        if lines[-1] and len(lines[-1]) + 1 + len(part) > EXAMPLE_WIDTH:
            lines.append("    ")
        lines[-1] = f"{lines[-1]} {part}" if lines[-1].strip() else lines[-1] + part
    return [f"{'':19}{line}" + " \\" * (index < len(lines) - 1) for index, line in enumerate(lines)]
