"""How far a column's values are from those of another day, or of what is served."""

from collections.abc import Mapping
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike

from twinspire_core.contracts.column_statistics import Column

LEAST_VALUES = 50
"""With fewer values on either side, distributions differ by chance."""
_DECILES = np.arange(1, 10) / 10
# Sums of shares are off by what floats cannot hold.
_ROUNDING = 1e-9


class Numbers(NamedTuple):
    """A distribution of numbers.

    Attributes:
      values: [N] float32, ascending, one at least.
      up_to: [N] float64, the share of all that lies up to each.
    """

    values: np.ndarray
    up_to: np.ndarray

    @classmethod
    def weighted(cls, values: ArrayLike, weights: ArrayLike) -> Self:
        """Of [N] numbers in any order, with their weights."""
        # In float32, as examples have them: else a value may lie beyond itself.
        numbers = np.asarray(values, np.float32)
        order = np.argsort(numbers, kind="stable")
        up_to = np.cumsum(np.asarray(weights, np.float64)[order])
        return cls(numbers[order], up_to / up_to[-1])

    @classmethod
    def of(cls, column: Column) -> Self:
        """Of the listed values of a column."""
        return cls.weighted(column.listed, column.counts)

    def quantiles(self, ranks: ArrayLike) -> np.ndarray:
        """[R] float32, the smallest number up to which that share of all lies.

        Args:
          ranks: [R], 0 to 1.
        """
        places = np.searchsorted(self.up_to, np.asarray(ranks) - _ROUNDING)
        return self.values[np.minimum(places, len(self.values) - 1)]

    def share_up_to(self, numbers: ArrayLike) -> np.ndarray:
        """[M] float64, the share of all that lies up to each of [M] numbers."""
        places = np.searchsorted(self.values, np.asarray(numbers, np.float32), side="right")
        shares: np.ndarray = np.append(0, self.up_to)[places]
        return shares

    def distance(self, other: Self) -> float:
        """Jensen-Shannon divergence in bits between the deciles of both."""
        # With the largest of each an edge, no interval holds values of both where one ends before
        # the other begins.
        ends = [*self.values[-1:], *other.values[-1:]]
        edges = np.unique([*self.quantiles(_DECILES), *other.quantiles(_DECILES), *ends])
        # Closed on the right, so that a value that many rows have is told apart from its
        # neighbours.
        parts = (np.diff(side.share_up_to(edges), prepend=0) for side in (self, other))
        return js(*parts)


def linf(p: Mapping[str, float], q: Mapping[str, float]) -> float:
    """L-infinity distance max |p(v) - q(v)| of two distributions over values, 0 to 1."""
    distances = [abs(p.get(value, 0) - q.get(value, 0)) for value in p.keys() | q.keys()]
    return max(distances, default=0.0)


def furthest(p: Mapping[str, float], q: Mapping[str, float]) -> str:
    """The value that has this distance; of several the last by name."""

    def distance_then_name(value: str) -> tuple[float, str]:
        return abs(p.get(value, 0) - q.get(value, 0)), value

    return max(p.keys() | q.keys(), key=distance_then_name)


def noise(n: int) -> float:
    """L-infinity distance that chance alone explains: two standard errors, at the most, of a share
    among n values.
    """
    return float(2 * (1 / max(1, n)) ** 0.5)


def js(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon divergence in bits, 0 to 1: (KL(p | m) + KL(q | m)) / 2, where m = (p + q) /
    2.

    Args:
      p: [N] shares that sum to 1.
      q: [N] shares that sum to 1.
    """
    m = (p + q) / 2
    return (_kl(p, m) + _kl(q, m)) / 2


def _kl(p: np.ndarray, m: np.ndarray) -> float:
    """KL(p | m) in bits, where m > 0 wherever p > 0; 0 log 0 is 0."""
    some = p > 0
    return float(np.sum(p[some] * np.log2(p[some] / m[some])))
