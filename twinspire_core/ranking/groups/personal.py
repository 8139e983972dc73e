"""How often the user had a candidate before, when, how regularly, and whether it is due again."""

from collections.abc import Sequence
from typing import Self

import numpy as np

from twinspire_core.display.table import ago, counted, times
from twinspire_core.ranking.feature_group import FeatureGroup
from twinspire_core.ranking.pairs import Pairs
from twinspire_core.search.ragged import list_places
from twinspire_core.sources.personal_counts import HALF_LIVES
from twinspire_core.sources.source import SourceTables

_COUNT = "personal:"
_ALL = "all"
_OF_SHARE = "60d"
_AGE, _FIRST, _SHARE = "personal_age", "personal_first", "personal_share"
_RANK, _DAYS, _DAY_SHARE = "personal_rank", "personal_days", "personal_day_share"
_INTERVAL, _OVERDUE, _SEEN = "interval", "overdue", "seen"
_NAMES = (
    *(_COUNT + name for name in HALF_LIVES),
    *(_AGE, _FIRST, _SHARE, _RANK, _DAYS, _DAY_SHARE, _INTERVAL, _OVERDUE, _SEEN),
)
_UNTIMED = (_COUNT + _ALL, _RANK, _SEEN)


class PersonalHistory(FeatureGroup):
    """Counts and shares are 0 of what the user never had, all else is missing. Rhythm is that of days:
    what somebody takes twice in one visit tells of none.
    """

    @classmethod
    def of(cls, tables: SourceTables) -> Self:
        """It is made of no table: queries bring their counts."""
        return cls()

    def names(self, sources: Sequence[str]) -> tuple[str, ...]:
        """A count by half-life; days since the last event and the first; the share of all that the user
        had, and the place by that; days with events, and their share of the days with any; the mean of the
        days between, and how often it has gone by since the last; whether it is what `exclude_seen` leaves
        out.
        """
        return _NAMES

    def needs_times(self, name: str) -> bool:
        """All do, but for how often the user had it at all."""
        return name not in _UNTIMED

    def write(self, pairs: Pairs, values: np.ndarray) -> None:
        """Missing where queries bring no counts."""
        values[:] = np.nan
        column = dict(zip(_NAMES, values, strict=True))
        # Together what `Queries.seen` is.
        place = pairs.find(pairs.queries.past.row, pairs.queries.past.values)
        column[_SEEN][:] = 0
        column[_SEEN][place[place >= 0]] = 1
        past = pairs.past
        if past is None:
            return
        column[_SEEN][pairs.past_pair[pairs.past_pair >= 0]] = 1
        entry = np.flatnonzero(pairs.past_pair >= 0)
        pair = pairs.past_pair[entry]
        number = past.number[entry]
        counts = past.counts
        for name in counts.counts:
            column[_COUNT + name][:] = 0
            column[_COUNT + name][pair] = counts.counts[name][number]
        column[_AGE][pair] = counts.age[number]
        column[_RANK][pair] = list_places(counts.entries.lengths)[entry]
        if _OF_SHARE in counts.counts:
            weights = counts.counts[_OF_SHARE]
            totals = np.bincount(past.query, weights[past.number], len(pairs.queries))
            column[_SHARE][:] = 0
            column[_SHARE][pair] = weights[number] / np.maximum(totals, 1e-30)[pairs.query[pair]]
        if counts.span is None or counts.days is None or counts.visits is None:
            return
        days = counts.days[number]
        column[_FIRST][pair] = counts.age[number] + counts.span[number]
        for name, told in ((_DAYS, days), (_DAY_SHARE, days / counts.visits[pairs.query[pair]])):
            column[name][:] = 0
            column[name][pair] = told
        with np.errstate(divide="ignore", invalid="ignore"):
            interval = np.where(days > 1, counts.span[number] / (days - 1), np.nan)
        column[_INTERVAL][pair] = interval
        # Two events around midnight tell of no rhythm of minutes.
        column[_OVERDUE][pair] = counts.age[number] / np.maximum(interval, 1)

    def describe(self, name: str, value: float) -> str:
        """Counts as such, days as days."""
        if name in (_INTERVAL, _OVERDUE):
            return _in_words(name, value)
        if name == _SEEN:
            return "taken before" if value else "never taken before"
        if np.isnan(value):
            return "never taken before, or nobody knows when"
        told = {
            _AGE: f"last taken {ago(value)}",
            _FIRST: f"first taken {ago(value)}",
            _SHARE: f"{value:.1%} of what the user takes",
            _RANK: f"number {value + 1:.0f} of what the user takes most",
            _DAYS: f"taken on {counted(value, 'day')}",
            _DAY_SHARE: f"taken on {value:.0%} of the days on which the user takes anything",
        }
        if name in told:
            return told[name]
        half_life = name.removeprefix(_COUNT)
        if value == 0:
            return "never taken before"
        if half_life == _ALL:
            return f"taken {times(value)} before"
        return f"taken {value:.1f} times before, half-life {half_life}"


def _in_words(name: str, value: float) -> str:
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
