"""How often the user had a candidate before, with several half-lives, and when last."""

from collections.abc import Sequence
from typing import Self

import numpy as np

from twinspire_core.display.figures import ago, times
from twinspire_core.ranking.feature_group import FeatureGroup
from twinspire_core.ranking.pairs import Pairs
from twinspire_core.sources.personal_counts import HALF_LIVES
from twinspire_core.sources.source import SourceTables

_COUNT = "personal:"
_AGE = "personal_age"
_SHARE = "personal_share"
_OF_SHARE = "60d"
_ALL = "all"
_SEEN = "seen"


class PersonalHistory(FeatureGroup):
    """Counts are 0, and the age missing, of what the user never had."""

    @classmethod
    def of(cls, tables: SourceTables) -> Self:
        """It is made of no table: queries bring their counts."""
        return cls()

    def names(self, sources: Sequence[str]) -> tuple[str, ...]:
        """A count by half-life, days since the last event, the share of all that the user had, and whether
        it is what `exclude_seen` leaves out.
        """
        return (*(_COUNT + name for name in HALF_LIVES), _AGE, _SHARE, _SEEN)

    def goes_by_times(self, name: str) -> bool:
        """All do, but for how often the user had it at all."""
        return name not in (_COUNT + _ALL, _SEEN)

    def values(self, pairs: Pairs) -> np.ndarray:
        """Missing where queries bring no counts."""
        values = np.full((len(pairs), len(HALF_LIVES) + 3), np.nan, np.float32)
        seen = pairs.queries.seen
        place = pairs.find(seen.row, seen.values)
        values[:, -1] = 0
        values[place[place >= 0], -1] = 1
        personal = pairs.queries.personal
        if personal is None:
            return values
        entry = personal.entries.values
        row = personal.entries.row
        place = pairs.find(row, personal.item[entry])
        is_pair = place >= 0
        for column, name in enumerate(HALF_LIVES):
            if name in personal.counts:
                values[:, column] = 0
                values[place[is_pair], column] = personal.counts[name][entry[is_pair]]
        values[place[is_pair], -3] = personal.age[entry[is_pair]]
        if _OF_SHARE in personal.counts:
            counts = personal.counts[_OF_SHARE][entry]
            totals = np.bincount(row, weights=counts, minlength=len(pairs.queries))
            values[:, -2] = 0
            shares = counts[is_pair] / np.maximum(totals[row[is_pair]], 1e-30)
            values[place[is_pair], -2] = shares
        return values

    def describe(self, name: str, value: float) -> str:
        """Counts as such, days as days."""
        if name == _SEEN:
            return "taken before" if value else "never taken before"
        if name == _AGE:
            if np.isnan(value):
                return "never taken before, or nobody knows when"
            return f"last taken {ago(value)}"
        if np.isnan(value):
            return "when it was taken before is not known"
        if name == _SHARE:
            return f"{value:.1%} of what the user takes"
        half_life = name.removeprefix(_COUNT)
        if value == 0:
            return "never taken before"
        if half_life == _ALL:
            return f"taken {times(value)} before"
        return f"taken {value:.1f} times before, half-life {half_life}"
