"""How often everybody takes a candidate, over several windows, and whether that rises."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from twinspire_core.contracts.feature_schema import TRENDING_HALF_LIVES
from twinspire_core.display.figures import times
from twinspire_core.ranking.feature_group import FeatureGroup
from twinspire_core.ranking.pairs import Pairs
from twinspire_core.sources.source import SourceTables

_COUNT = "popular"
_LATELY = "lately"
_COLUMNS = {_COUNT: "_popular", _LATELY: "_lately"} | {
    f"trending:{column.removeprefix('_trending_')}": column for column in TRENDING_HALF_LIVES
}
_TREND = "trend"
_FAST = "_trending_7d"
_SLOW = "_trending_28d"
_RATIO = TRENDING_HALF_LIVES[_SLOW] / TRENDING_HALF_LIVES[_FAST]
"""Between the two counts of an item that is taken as often every day."""

_STEADY = 0.2
"""A trend that is told as none: a fifth up or down."""


@dataclass(frozen=True)
class Popularity(FeatureGroup):
    """Logarithms of counts, so that a ratio is a difference.

    Attributes:
      table: [C, F] float32, NaN in columns of counts that were not made.
    """

    table: np.ndarray

    @classmethod
    def of(cls, tables: SourceTables) -> Self:
        """From the corpus's counts, as far as they are there."""
        corpus = tables.corpus
        columns = []
        for column in (*_COLUMNS.values(), _FAST, _SLOW):
            if column in corpus.column_names:
                counts = corpus.column(column).fill_null(0).to_numpy()
            else:
                counts = np.full(len(corpus), np.nan)
            columns.append(counts)
        *windows, fast, slow = columns
        # One event more, so that a single one is no trend; 0 for what is taken as ever, or never.
        trend = np.log1p(_RATIO * fast) - np.log1p(slow)
        logs = [np.log1p(counts) for counts in windows]
        return cls(np.stack([*logs, trend], axis=1).astype(np.float32))

    def names(self, sources: Sequence[str]) -> tuple[str, ...]:
        """Counts by window and by half-life, and the trend."""
        return (*_COLUMNS, _TREND)

    def values(self, pairs: Pairs) -> np.ndarray:
        """Of the candidates."""
        values: np.ndarray = self.table[pairs.item]
        return values

    def describe(self, name: str, value: float) -> str:
        """Counts as such."""
        if np.isnan(value):
            return "popularity not known"
        if name == _TREND:
            if abs(value) < _STEADY:
                return "taken as often as ever"
            return "taken more and more" if value > 0 else "taken less and less"
        events = np.expm1(value)
        if name == _COUNT:
            return f"taken {times(events)} by everybody"
        if name == _LATELY:
            return f"taken {times(events)} by everybody of late"
        half_life = name.partition(":")[2]
        return f"taken {events:,.1f} times by everybody, half-life {half_life}"
