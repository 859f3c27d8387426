"""Time that a set of jobs takes on n equal devices, by list scheduling as in Snakemake.

Whenever a device is free, the longest job whose predecessors are done starts on it. The result is
at most (2 - 1/n) times the optimum (Graham 1969). It is never below the total work divided by n,
nor below the longest chain of jobs.
"""

import heapq
from dataclasses import dataclass

CYCLE = "wait for each other in a circle; allowed: jobs that can run in some order"


@dataclass(frozen=True)
class Work:
    """Duration of one job in seconds, and the indices of the jobs that must be done before it."""

    seconds: float
    after: tuple[int, ...] = ()


def makespan(jobs: list[Work], devices: int) -> float:
    """Return the seconds until all jobs are done.

    Args:
        jobs: The jobs; `after` holds indices into this list.
        devices: Number of devices, at least 1.

    Raises:
        ValueError: If jobs wait for each other in a circle.
    """
    followers, waiting = _followers(jobs)
    ready = [(-job.seconds, index) for index, job in enumerate(jobs) if not waiting[index]]
    heapq.heapify(ready)
    running: list[tuple[float, int]] = []
    now, done = 0.0, 0
    while ready or running:
        while ready and len(running) < devices:
            _, index = heapq.heappop(ready)
            heapq.heappush(running, (now + jobs[index].seconds, index))
        now = running[0][0]
        while running and running[0][0] == now:
            _, ended = heapq.heappop(running)
            done += 1
            for index in followers[ended]:
                waiting[index] -= 1
                if not waiting[index]:
                    heapq.heappush(ready, (-jobs[index].seconds, index))
    if done < len(jobs):
        raise ValueError(f"{len(jobs) - done} jobs {CYCLE}")
    return now


def longest_chain(jobs: list[Work]) -> list[int]:
    """Return the indices of the jobs of the chain that takes longest, in order.

    No number of devices is faster than this chain.

    Raises:
        ValueError: If jobs wait for each other in a circle.
    """
    followers, waiting = _followers(jobs)
    ready = [index for index, left in enumerate(waiting) if not left]
    end_s, before = [0.0] * len(jobs), [-1] * len(jobs)
    for index in ready:  # the loop extends the list
        end_s[index] = jobs[index].seconds
        for earlier in jobs[index].after:
            if before[index] < 0 or end_s[earlier] > end_s[before[index]]:
                before[index] = earlier
        end_s[index] += end_s[before[index]] if before[index] >= 0 else 0
        for follower in followers[index]:
            waiting[follower] -= 1
            if not waiting[follower]:
                ready.append(follower)
    if len(ready) < len(jobs):
        raise ValueError(f"{len(jobs) - len(ready)} jobs {CYCLE}")
    chain = [max(range(len(jobs)), key=end_s.__getitem__)] if jobs else []
    while chain and before[chain[-1]] >= 0:
        chain.append(before[chain[-1]])
    return chain[::-1]


def _followers(jobs: list[Work]) -> tuple[list[list[int]], list[int]]:
    """For each job the indices of those that wait for it, and how many it waits for."""
    followers: list[list[int]] = [[] for _ in jobs]
    for index, job in enumerate(jobs):
        for earlier in set(job.after):
            followers[earlier].append(index)
    return followers, [len(set(job.after)) for job in jobs]
