"""Evaluation split made of the training rows: a stratified share, chosen by a hash.

Which rows are chosen depends on the seed and on the rows alone, not on their order or on a library.
Rows with the same texts and label stay together.
"""

import hashlib
from collections.abc import Hashable, Iterable, Sequence

import numpy as np


def choose(
    texts: Iterable[tuple[str, ...]], strata: Sequence[Hashable], fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the rows that stay in train, and of those that are evaluated.

    Args:
        texts: The texts of each row.
        strata: The class of each row; the same value for all rows of a regression task.
        fraction: Share of each class that is evaluated, rounded; above 0, below 1. A class of two
            rows or more has at least one in each part.
        seed: Another seed gives another choice.

    Returns:
        Two arrays of int64, each in ascending order.
    """
    salt = seed.to_bytes(8, "little")
    keys = np.fromiter((_key(row, salt) for row in texts), np.uint64)
    members: dict[Hashable, list[int]] = {}
    for index, stratum in enumerate(strata):
        members.setdefault(stratum, []).append(index)
    chosen = np.zeros(len(keys), bool)
    for indices in members.values():
        of_class = np.array(indices)
        of_class = of_class[np.argsort(keys[of_class], kind="stable")]
        end = _end(keys[of_class], fraction)
        chosen[of_class[:end]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _key(row: tuple[str, ...], salt: bytes) -> int:
    text = "\0".join(row).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8, salt=salt).digest(), "little")


def _end(keys: np.ndarray, fraction: float) -> int:
    """Return how many of a class's rows, in ascending order of their keys, are evaluated."""
    count = len(keys)
    end = min(max(1, int(fraction * count + 0.5)), count - 1)
    if end <= 0:
        return 0
    # Equal keys stay together: all in the evaluated part, or in train if nothing else is left.
    after = int(np.searchsorted(keys, keys[end - 1], side="right"))
    return after if after < count else int(np.searchsorted(keys, keys[end - 1], side="left"))
