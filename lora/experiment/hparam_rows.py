"""Hyperparameters by protocol: the rows of config/hparams.csv, and those of a cell."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora.errors import ConfigError, shown
from lora.experiment.cell import Cell
from lora.experiment.csv_tables import FOLDER, read_rows
from lora.experiment.hparams import HPARAM_NAMES, Hparams, parse_setting


@dataclass(frozen=True)
class HparamRow:
    """A row of hparams.csv: the value of one hyperparameter for the cells that it matches.

    `method`, `model`, `task` and `rank` are a cell's, or `*` for any.
    """

    protocol: str
    method: str
    model: str
    task: str
    rank: str
    name: str
    value: str
    source: str

    def matches(self, cell: Cell) -> bool:
        """Return whether the row applies to a cell."""
        return (
            self.protocol == cell.protocol
            and self.method in ("*", cell.method)
            and self.model in ("*", cell.model)
            and self.task in ("*", cell.task)
            and self.rank in ("*", str(cell.rank))
        )

    @property
    def wildcards(self) -> int:
        """The number of `*`: of the rows that match, the one with the fewest decides."""
        return (self.method, self.model, self.task, self.rank).count("*")


def read_hparam_rows(folder: Path = FOLDER) -> tuple[HparamRow, ...]:
    """Return the rows of hparams.csv in the order of the file."""
    return tuple(HparamRow(**row) for row in read_rows("hparams.csv", folder))


def resolve(
    rows: Sequence[HparamRow], cell: Cell, overrides: Mapping[str, int | float | str]
) -> Hparams:
    """Return the hyperparameters of a cell.

    Args:
        rows: The rows of hparams.csv. Of those that match, the one with the fewest `*` decides.
        cell: The cell, under a protocol of `rows`.
        overrides: Hyperparameters by name that replace the rows' values.

    Raises:
        ConfigError: For a name without a row, two equally specific rows that differ, or a value
            that is not allowed.
    """
    values: dict[str, Any] = {}  # parse_setting gives each the type of its field
    problems = []
    matching: dict[str, list[HparamRow]] = {name: [] for name in HPARAM_NAMES}
    for row in rows:
        if row.matches(cell):
            matching[row.name].append(row)
    for name in HPARAM_NAMES:
        written = overrides.get(name)
        if written is None:
            if not matching[name]:
                problems.append(
                    f"{name}: no row for protocol {cell.protocol!r}; add one, or set it under "
                    "overrides:"
                )
                continue
            fewest = min(row.wildcards for row in matching[name])
            best = {row.value for row in matching[name] if row.wildcards == fewest}
            if len(best) > 1:
                problems.append(
                    f"{name}: equally specific rows say {', '.join(sorted(best))}; make one more "
                    "specific"
                )
                continue
            written = best.pop()
        try:
            values[name] = parse_setting(name, written, cell.rank)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError(f"hyperparameters of {cell.path} (config/hparams.csv):", problems)
    return Hparams(**values)


def check_settings(
    rows: Sequence[HparamRow], tasks: Collection[str], models: Collection[str]
) -> list[str]:
    """Return what is wrong with hparams.csv besides its values, one line each.

    These are unknown models and tasks, whose rows would never be used, and repeated rows.
    """
    keys = Counter(
        (row.protocol, row.method, row.model, row.task, row.rank, row.name) for row in rows
    )
    problems = [
        f"config/hparams.csv: {shown(','.join(key))} is there {count} times; keep one row"
        for key, count in keys.items()
        if count > 1
    ]
    used = {"model": Counter(row.model for row in rows), "task": Counter(row.task for row in rows)}
    for axis, known in (("model", models), ("task", tasks)):
        problems += [
            f"config/hparams.csv: {axis} is {shown(name)} in {count} rows; allowed: *, "
            f"{', '.join(known)}"
            for name, count in used[axis].items()
            if name not in ("*", *known)
        ]
    return problems
