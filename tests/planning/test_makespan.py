"""Makespans against a worked example and Graham's bounds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora.planning import makespan
from lora.planning.makespan import Work


def test_makespan_of_a_worked_example():
    """5, 4, 3 and 3 hours, the last after the 4; two devices: 5 | 4 then 3 (ready) at 4 to 7,
    the other 3 at 5 to 8.
    """
    jobs = [Work(4), Work(5), Work(3), Work(3, (0,))]
    assert [makespan.makespan(jobs, devices) for devices in (1, 2, 3, 9)] == [15, 8, 7, 7]
    assert makespan.longest_chain(jobs) == [0, 3]
    assert makespan.makespan([], 3) == 0 and makespan.longest_chain([]) == []


@given(
    st.lists(st.tuples(st.integers(1, 50), st.sets(st.integers(0, 11), max_size=3)), max_size=12),
    st.integers(1, 5),
)
@settings(max_examples=200, deadline=None)
def test_makespan_is_within_grahams_bounds(drawn, devices):
    """At least the work over n and the longest chain; at most their sum with the work off the
    chain divided (Graham 1969); with one device the whole work, with as many as jobs the chain.
    """
    jobs = [
        Work(seconds, tuple(sorted(index for index in after if index < position)))
        for position, (seconds, after) in enumerate(drawn)
    ]
    work, chain = (
        sum(job.seconds for job in jobs),
        sum(jobs[index].seconds for index in makespan.longest_chain(jobs)),
    )
    taken = makespan.makespan(jobs, devices)
    assert max(work / devices, chain) <= taken <= chain + (work - chain) / devices + 1e-9
    assert (
        makespan.makespan(jobs, 1) == work and makespan.makespan(jobs, max(1, len(jobs))) == chain
    )


def test_jobs_that_wait_for_each_other_are_refused():
    circle = [Work(1, (1,)), Work(1, (0,)), Work(1)]
    for function in (lambda: makespan.makespan(circle, 2), lambda: makespan.longest_chain(circle)):
        with pytest.raises(ValueError, match="2 jobs wait for each other in a circle"):
            function()
