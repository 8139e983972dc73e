"""What queries say that users had before, beside their candidates."""

from typing import NamedTuple, Self

import numpy as np

from twinspire_core.sources.personal_counts import PersonalCounts
from twinspire_core.sources.sequences import HALF_LIFE


class PastEntries(NamedTuple):
    """Entries of the counts of U queries, query by query; N of them.

    Attributes:
      counts: what they are entries of.
      number: [N] int64, which of its entries.
      query: [N] int64, ascending.
      item: [N] int64, -1 outside the corpus.
      weight: [N] float32, decayed counts with `HALF_LIFE`; None where they were not made.
      total: [U] float64, the sum of a query's weights; None without them.
    """

    counts: PersonalCounts
    number: np.ndarray
    query: np.ndarray
    item: np.ndarray
    weight: np.ndarray | None
    total: np.ndarray | None

    @classmethod
    def of(cls, counts: PersonalCounts) -> Self:
        """The entries of some counts."""
        number = counts.entries.values
        query = counts.entries.row
        weight = None
        total = None
        if HALF_LIFE in counts.counts:
            weight = counts.counts[HALF_LIFE][number]
            total = np.bincount(query, weights=weight, minlength=counts.entries.rows)
        return cls(counts, number, query, counts.item[number], weight, total)
