"""The source `trending`: what is taken most, where an event weighs the less the older it is.

    score(item) = sum over its events of .5 ^ (age / half-life)

as of the moment that the tables are of: the start of a day to measure it, its end to serve. With a
half-life of hours it lists what is read just now, with one of weeks what sells all the time. Which
half-life serves best is told by earlier days (model/ranking/kind_of_log.py).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from twinspire_core.config import source_names
from twinspire_core.contracts.feature_schema import TRENDING_HALF_LIVES
from twinspire_core.sources.popularity import OrderForAll
from twinspire_core.sources.source import SourceTables

_PREFIX = "_trending_"
_LONGEST = list(TRENDING_HALF_LIVES)[-1]
_MICROSECONDS = 86_400 * 1_000_000  # of a day


@dataclass(frozen=True, slots=True)
class Trending(OrderForAll):
    """By one of the corpus's decayed counts, which are the scores."""

    name = source_names.TRENDING

    @classmethod
    def of(cls, tables: SourceTables) -> Self | None:
        """By the chosen half-life; None if such counts were not made."""
        column = _PREFIX + tables.half_life
        if column not in tables.corpus.column_names:
            return None
        return cls.by(_counts(tables, column), _counts(tables, _LONGEST))

    @classmethod
    def by(cls, counts: np.ndarray, longest: np.ndarray) -> Self:
        """By counts, [C]. Events so old that nothing is left of them are told apart by those of the
        longest half-life, [C].
        """
        order = np.lexsort((-longest, -counts)).astype(np.int64)
        return cls(order, counts.astype(np.float32))

    def first(self, items: int) -> Self:
        """The same of so many first items of the corpus alone."""
        return type(self)(self.order[self.order < items], self.scores[:items])


class RunningCounts:
    """Decayed counts that are kept up to date, event by event. They always equal what tables made
    at the moment of the newest event would hold, since all that was counted before decays alike.
    """

    def __init__(self, tables: SourceTables, moment: int) -> None:
        """Begins with the counts of tables that `Trending` can be made of.

        Args:
          tables: the tables.
          moment: microseconds since 1970 that they are as of.
        """
        columns = (_PREFIX + tables.half_life, _LONGEST)
        self._counts = [_counts(tables, column) for column in columns]
        self._half_lives = [TRENDING_HALF_LIVES[column] * _MICROSECONDS for column in columns]
        self._moment = moment
        self._added = 0.0

    @property
    def half_life(self) -> float:
        """In microseconds."""
        return self._half_lives[0]

    @property
    def moment(self) -> int:
        """Of the newest event, in microseconds since 1970."""
        return self._moment

    @property
    def added_share(self) -> float:
        """The share of the counts that was added since they began."""
        total = float(self._counts[0].sum())
        return self._added / total if total else 0.0

    def grow(self, items: int) -> None:
        """Goes on for a corpus of so many items more."""
        self._counts = [np.pad(counts, (0, items)) for counts in self._counts]

    def add(self, items: np.ndarray, times: np.ndarray) -> None:
        """Counts events.

        Args:
          items: [E] positions in the corpus, one at least.
          times: [E] int64, microseconds since 1970, in any order.
        """
        newest = max(self._moment, int(times.max()))
        for counts, half_life in zip(self._counts, self._half_lives, strict=True):
            counts *= 0.5 ** ((newest - self._moment) / half_life)
            np.add.at(counts, items, 0.5 ** ((newest - times) / half_life))
        half_life = self.half_life
        self._added *= 0.5 ** ((newest - self._moment) / half_life)
        self._added += float((0.5 ** ((newest - times) / half_life)).sum())
        self._moment = newest

    def source(self) -> Trending:
        """The source as of the newest event."""
        return Trending.by(*self._counts)


def _counts(tables: SourceTables, column: str) -> np.ndarray:
    """[C] float64, an array of its own."""
    counts: np.ndarray = tables.corpus.column(column).fill_null(0).to_numpy().astype(np.float64)
    return counts
