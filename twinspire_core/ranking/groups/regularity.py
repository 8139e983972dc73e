"""How regularly the user takes a candidate, and whether it is due again."""

from collections.abc import Sequence
from typing import Self

import numpy as np

from twinspire_core.display.figures import counted
from twinspire_core.ranking.feature_group import FeatureGroup
from twinspire_core.ranking.pairs import Pairs
from twinspire_core.sources.source import SourceTables

_INTERVAL = "interval"
_OVERDUE = "overdue"
_ALL = "all"


class Regularity(FeatureGroup):
    """Missing for what the user took less than twice, and for counts of which no times are known."""

    @classmethod
    def of(cls, tables: SourceTables) -> Self:
        """It is made of no table: queries bring their counts."""
        return cls()

    def names(self, sources: Sequence[str]) -> tuple[str, ...]:
        """The mean of the days between two events, and how often it has gone by since the last."""
        return (_INTERVAL, _OVERDUE)

    def goes_by_times(self, name: str) -> bool:
        """Both do."""
        return True

    def values(self, pairs: Pairs) -> np.ndarray:
        """Of the candidates that users had before."""
        values = np.full((len(pairs), 2), np.nan, np.float32)
        past = pairs.past
        if past is None or past.counts.span is None or _ALL not in past.counts.counts:
            return values
        entry = np.flatnonzero(pairs.past_pair >= 0)
        number = past.number[entry]
        span = past.counts.span[number]
        events = np.rint(past.counts.counts[_ALL][number])
        is_known = (events > 1) & (span > 0)
        pair = pairs.past_pair[entry[is_known]]
        interval = span[is_known] / (events[is_known] - 1)
        values[pair, 0] = interval
        # Two events of one day tell of no rhythm of minutes.
        values[pair, 1] = past.counts.age[number[is_known]] / np.maximum(interval, 1)
        return values

    def describe(self, name: str, value: float) -> str:
        """Days as days."""
        if np.isnan(value):
            return "not taken often enough to tell how regularly"
        if name == _INTERVAL:
            if value < 1:
                return "usually taken more than once a day"
            if round(value) == 1:
                return "usually taken every day"
            return f"usually taken every {counted(value, 'day')}"
        if value < 0.5:
            return f"not due yet: {value:.0%} of the usual time has gone by"
        if value < 1.5:
            return f"due about now: {value:.0%} of the usual time has gone by"
        return f"overdue: {value:.1f} times the usual time has gone by"
