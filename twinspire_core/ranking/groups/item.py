"""Features of a candidate that are the same for all users: how often it is taken, whether that rises, since
when, and how users take it again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from twinspire_core.contracts.feature_schema import (
    AGAIN,
    AGAIN_DAYS,
    BUYERS,
    FIRST_SEEN,
    TRENDING_HALF_LIVES,
)
from twinspire_core.display.table import ago, counted, times
from twinspire_core.ranking.pairs import FeatureGroup, Pairs, write_rows
from twinspire_core.sources.source import SourceTables

_COUNT, _LATELY, _BUYERS = "popular", "lately", "buyers"
_COUNTS = {_COUNT: "_popular", _LATELY: "_lately", _BUYERS: BUYERS} | {
    f"trending:{column.removeprefix('_trending_')}": column for column in TRENDING_HALF_LIVES
}
_TREND = "trend"
_FAST = "_trending_7d"
_SLOW = "_trending_28d"
# Ratio of the two counts for an item that is taken equally often every day.
_RATIO = TRENDING_HALF_LIVES[_SLOW] / TRENDING_HALF_LIVES[_FAST]
# Trends below a fifth up or down are described as none.
_STEADY = 0.2
_AGE, _AGAIN, _AGAIN_DAYS = "first_seen", "again", "again_days"
_AS_THEY_ARE = {_AGE: FIRST_SEEN, _AGAIN: AGAIN, _AGAIN_DAYS: AGAIN_DAYS}


def _trend_text(value: float) -> str:
    if abs(value) < _STEADY:
        return "taken as often as ever"
    return "taken more and more" if value > 0 else "taken less and less"


def _age_text(value: float) -> str:
    # The day of the first event is known, not whether there were events before the logs begin.
    if value < 2:
        return f"new: first taken {ago(24 * value, 'hour')}"
    return f"first taken {ago(value)} or earlier"


# What values say, except counts by half-life.
_WORDS: Mapping[str, Callable[[float], str]] = {
    _COUNT: lambda x: f"taken {times(np.expm1(x))} by everybody",
    _LATELY: lambda x: f"taken {times(np.expm1(x))} by everybody of late",
    _BUYERS: lambda x: f"taken by {counted(np.expm1(x), 'user')}",
    _TREND: _trend_text,
    _AGE: _age_text,
    _AGAIN: lambda x: f"{x:.0%} of what everybody takes of it is taken again",
    _AGAIN_DAYS: lambda x: f"usually taken again after {counted(x, 'day')}",
}


@dataclass(frozen=True)
class Item(FeatureGroup):
    """Counts are logarithms, so that a ratio is a difference.

    Attributes:
      table: [C, F] float32, NaN where the corpus lacks a count, and for items that nobody took.
    """

    table: np.ndarray

    @classmethod
    def of(cls, tables: SourceTables) -> Self:
        """From those columns that the corpus has."""
        corpus = tables.corpus
        logs = [np.log1p(_column(corpus, name, missing=0)) for name in _COUNTS.values()]
        # One event is added, so that a single one is no trend. 0 stands for no change, or no event.
        fast, slow = (_column(corpus, name, missing=0) for name in (_FAST, _SLOW))
        trend = np.log1p(_RATIO * fast) - np.log1p(slow)
        others = [_column(corpus, name, missing=np.nan) for name in _AS_THEY_ARE.values()]
        return cls(np.stack([*logs, trend, *others], axis=1).astype(np.float32))

    def names(self, sources: Sequence[str]) -> tuple[str, ...]:
        """Counts by window and by half-life, users, the trend; days since the first event; the share of
        users' days with it that were not the first, and the mean days to these.
        """
        return (*_COUNTS, _TREND, *_AS_THEY_ARE)

    def write(self, pairs: Pairs, values: np.ndarray) -> None:
        """The candidates' rows of the table."""
        write_rows(self.table, pairs.item, values)

    def describe(self, name: str, value: float) -> str:
        """Counts as such, days as days."""
        if np.isnan(value):
            return "not taken by anybody yet" if name == _AGE else "popularity not known"
        if name in _WORDS:
            return _WORDS[name](value)
        half_life = name.partition(":")[2]
        return f"taken {np.expm1(value):,.1f} times by everybody, half-life {half_life}"


def _column(corpus: pa.Table, name: str, *, missing: float) -> np.ndarray:
    """[C], NaN where the corpus lacks the column."""
    if name not in corpus.column_names:
        return np.full(len(corpus), np.nan)
    return np.asarray(corpus.column(name).cast(pa.float64()).fill_null(missing).to_numpy())
