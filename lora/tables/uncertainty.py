"""Uncertainty of the difference between our value and a published one.

The standard error of a difference of independent means is sqrt(s1^2/n1 + s2^2/n2), and its degrees
of freedom are those of Welch and Satterthwaite (Welch 1947, Biometrika 34:28). The median of normal
data has the standard error sqrt(pi/2) s/sqrt(n) for large n (Kendall and Stuart, The Advanced
Theory of Statistics, vol. 1, 10.10); for small n it is smaller, so the margin is not too narrow.
A published value of one run is one more draw from the distribution of our runs: its standard error
is our s (Crawford and Howell 1998, The Clinical Neuropsychologist 12:482). The margin is half of
the 95 % interval by Student's t.
"""

import math
from dataclasses import dataclass

from lora.files import Row

LEVEL = 0.95
MEDIAN = math.sqrt(math.pi / 2)
UNKNOWN = {"difference_margin": math.nan, "margin_from": ""}


@dataclass(frozen=True)
class Part:
    """One of the two values: its standard error and the degrees of freedom of its spread."""

    error: float
    freedom: int


def margin(one: Part, other: Part | None = None) -> float:
    """Return half of the 95 % interval of a difference; NaN without any spread.

    Args:
        one: The first value.
        other: The second one; None counts as exact.
    """
    from scipy.stats import t

    parts = [part for part in (one, other) if part is not None]
    total = sum(part.error**2 for part in parts)
    if total == 0:
        return math.nan  # runs that do not vary say nothing about how much they would
    freedom = total**2 / sum(part.error**4 / part.freedom for part in parts)
    return float(t.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(total)


def of_difference(value: Row, cell: Row) -> Row:
    """Return the columns `difference_margin` and `margin_from` of a compared published value.

    Args:
        value: The published value, with the columns of published.csv.
        cell: Our cell, with the columns TABLE_COLUMNS.

    Returns:
        The margin in per cent, and what it is from: `both` spreads, `ours` where the spread or the
        number of runs was not published, `single` for a published value of one run. NaN and empty
        if fewer than two of our runs finished, or if runs do not vary.
    """
    spread = cell["last_std"] if value["selection"] == "last" else cell["best_std"]
    if math.isnan(spread) or cell["n"] < 2:
        return dict(UNKNOWN)
    # A value of unknown statistic, or of one run, is compared with our median.
    ours = Part(_error(spread, cell["n"], value["statistic"] != "mean"), cell["n"] - 1)
    if value["n_seeds"] == 1:
        # Both errors come from our spread, so the degrees of freedom are ours.
        both = Part(math.hypot(ours.error, spread), ours.freedom)
        return _columns(margin(both), "single")
    if math.isnan(value["spread"]) or math.isnan(value["n_seeds"]):
        return _columns(margin(ours), "ours")
    runs = int(value["n_seeds"])
    theirs = Part(_error(value["spread"], runs, value["statistic"] == "median"), runs - 1)
    return _columns(margin(ours, theirs), "both")


def _columns(value: float, source: str) -> Row:
    known = {"difference_margin": round(value, 6), "margin_from": source}
    return dict(UNKNOWN) if math.isnan(value) else known


def _error(spread: float, runs: int, is_median: bool) -> float:
    """Return the standard error of a mean or a median over runs."""
    return (MEDIAN if is_median else 1.0) * spread / math.sqrt(runs)
