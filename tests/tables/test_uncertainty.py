"""Margins of differences, against scipy's Welch interval and worked examples."""

import math

import numpy as np
import pytest
from scipy import stats

from lora.tables import uncertainty
from lora.tables.uncertainty import Part

NAN = math.nan


def cell(spread=0.4, n=5, last=0.7) -> dict:
    return dict(best_std=spread, last_std=last, n=n)


def value(statistic="median", selection="best", spread=0.2, n=5.0) -> dict:
    return dict(statistic=statistic, selection=selection, spread=spread, n_seeds=n)


def test_the_margin_of_means_is_half_of_scipys_welch_interval():
    draw = np.random.default_rng(0)
    one, other = draw.normal(90, 1, 5), draw.normal(91, 3, 8)
    interval = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    found = uncertainty.of_difference(
        value("mean", "last", other.std(ddof=1), 8.0), cell(last=one.std(ddof=1))
    )
    assert found["difference_margin"] == pytest.approx((interval.high - interval.low) / 2, abs=1e-6)
    assert found["margin_from"] == "both"


def test_a_median_has_a_larger_error_than_a_mean():
    """sqrt(pi/2) = 1.2533 times, at least what a simulation of medians of 3 and 5 gives."""
    means, medians = (uncertainty.of_difference(value(s), cell(0.2)) for s in ("mean", "median"))
    assert medians["difference_margin"] > means["difference_margin"]
    draws = np.random.default_rng(1).normal(size=(200_000, 5))
    for n in (3, 5):
        assert np.median(draws[:, :n], axis=1).std() <= math.sqrt(math.pi / 2 / n)


@pytest.mark.parametrize(
    "published, ours, kind",
    [
        (value(), cell(), "both"),
        (value("unknown", "unknown", NAN, NAN), cell(), "ours"),
        (value("unknown", "unknown", 0.4, NAN), cell(), "ours"),
        (value("median", "best", NAN, 5.0), cell(), "ours"),
        (value("single", "best", NAN, 1.0), cell(), "single"),
        (value(), cell(NAN, 1, NAN), ""),
        (value(), cell(NAN, 0, NAN), ""),
    ],
)
def test_what_a_margin_is_from(published, ours, kind):
    found = uncertainty.of_difference(published, ours)
    assert found["margin_from"] == kind and math.isnan(found["difference_margin"]) == (not kind)


def test_a_single_published_run_varies_as_ours():
    """Crawford and Howell: s sqrt(1 + 1/n) for a mean; here our value is a median."""
    found = uncertainty.of_difference(value("single", "best", NAN, 1.0), cell(0.4, 5))
    expected = stats.t.ppf(0.975, 4) * 0.4 * math.sqrt(1 + math.pi / 2 / 5)
    assert found["difference_margin"] == pytest.approx(expected, abs=1e-6)


def test_runs_that_do_not_vary_give_no_margin():
    assert math.isnan(uncertainty.margin(Part(0.0, 4), Part(0.0, 4)))
    assert uncertainty.of_difference(value(spread=0.0), cell(0.0)) == uncertainty.UNKNOWN
