"""Time that a set of jobs takes on n equal devices, by list scheduling as in Snakemake.

Whenever a device is free, the longest job whose predecessors are done starts on it. The result is
at most (2 - 1/n) times the optimum (Graham 1969). It is never below the total work divided by n,
nor below the longest chain of jobs.
"""

import heapq
from dataclasses import dataclass

CIRCLE = "wait for each other in a circle; allowed: jobs that some order serves"


@dataclass(frozen=True)
class Work:
    """One job: seconds, and the places of the jobs that must be done before it."""

    seconds: float
    after: tuple[int, ...] = ()


def makespan(jobs: list[Work], devices: int) -> float:
    """Seconds until all jobs are done on this many devices. Raises ValueError for jobs that wait
    for each other in a circle.
    """
    followers, waiting = _followers(jobs)
    ready = [(-job.seconds, place) for place, job in enumerate(jobs) if not waiting[place]]
    heapq.heapify(ready)
    running: list[tuple[float, int]] = []
    now, done = 0.0, 0
    while ready or running:
        while ready and len(running) < devices:
            _, place = heapq.heappop(ready)
            heapq.heappush(running, (now + jobs[place].seconds, place))
        now = running[0][0]
        while running and running[0][0] == now:
            _, ended = heapq.heappop(running)
            done += 1
            for place in followers[ended]:
                waiting[place] -= 1
                if not waiting[place]:
                    heapq.heappush(ready, (-jobs[place].seconds, place))
    if done < len(jobs):
        raise ValueError(f"{len(jobs) - done} jobs {CIRCLE}")
    return now


def longest_chain(jobs: list[Work]) -> list[int]:
    """Places of the jobs of the chain that takes longest, in order: no number of devices is
    faster. Raises ValueError for a circle.
    """
    followers, waiting = _followers(jobs)
    ready = [place for place, left in enumerate(waiting) if not left]
    until, before = [0.0] * len(jobs), [-1] * len(jobs)
    for place in ready:  # grows as it is gone through
        until[place] = jobs[place].seconds
        for earlier in jobs[place].after:
            if before[place] < 0 or until[earlier] > until[before[place]]:
                before[place] = earlier
        until[place] += until[before[place]] if before[place] >= 0 else 0
        for follower in followers[place]:
            waiting[follower] -= 1
            if not waiting[follower]:
                ready.append(follower)
    if len(ready) < len(jobs):
        raise ValueError(f"{len(jobs) - len(ready)} jobs {CIRCLE}")
    chain = [max(range(len(jobs)), key=until.__getitem__)] if jobs else []
    while chain and before[chain[-1]] >= 0:
        chain.append(before[chain[-1]])
    return chain[::-1]


def _followers(jobs: list[Work]) -> tuple[list[list[int]], list[int]]:
    """For each job the places of those that wait for it, and how many it waits for."""
    followers: list[list[int]] = [[] for _ in jobs]
    for place, job in enumerate(jobs):
        for earlier in set(job.after):
            followers[earlier].append(place)
    return followers, [len(set(job.after)) for job in jobs]
