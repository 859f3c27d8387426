"""Exceptions that the command line reports without a stack trace, and how values are shown in messages."""

import signal

MAX_LISTED = 30  # problems that a message lists


def shown(value, longest: int = 120) -> str:
    """A value as a message shows it: as Python writes it, in its first `longest` characters."""
    try:
        written = repr(value)
    except (
        ValueError,
        RecursionError,
    ):  # a whole number of thousands of digits; lists in lists without end
        return f"a {type(value).__name__} too large to show"
    return (
        written
        if len(written) <= longest
        else f"{written[:longest]}... ({len(written)} characters)"
    )


class ConfigError(ValueError):
    """Several things wrong with what the user gave, told together: each says what was got, what is allowed, what to do.

    The message lists the first MAX_LISTED of them and how many more there are: a file of another program is wrong in every line.
    """

    def __init__(self, title: str, problems: list[str]):
        self.problems = list(problems)
        more = (
            [f"and {len(self.problems) - MAX_LISTED} more"]
            if len(self.problems) > MAX_LISTED
            else []
        )
        super().__init__(
            "\n".join(
                [title, *(f"  - {problem}" for problem in [*self.problems[:MAX_LISTED], *more])]
            )
        )


class FetchError(RuntimeError):
    """A source could not be had as it is pinned; the message names it and the ways out."""


class HubError(RuntimeError):
    """Something could not be had from the hub, and why; `way_out` is what to do, if there is something to do."""

    def __init__(self, why: str, way_out: str | None = None):
        super().__init__(why)
        self.way_out = way_out


class Interrupted(Exception):
    """Training was told to stop, and has saved its state."""

    def __init__(self, number: int):
        self.number = number
        super().__init__(
            f"stopped by {signal.Signals(number).name}; all that was trained is saved, the same command goes on from there"
        )
