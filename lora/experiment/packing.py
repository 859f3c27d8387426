"""Which runs of a grid are trained together in one job.

The config names the packed axes. A job is one value of every other axis, with all values of the
packed ones, so one rule with fixed outputs serves every pack. The packed axes must therefore form
a full product with the rest of the grid: a cell that no table uses is refused, never trained. Two
tables of different shape can't always pack the same axis in one config.
"""

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from lora.columns import CELL_COLUMNS
from lora.experiment.cell import Cell

SHOWN = 3  # cells that a message names before "and N more"


@dataclass(frozen=True)
class Packing:
    """The division of a grid's runs into jobs.

    Attributes:
        axes: The packed axes, of task, weights, rank and seed.
        cells: The cells of the grid.
        seeds: The seeds of every cell.
    """

    axes: tuple[str, ...]
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]

    @property
    def packed(self) -> dict[str, list[str | int]]:
        """Every packed axis with its values in the whole grid, sorted."""
        return {axis: self._values(axis) for axis in self.axes}

    def _values(self, axis: str) -> list[str | int]:
        if axis == "seed":
            return list[str | int](sorted(self.seeds))
        return sorted({getattr(cell, axis) for cell in self.cells})

    def cells_of(self, wildcards: Mapping[str, str | int]) -> list[Cell]:
        """Return the cells of one job.

        Args:
            wildcards: The job's value of every axis that is not packed.
        """
        values: dict[str, list[str | int]] = {
            axis: self._values(axis) if axis in self.axes else [wildcards[axis]]
            for axis in CELL_COLUMNS
        }
        return [
            Cell(str(model), str(task), str(method), str(weights), int(rank), str(protocol))
            for model, task, method, weights, rank, protocol in itertools.product(*values.values())
        ]

    def seeds_of(self, wildcards: Mapping[str, str | int]) -> list[int]:
        """Return the seeds that one job trains of each of its cells; see `cells_of`."""
        return sorted(self.seeds) if "seed" in self.axes else [int(wildcards["seed"])]

    def jobs(self) -> list[tuple[tuple[Cell, ...], tuple[int, ...]]]:
        """Return every job as (its cells, the seeds of each), in the order of the cells."""
        found: dict[tuple[tuple[Cell, ...], tuple[int, ...]], None] = {}
        for cell in self.cells:
            for seed in self.seeds:
                values = asdict(cell) | dict(seed=seed)
                found.setdefault((tuple(self.cells_of(values)), tuple(self.seeds_of(values))))
        return list(found)

    def extra_cells(self) -> list[Cell]:
        """Return the cells that these packs would train although no table uses them."""
        used, seen = set(self.cells), set[Cell]()
        extra: list[Cell] = []
        for cell in self.cells:
            if cell not in seen:
                together = self.cells_of(asdict(cell))
                seen.update(together)
                extra += [other for other in together if other not in used]
        return extra

    def problems(self) -> list[str]:
        """Return what forbids these packs, one line each; none if no axis is packed."""
        methods = sorted({cell.method for cell in self.cells})
        if len(methods) > 1 and {"weights", "rank"} & set(self.axes):
            rest = tuple(axis for axis in self.axes if axis not in ("weights", "rank"))
            return [
                f"pack: got {_written(self.axes)}, but {', '.join(methods)} differ in weights and "
                f"ranks; use pack: {_written(rest)}, or one config per method"
            ]
        extra = [cell.path for cell in self.extra_cells()]
        if not extra:
            return []
        more = f" and {len(extra) - SHOWN} more" if len(extra) > SHOWN else ""
        axes = ", ".join(axis for axis in self.axes if axis != "seed")
        return [
            f"pack: got {_written(self.axes)}, which trains all values of {axes} together, but no "
            f"table uses {', '.join(extra[:SHOWN])}{more}; use pack: "
            f"{_written(self._largest_allowed())}, or one config per table with the other one null"
        ]

    def _largest_allowed(self) -> tuple[str, ...]:
        """Return the first of the largest subsets of the axes that the grid allows."""
        smaller = (
            axes
            for size in reversed(range(len(self.axes)))
            for axes in itertools.combinations(self.axes, size)
        )
        return next(
            axes for axes in smaller if not Packing(axes, self.cells, self.seeds).extra_cells()
        )


def _written(axes: tuple[str, ...]) -> str:
    return f"[{', '.join(axes)}]"
