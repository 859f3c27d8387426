"""Claims of the paper, checked against the runs of a grid.

A claim is a comparison of cells in the last epoch, which no one chose, paired by seed. Its verdict
follows from the 95 % interval of the paired t test, the one that `differences` uses. Two results
that differ by less than MARGIN count as equally good. Few seeds give wide intervals, which decide
nothing. Claims that the grid has no cells for are left out.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lora.columns import CLAIMS_COLUMNS
from lora.experiment.cell import Cell
from lora.experiment.grid import Grid
from lora.files import Row
from lora.tables import constant, statistics
from lora.tables.differences import paired
from lora.tables.labels import (
    Line,
    Note,
    Page,
    Section,
    difference,
    interval,
    model_name,
    weight_types,
)
from lora.tables.layout import partial
from lora.tables.statistics import RunRows

NAME = "claims"
MARGIN = 1.0  # per cent
CONFIRMED, CONTRADICTED, UNDECIDED, MIXED = "confirmed", "contradicted", "not decided", "mixed"
COLUMNS = ("Comparison", "Difference", "95 % interval", "n", "Verdict")
NOTES = (
    "Difference: the mean over seeds of the first minus the second, in per cent, in the last "
    "epoch. n is the number of seeds that finished in all compared cells. The interval is that of "
    "the paired t test (scipy.stats.ttest_rel).",
    f"Results that differ by less than {MARGIN:g} per cent count as equally good. The margin is "
    "this project's choice; the paper gives none.",
    "Not decided: the interval allows both, or there are fewer than two shared seeds.",
)
Values = dict[Cell, dict[int, float]]  # cell -> seed -> per cent in the last epoch


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        text: The claim in one sentence, without the full stop.
        source: Where the paper makes it.
        compare: Yields what is compared, and the difference of each shared seed.
        verdict: Decides by the lower and upper end of the interval of the difference.
    """

    text: str
    source: str
    compare: Callable[[Grid, Values], Iterator[tuple[str, Cell, list[float]]]]
    verdict: Callable[[float, float], str]


def make(grid: Grid, runs_csv: Path) -> tuple[list[Row], Page]:
    """Return the rows, with the columns CLAIMS_COLUMNS, and the page.

    Raises:
        ConfigError: If runs.csv lacks runs of the grid.
    """
    runs = statistics.read(grid, runs_csv, grid.table_cells)
    values = {cell: _values(of_cell) for cell, of_cell in runs.items()}
    rows: list[Row] = []
    for name, claim in CLAIMS.items():
        for compared, cell, differences in claim.compare(grid, values):
            found = paired(differences)
            low, high = found["low"], found["high"]
            row: Row = dict.fromkeys(CLAIMS_COLUMNS, math.nan)
            row |= {"claim": name, "text": claim.text, "source": claim.source}
            row |= {"model": cell.model, "compared": compared, "n": len(differences)}
            row |= {key: found[key] for key in ("difference", "low", "high")}
            row["verdict"] = UNDECIDED if math.isnan(low) else claim.verdict(low, high)
            rows.append(row)
    counts = [statistics.counts(of_cell) for of_cell in runs.values()]
    note = constant.runs_note(run.line for of_cell in runs.values() for run in of_cell)
    return rows, _page(rows, partial(counts), note)


def sentences(rows: list[Row]) -> list[str]:
    """Return one or two sentences for each claim: its verdict, and what was found."""
    found = []
    for name in dict.fromkeys(row["claim"] for row in rows):
        of_claim = [row for row in rows if row["claim"] == name]
        verdict = _overall(of_claim)
        text = of_claim[0]["text"]
        evidence = "; ".join(_evidence(row) for row in of_claim)
        found.append(f"{verdict.capitalize()}: {text} ({of_claim[0]['source']}). {evidence}.")
    return found


def _values(runs: list[RunRows]) -> dict[int, float]:
    return {run.line["seed"]: run.line["last_value"] for run in runs if run.ok}


def _groups(values: Values) -> list[list[Cell]]:
    """Return the LoRA cells by model, task and protocol."""
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in values:
        if cell.method == "lora":
            groups.setdefault((cell.model, cell.task, cell.protocol), []).append(cell)
    return list(groups.values())


def _shared(values: Values, *cells: Cell) -> list[int]:
    """Return the seeds that finished in all of these cells."""
    return [seed for seed in values[cells[0]] if all(seed in values[cell] for cell in cells)]


def _small_rank(grid: Grid, values: Values) -> Iterator[tuple[str, Cell, list[float]]]:
    for cells in _groups(values):
        by_rank = sorted((c for c in cells if c.weights == "qv"), key=lambda cell: cell.rank)
        if len(by_rank) < 2:
            continue
        low, high = by_rank[0], by_rank[-1]
        name = f"{_place(grid, low)}: r={high.rank} − r={low.rank}"
        seeds = _shared(values, low, high)
        yield name, low, [values[high][seed] - values[low][seed] for seed in seeds]


def _weight_types(grid: Grid, values: Values) -> Iterator[tuple[str, Cell, list[float]]]:
    for cells in _groups(values):
        ranks = {w: {c.rank: c for c in cells if c.weights == w} for w in ("q", "qv")}
        both = sorted(set(ranks["q"]) & set(ranks["qv"]))
        if not both:
            continue
        pairs = [(ranks["qv"][rank], ranks["q"][rank]) for rank in both]
        listed = ", ".join(map(str, both))
        mean = f", mean of r={listed}" if len(both) > 1 else f" r={listed}"
        name = f"{_place(grid, cells[0])}: {weight_types('qv')} − {weight_types('q')}{mean}"
        seeds = _shared(values, *(cell for pair in pairs for cell in pair))
        yield name, cells[0], [_mean_difference(values, pairs, seed) for seed in seeds]


def _equal_parameters(grid: Grid, values: Values) -> Iterator[tuple[str, Cell, list[float]]]:
    for cells in _groups(values):
        single = [cell for cell in cells if cell.weights == "q"]
        for one in sorted(single, key=lambda cell: cell.rank):
            for other in cells:
                size = len(other.weights)
                if size > 1 and "q" in other.weights and other.rank * size == one.rank:
                    name = f"{_place(grid, one)}: {_named(other)} − {_named(one)}"
                    seeds = _shared(values, one, other)
                    yield name, one, [values[other][seed] - values[one][seed] for seed in seeds]


def _fine_tuning(grid: Grid, values: Values) -> Iterator[tuple[str, Cell, list[float]]]:
    tuned = {(c.model, c.task, c.protocol): c for c in values if c.method == "ft"}
    groups: dict[tuple[str, str, int, str], list[tuple[Cell, Cell]]] = {}
    for cell in values:
        other = tuned.get((cell.model, cell.task, cell.protocol))
        if cell.method == "lora" and other is not None:
            key = (cell.model, cell.weights, cell.rank, cell.protocol)
            groups.setdefault(key, []).append((cell, other))
    for pairs in groups.values():
        cell = pairs[0][0]
        place = _place(grid, cell, f"mean of {len(pairs)} tasks" if len(pairs) > 1 else "")
        name = f"{place}: {_named(cell)} − full fine-tuning"
        seeds = _shared(values, *(one for pair in pairs for one in pair))
        yield name, cell, [_mean_difference(values, pairs, seed) for seed in seeds]


def _mean_difference(values: Values, pairs: list[tuple[Cell, Cell]], seed: int) -> float:
    return float(np.mean([values[one][seed] - values[other][seed] for one, other in pairs]))


def _place(grid: Grid, cell: Cell, tasks: str = "") -> str:
    """Return model and task of a comparison, and the protocol if the tables have several."""
    words = [model_name(cell.model), tasks or grid.tasks[cell.task].title]
    several = len({one.protocol for one in grid.table_cells}) > 1
    return ", ".join(words + [cell.protocol] * several)


def _named(cell: Cell) -> str:
    return f"LoRA r={cell.rank} on {weight_types(cell.weights)}"


def _equal(low: float, high: float) -> str:
    """Return whether a difference is within the margin."""
    if low > -MARGIN and high < MARGIN:
        return CONFIRMED
    return CONTRADICTED if low > MARGIN or high < -MARGIN else UNDECIDED


def _positive(low: float, high: float) -> str:
    """Return whether a difference is above zero."""
    return CONFIRMED if low > 0 else CONTRADICTED if high < 0 else UNDECIDED


def _not_worse(low: float, high: float) -> str:
    """Return whether a difference is above minus the margin."""
    return CONFIRMED if low > -MARGIN else CONTRADICTED if high < -MARGIN else UNDECIDED


CLAIMS = {
    "small_rank": Claim(
        "a small rank is enough when W_q and W_v are adapted",
        "Sec. 7.2, Table 6",
        _small_rank,
        _equal,
    ),
    "weight_types": Claim(
        "adapting W_q and W_v is better than adapting W_q alone",
        "Sec. 7.2, Table 6",
        _weight_types,
        _positive,
    ),
    "equal_parameters": Claim(
        "with equally many parameters, more weight types are better than a larger rank",
        "Sec. 7.1, Table 5",
        _equal_parameters,
        _positive,
    ),
    "fine_tuning": Claim(
        "LoRA is as good as full fine-tuning or better",
        "Sec. 5.2, Table 2",
        _fine_tuning,
        _not_worse,
    ),
}


def _overall(rows: list[Row]) -> str:
    """Return the verdict of a claim: that of its comparisons if they agree."""
    verdicts = {row["verdict"] for row in rows}
    return verdicts.pop() if len(verdicts) == 1 else MIXED


def _evidence(row: Row) -> str:
    """Return what was found, for example `MiniLM, ...: +5.1 [−1.2, +11.4], 3 seeds`."""
    seeds = f"{row['n']} seed{'s' * (row['n'] != 1)}"
    around = "" if math.isnan(row["low"]) else f" {interval(row['low'], row['high'])}"
    return f"{row['compared']}: {difference(row['difference'])}{around}, {seeds}"


def _page(rows: list[Row], why_partial: str, constant_note: tuple[str, ...]) -> Page:
    """Return the page: a section for each claim, a line for each comparison."""
    sections = []
    for name in dict.fromkeys(row["claim"] for row in rows):
        of_claim = [row for row in rows if row["claim"] == name]
        text, source = of_claim[0]["text"], of_claim[0]["source"]
        title = f"{text[0].upper()}{text[1:]} ({source}): {_overall(of_claim)}"
        sections.append(Section(title, tuple(map(_line, of_claim))))
    none = () if rows else ("The grid has no cells that a claim is about.",)
    return Page(
        name=NAME,
        title="Claims of the paper, checked against these runs",
        caption="Evaluation set, per cent: first minus second, in the last epoch, paired by seed.",
        partial=why_partial,
        columns=COLUMNS,
        sections=tuple(sections),
        notes=tuple(map(Note, (*none, *NOTES, *constant_note))),
    )


def _line(row: Row) -> Line:
    around = interval(row["low"], row["high"], 2)
    values = (difference(row["difference"], 2), around, str(row["n"]), row["verdict"])
    return Line("ours", (row["compared"], *values))
