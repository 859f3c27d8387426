"""The three runs whose subspaces are compared: a lower rank, and two seeds of a higher one.

Figure 3 of the paper compares two ranks and Figure 4 two seeds (Sec. 7.2), so three runs serve
both. They must be runs of a table, so that comparing them trains nothing more. Runs that start from
another run's adapter are refused: all seeds start from the same one, so their subspaces overlap.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora.experiment.cell import Cell
from lora.experiment.config import Config
from lora.experiment.hparams import PRETRAINED

if TYPE_CHECKING:
    from lora.experiment.grid import Grid


@dataclass(frozen=True)
class Comparison:
    """The config's `subspace`. Empty `letters` and `layers` leave the choice to the analysis."""

    lower: Cell
    higher: Cell
    seeds: tuple[int, ...]
    letters: str
    layers: tuple[int, ...]

    @property
    def runs(self) -> tuple[tuple[Cell, int], ...]:
        """(cell, seed): the lower rank with the first seed, the higher rank with both."""
        return ((self.lower, self.seeds[0]), *((self.higher, seed) for seed in self.seeds))


def comparison_of(config: Config) -> Comparison | None:
    """Return the comparison that a config describes; None for `subspace: null`."""
    wanted = config.subspace
    if wanted is None:
        return None
    protocol = wanted.protocol or config.protocol
    lower, higher = (
        Cell(wanted.model, wanted.task, "lora", wanted.weights, rank, protocol)
        for rank in wanted.ranks
    )
    return Comparison(lower, higher, wanted.seeds, wanted.letters, wanted.layers)


def check(grid: "Grid") -> list[str]:
    """Return what the config's `subspace` names and the grid does not have, one line each."""
    comparison = comparison_of(grid.config)
    if comparison is None:
        return []
    lower, higher = comparison.lower, comparison.higher
    problems = [
        f"subspace: no table has {cell.path}; add its rank, weights, task and model to one, or set "
        "subspace: null"
        for cell in (lower, higher)
        if cell not in grid.table_cells
    ]
    seeds = ", ".join(map(str, grid.seeds))
    problems += [
        f"subspace.seeds: got {seed}; allowed: {seeds}, the config's seeds"
        for seed in comparison.seeds
        if seed not in grid.seeds
    ]
    if lower.rank >= higher.rank:
        problems.append(
            f"subspace.ranks: got {lower.rank}, {higher.rank}; allowed: the lower one first"
        )
    if letters := [letter for letter in comparison.letters if letter not in lower.weights]:
        problems.append(
            f"subspace.letters: got {', '.join(letters)}; allowed: {lower.weights}, its weights"
        )
    if not problems and (start := grid.hparams(higher).start) != PRETRAINED:
        problems.append(
            f"subspace: all seeds of {higher.task} start from the same adapter ({start}), so their "
            f"subspaces overlap; choose a task or protocol with start: {PRETRAINED}"
        )
    return problems
