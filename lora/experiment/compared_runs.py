"""Which three runs of a grid have their subspaces compared: one of a lower rank, and two seeds of a higher one (Sec. 7.2).

They are runs that some table asks for, so that looking at them trains nothing more; what the config names and no table
asks for is refused. Figure 3 compares two ranks of two seeds, Figure 4 two seeds, so three runs serve both. Runs that
start from another run's adapter are refused: all seeds start from the same one, and would overlap from there.
"""

from dataclasses import dataclass

from lora.experiment.cell import Cell
from lora.experiment.hparams import PRETRAINED


@dataclass(frozen=True)
class Comparison:
    """What the config's `subspace` asks for. `letters` and `layers` are empty where it leaves them to the analysis."""

    lower: Cell
    higher: Cell
    seeds: tuple[int, int]
    letters: str
    layers: tuple[int, ...]

    @property
    def runs(self) -> tuple[tuple[Cell, int], ...]:
        """(cell, seed): the lower rank with the first seed, then the higher rank with both."""
        return ((self.lower, self.seeds[0]), *((self.higher, seed) for seed in self.seeds))


def of(config: dict) -> Comparison | None:
    """What the config asks for; None for `subspace: null`."""
    asked = config["subspace"]
    if asked is None:
        return None
    protocol = asked.get("protocol", config["protocol"])
    cells = [
        Cell(asked["model"], asked["task"], "lora", asked["weights"], rank, protocol)
        for rank in asked["ranks"]
    ]
    return Comparison(
        *cells, tuple(asked["seeds"]), asked.get("letters", ""), tuple(asked.get("layers", ()))
    )


def check(grid) -> list[str]:
    """What the config asks for and its grid cannot give, one line each."""
    asked = of(grid.config)
    if asked is None:
        return []
    lower, higher = asked.lower, asked.higher
    found = [
        f"subspace: no table asks for {cell.path}; add its rank, weights, task and model to one, or set subspace: null"
        for cell in (lower, higher)
        if cell not in grid.asked
    ]
    found += [
        f"subspace.seeds: got {seed}; allowed: {', '.join(map(str, grid.seeds))}, the config's seeds"
        for seed in asked.seeds
        if seed not in grid.seeds
    ]
    if lower.rank >= higher.rank:
        found.append(
            f"subspace.ranks: got {lower.rank}, {higher.rank}; allowed: the lower one first"
        )
    if letters := [letter for letter in asked.letters if letter not in lower.weights]:
        found.append(
            f"subspace.letters: got {', '.join(letters)}; allowed: {lower.weights}, its weights"
        )
    if not found and (start := grid.hparams(higher).start) != PRETRAINED:
        found.append(
            f"subspace: all seeds of {higher.task} start from the same adapter ({start}), and overlap from there; choose a "
            f"task or a protocol with start: {PRETRAINED}"
        )
    return found
