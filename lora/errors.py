"""Exceptions that the command line reports without a stack trace, and values in messages."""

import signal

MAX_LISTED = 30  # problems that a message lists


def shown(value: object, longest: int = 120) -> str:
    """Return a value as Python writes it, cut to `longest` characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits; endless nesting
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= longest else f"{text[:longest]}... ({len(text)} characters)"


class ConfigError(ValueError):
    """Everything that is wrong with an input: what was given, what is allowed, what to do.

    The message lists the first MAX_LISTED problems and the number of the others.

    Attributes:
        title: The first line of the message.
        problems: All problems, one line each.
    """

    def __init__(self, title: str, problems: list[str]):
        self.title = title
        self.problems = list(problems)
        listed = self.problems[:MAX_LISTED]
        if len(self.problems) > MAX_LISTED:
            listed.append(f"and {len(self.problems) - MAX_LISTED} more")
        super().__init__("\n".join([title, *(f"  - {problem}" for problem in listed)]))


class FetchError(RuntimeError):
    """A source that can't be downloaded as pinned; the message names it and what to do."""


class HubError(RuntimeError):
    """A failed download from the Hugging Face hub.

    Attributes:
        way_out: What the user can do about it, or None.
    """

    def __init__(self, why: str, way_out: str | None = None):
        super().__init__(why)
        self.way_out = way_out


class Interrupted(Exception):
    """Training was stopped by a signal or at its time limit, after its state was saved.

    Attributes:
        number: The signal's number.
    """

    def __init__(self, number: int):
        self.number = number
        what = signal.Signals(number).name
        if number == signal.SIGALRM:  # the timer of `lora.training.signals`
            what = "its time limit"
        super().__init__(
            f"stopped by {what}; everything trained so far is saved: run "
            "the same command again to continue"
        )
