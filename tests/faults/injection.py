"""Description of a fault that `hooks` injects into a job."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Injection:
    """A fault at the n-th call of a site.

    Attributes:
        action: What happens: a key of `hooks.ACTIONS`, or "move the clock".
        site: Where it happens: a key of `hooks.SITES`, or "write <file>" or "rename <file>". Empty
            for "move the clock", which has no site.
        call: Number of the call, from 1 in each process.
        when: "before" or "after" the call.
        repeat: Whether the fault is repeated at all later calls.
        seconds: By how much the clock moves at each reading.
    """

    action: str
    site: str = ""
    call: int = 0
    when: str = "after"
    repeat: bool = False
    seconds: float = 0.0
