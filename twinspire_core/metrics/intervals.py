"""Moments of numbers, and bootstrap intervals of means over users.

A bootstrap resample draws as many users as there are, with replacement, each with all their queries.
Source: Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple, Self

import numpy as np

LEVEL = 0.95
"""Share of the resamples inside an interval; as many are below it as above."""
RESAMPLES = 200
"""Enough for two digits of the ends of a 95% interval. Each takes time at every measure of every day."""

# A fixed seed: two lists that are measured on the same queries get the same resamples, so that what they
# have in common cancels out in their difference.
_SEED = 20190916
_CHUNK_BYTES = 64 << 20
# Draws of 2 bytes each. More are drawn again for each set of lists instead of being kept in memory.
_MOST_KEPT = 16 << 20


def resampled_means(
    values: Mapping[str, np.ndarray], user: np.ndarray, resamples: int
) -> dict[str, np.ndarray]:
    """The mean of each measure in each of R resamples: [R] float64 by measure, NaN where a resample
    has no query that the measure applies to.

    Args:
      values: [Q] float64 by measure, a number per query; NaN where the measure does not apply.
      user: [Q] int64, the user who asks each query, numbered from 0.
      resamples: R; 0 for none.
    """
    users = int(user.max(initial=-1)) + 1
    if not users or not resamples or not values:
        return {name: np.full(resamples, np.nan) for name in values}
    # Sums over each user's queries, and to how many of them a measure applies, [users, M].
    applies = {name: np.isfinite(of_measure) for name, of_measure in values.items()}
    sums = np.stack(
        [np.bincount(user, np.where(applies[x], values[x], 0.0), users) for x in values], 1
    )
    numbers = np.stack([np.bincount(user, applies[x], users) for x in values], 1)
    means = list[np.ndarray]()
    draws = _kept_draws if users * resamples <= _MOST_KEPT else _draws
    for drawn in draws(users, resamples):
        # One matrix product sums each resample's users, each as often as drawn: faster than taking rows.
        times = drawn.astype(np.float64)
        with np.errstate(invalid="ignore"):  # 0 / 0, where a measure applies to nobody drawn
            means.append((times @ sums) / (times @ numbers))
    return dict(zip(values, np.concatenate(means).T, strict=True))


def _draws(users: int, resamples: int) -> Iterator[np.ndarray]:
    """How often each user is drawn, [n, users] uint16, n of the resamples at a time."""
    draw = np.random.default_rng(_SEED)
    chunk = max(1, _CHUNK_BYTES // (8 * users))
    for start in range(0, resamples, chunk):
        n = min(chunk, resamples - start)
        # Each resample has its own range of numbers, so that one bincount counts all resamples.
        drawn = draw.integers(users, size=(n, users)) + np.arange(n)[:, None] * users
        yield np.bincount(drawn.ravel(), minlength=n * users).reshape(n, users).astype(np.uint16)


# Four: the evaluation sets of a day. Each of them measures many lists.
@lru_cache(maxsize=4)
def _kept_draws(users: int, resamples: int) -> tuple[np.ndarray, ...]:
    return tuple(_draws(users, resamples))


def intervals(resampled: Mapping[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """The range that holds 95% of the resamples of each measure that has one, by name.

    Args:
      resampled: [R] float64 by measure; NaN is left out, and an infinite mean makes the range
        meaningless.
    """
    spans = {}
    for name, drawn in resampled.items():
        # Resamples in which the measure applies to nobody have no mean.
        drawn = drawn[~np.isnan(drawn)]
        if not len(drawn):
            continue
        with np.errstate(invalid="ignore"):
            low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
        if np.isfinite(low) and np.isfinite(high):
            spans[name] = (low, high)
    return spans


def interval(resampled: np.ndarray) -> tuple[float, float] | None:
    """The interval of one measure from its resampled means, [R]; None if there is none."""
    return intervals({"": resampled}).get("")


class Moments(NamedTuple):
    """Mean and spread of n numbers, which may come in parts that are merged.

    Attributes:
      squares: the sum of squared deviations from the mean.
    """

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, values: np.ndarray) -> Self:
        """Moments of numbers, [n] float64, all finite."""
        if not len(values):
            return cls()
        mean = float(values.mean())
        return cls(len(values), mean, float(np.square(values - mean).sum()))

    def merged(self, other: "Moments") -> "Moments":
        """Moments of the numbers of both.

        Source: Chan, Golub, LeVeque, *Updating Formulae and a Pairwise Algorithm for Computing
        Sample Variances*, 1979.

        Example: of 1, 2 and of 6, the mean is 3 and the squared deviations are 4, 1 and 9.
          >>> Moments(n=2, mean=1.5, squares=0.5).merged(Moments(n=1, mean=6.0, squares=0.0))
          Moments(n=3, mean=3.0, squares=14.0)
        """
        n = self.n + other.n
        if n == 0:
            return self
        # Not sums of squares: they lose the digits of a small spread around a large mean.
        step = other.mean - self.mean
        mean = self.mean + step * other.n / n
        squares = self.squares + other.squares + step**2 * self.n * other.n / n
        return Moments(n, mean, squares)

    @property
    def spread(self) -> float:
        """The standard deviation."""
        return float((self.squares / max(self.n, 1)) ** 0.5)
