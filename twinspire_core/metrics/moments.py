"""Mean and spread of numbers that come in parts."""

from typing import NamedTuple, Self

import numpy as np


class Moments(NamedTuple):
    """Moments of numbers, of which parts can be merged.

    Attributes:
      n: how many numbers.
      mean: of them.
      squares: the sum of squared deviations from the mean.
    """

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, values: np.ndarray) -> Self:
        """Of numbers, [N] float64, all finite."""
        if not len(values):
            return cls()
        mean = float(values.mean())
        return cls(len(values), mean, float(np.square(values - mean).sum()))

    def merged(self, other: "Moments") -> "Moments":
        """Of the numbers of both.

        Sums of squares would lose the digits of a small spread around a large mean; this does not.
        Source: Chan, Golub, LeVeque, *Updating Formulae and a Pairwise Algorithm for Computing
        Sample Variances*, 1979.

        Example: of 1, 2 and of 6, the mean is 3 and the squared deviations are 4, 1 and 9.
          >>> Moments(n=2, mean=1.5, squares=0.5).merged(Moments(n=1, mean=6.0, squares=0.0))
          Moments(n=3, mean=3.0, squares=14.0)
        """
        n = self.n + other.n
        if n == 0:
            return self
        step = other.mean - self.mean
        mean = self.mean + step * other.n / n
        squares = self.squares + other.squares + step**2 * self.n * other.n / n
        return Moments(n, mean, squares)

    @property
    def spread(self) -> float:
        """The standard deviation."""
        return float((self.squares / max(self.n, 1)) ** 0.5)
