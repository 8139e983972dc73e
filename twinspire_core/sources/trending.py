"""The source `trending`: what is taken most, where an event weighs the less the older it is.

    score(item) = sum over its events of .5 ^ (age / half-life)

as of the moment that the tables are of: the start of a day to measure it, its end to serve. With a
half-life of hours it lists what is read just now, with one of weeks what sells all the time. Which
half-life is best is fitted on earlier days.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from twinspire_core.config import source_names
from twinspire_core.contracts.feature_schema import TRENDING_HALF_LIVES
from twinspire_core.sources.popularity import OrderForAll
from twinspire_core.sources.source import SourceTables

_PREFIX = "_trending_"


@dataclass(frozen=True, slots=True)
class Trending(OrderForAll):
    """By one of the corpus's decayed counts, which are the scores."""

    name = source_names.TRENDING
    choices = tuple(column.removeprefix(_PREFIX) for column in TRENDING_HALF_LIVES)
    default = "1d"

    @classmethod
    def of(cls, tables: SourceTables) -> Self | None:
        """By the chosen half-life; None if such counts were not made."""
        column = _PREFIX + cls.chosen(tables)
        if column not in tables.corpus.column_names:
            return None
        counts = tables.corpus.column(column).fill_null(0).to_numpy()
        # Events so old that nothing is left of them are told apart by the longest half-life.
        longest = tables.corpus.column(list(TRENDING_HALF_LIVES)[-1]).fill_null(0).to_numpy()
        order = np.lexsort((-longest, -counts)).astype(np.int64)
        return cls(order, counts.astype(np.float32))
