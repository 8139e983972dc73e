"""How often numbers came, counted in buckets that add up to the same in whatever order.

Quantile sketches draw which values they keep, so that two runs of the same day tell two medians.
Here the leading bits of a float32 decide its bucket. As few bits are dropped as leave no more than
`MOST_BUCKETS` buckets: none, while there are no more values than that. How many are dropped follows
from the values alone: a part never drops more of them than the whole does.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

MOST_BUCKETS = 4_096
"""Numbers over ten orders of magnitude are told apart to 1%, those of one to 0.1%."""
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class BucketCounts:
    """Counts of finite numbers.

    Attributes:
      dropped_bits: trailing bits by which numbers of one bucket may differ.
      keys: [B] uint32, ascending: the bits of each bucket's greatest number, in an order in which
        they compare as the numbers do.
      counts: [B] int64, how many numbers each bucket has.
    """

    dropped_bits: int
    keys: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, numbers: ArrayLike, counts: ArrayLike | None = None) -> Self:
        """Counts numbers.

        Args:
          numbers: [N], finite.
          counts: [N] integers, how often each comes; by default once.
        """
        keys = _ordered_bits(numbers)
        if counts is None:
            unique, of_each = np.unique(keys, return_counts=True)
            return cls(0, unique, of_each.astype(np.int64))._within_limit()
        order = np.argsort(keys, kind="stable")
        ordered_counts = np.asarray(counts, np.int64)[order]
        return cls(0, keys[order], ordered_counts).coarsened(0)._within_limit()

    def __add__(self, other: Self) -> Self:
        """Of both parts."""
        keys = np.concatenate([self.keys, other.keys])
        counts = np.concatenate([self.counts, other.counts])
        order = np.argsort(keys, kind="stable")
        both = type(self)(0, keys[order], counts[order])
        return both.coarsened(max(self.dropped_bits, other.dropped_bits))._within_limit()

    def coarsened(self, bits: int) -> Self:
        """The same in buckets of numbers that differ in so many trailing bits at the most."""
        buckets = self.keys >> np.uint32(bits)
        last = np.flatnonzero(np.append(buckets[1:] != buckets[:-1], True)[: len(buckets)])
        counts = np.diff(np.cumsum(self.counts)[last], prepend=0)
        return type(self)(bits, self.keys[last], counts)

    def _within_limit(self) -> Self:
        if len(self.keys) <= MOST_BUCKETS:
            return self
        # Neighbours share a bucket once the highest bit in which they differ is dropped.
        differ = self.keys[1:] ^ self.keys[:-1]
        _, highest = np.frexp(differ.astype(np.float64))
        return self.coarsened(int(np.partition(highest, -MOST_BUCKETS)[-MOST_BUCKETS]))

    @property
    def total(self) -> int:
        """How many numbers there are."""
        return int(self.counts.sum())

    def quantiles(self, ranks: ArrayLike) -> np.ndarray:
        """[R] float32, for each rank a number up to which at least that share of all lies: the
        greatest of the first bucket with which the share is reached.

        Args:
          ranks: [R], 0 to 1.
        """
        reached = np.asarray(ranks) * self.total - _ROUNDING
        return _numbers(self.keys[np.searchsorted(np.cumsum(self.counts), reached)])

    def share_up_to(self, numbers: ArrayLike) -> np.ndarray:
        """[N] float64, the share of all numbers that lie in buckets up to that of each one."""
        up_to = np.append(0, np.cumsum(self.counts)) / max(1, self.total)
        own = self.keys >> np.uint32(self.dropped_bits)
        return up_to[np.searchsorted(own, self.buckets(numbers), side="right")]

    def buckets(self, numbers: ArrayLike) -> np.ndarray:
        """[N] uint32, the buckets of numbers, in the order of the numbers."""
        return _ordered_bits(numbers) >> np.uint32(self.dropped_bits)

    def to_bytes(self) -> bytes:
        """Little-endian: the dropped bits as uint32, all keys as uint32, all counts as int64."""
        head = np.array([self.dropped_bits], "<u4")
        return b"".join(
            part.tobytes() for part in (head, self.keys.astype("<u4"), self.counts.astype("<i8"))
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Reads what `to_bytes` wrote."""
        n = (len(data) - 4) // 12
        keys = np.frombuffer(data, "<u4", n, offset=4)
        counts = np.frombuffer(data, "<i8", n, offset=4 + 4 * n)
        return cls(int.from_bytes(data[:4], "little"), keys, counts)


_SIGN = np.uint32(1 << 31)


def _ordered_bits(numbers: ArrayLike) -> np.ndarray:
    """[N] uint32, bits of float32 that compare as the numbers do."""
    # Adding 0 makes one zero of both.
    bits = (np.asarray(numbers, np.float32) + np.float32(0)).view(np.uint32)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _numbers(keys: np.ndarray) -> np.ndarray:
    return np.where(keys & _SIGN, keys ^ _SIGN, ~keys).view(np.float32)
