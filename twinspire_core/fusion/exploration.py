"""Which places of a list are for exploration, and which items are explored: drawn at random, yet
the same all day.

Of the places after the first, a share is for items of which no event tells anything. Which places
these are differs by user and day, so that short lists have their part of it too: with a share of
.02, one list of ten in six has such a place. A day explores some of the items, as events of many
users say more of an item than one does, and the next day explores others. Numbers are drawn by
SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).

U queries, k places.
"""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

_STEP = np.uint64(0x9E3779B97F4A7C15)


def seeds(keys: Sequence[str]) -> np.ndarray:
    """A number for each key, [U] uint64, the same on every machine."""
    digests = [blake2b(key.encode(), digest_size=8).digest() for key in keys]
    return np.frombuffer(b"".join(digests), np.dtype("<u8")).astype(np.uint64)


def exploring_places(share: float, k: int, seeds: np.ndarray) -> np.ndarray:
    """The places for exploration, [U, k] bool: never the first; of the others the share, evenly
    spread, from a start that differs by seed.

    Args:
      share: 0 to 1.
      k: length of the lists.
      seeds: [U] uint64.
    """
    start = uniform(seeds, np.zeros(1, np.int64))
    passed = np.floor(start + share * np.arange(k))
    places: np.ndarray = np.diff(passed, axis=1, prepend=0.0) > 0
    return places


def uniform(seeds: np.ndarray, items: np.ndarray) -> np.ndarray:
    """A number from 0 to below 1 for each seed and item, [U, N] float64.

    Args:
      seeds: [U] uint64.
      items: [N] int64.
    """
    numbers = _mixed(seeds[:, None] + _mixed(items.astype(np.uint64)))
    scaled: np.ndarray = (numbers >> np.uint64(11)) / 2.0**53
    return scaled


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """SplitMix64's output for some states, uint64."""
    mixed = numbers + _STEP
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    scrambled: np.ndarray = mixed ^ (mixed >> np.uint64(31))
    return scrambled
