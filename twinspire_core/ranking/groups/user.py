"""How much is known of the user: the same for all candidates of a query, and what others depend on.

There is no hour and no weekday. What the ranker is fitted on are queries as of the start of a day,
one for each user: their hour never varies, and a model must not be served what it never saw. The
weekday is that of the day that a list is for, which a query does not say: a version answers on the
days after its own for as long as none follows.
"""

from collections.abc import Sequence
from typing import Self

import numpy as np

from twinspire_core.display.table import ago, counted
from twinspire_core.ranking.feature_group import FeatureGroup, write_rows
from twinspire_core.ranking.pairs import Pairs
from twinspire_core.ranking.past_entries import PastEntries
from twinspire_core.sources.source import SourceTables

_EVENTS = "user_events"
_ITEMS = "user_items"
_AGE = "user_age"
_REPEATS = "user_repeats"
_VISITS, _BASKET = "user_visits", "user_basket"
_FIRST, _INTERVAL, _OVERDUE = "user_first", "user_interval", "user_overdue"
_NAMES = (_EVENTS, _ITEMS, _AGE, _REPEATS, _VISITS, _BASKET, _FIRST, _INTERVAL, _OVERDUE)
_UNTIMED = (_EVENTS, _ITEMS, _REPEATS)
_ALL = "all"


class UserActivity(FeatureGroup):
    """Numbers of events, items and days are logarithms."""

    @classmethod
    def of(cls, tables: SourceTables) -> Self:
        """It is made of no table: queries bring their counts."""
        return cls()

    def names(self, sources: Sequence[str]) -> tuple[str, ...]:
        """Events, distinct items, days since the last event, the share of events that were of
        something the user had before; days with any event, items of such a day, days since the first
        event, the mean of the days between, and how often it has gone by.
        """
        return _NAMES

    def needs_times(self, name: str) -> bool:
        """All but what is counted alone."""
        return name not in _UNTIMED

    def write(self, pairs: Pairs, values: np.ndarray) -> None:
        """All but events and items is missing where queries bring no counts, and without any event."""
        users = len(pairs.queries)
        of_user = np.full((users, len(_NAMES)), np.nan, np.float32)
        of_user[:, 0] = np.log1p(pairs.queries.events)
        past = pairs.past
        if past is None:
            of_user[:, 1] = np.log1p(pairs.queries.past.lengths)
            write_rows(of_user, pairs.query, values)
            return
        items = np.bincount(past.query, minlength=users)
        of_user[:, 1] = np.log1p(items)
        age = np.full(users, np.inf, np.float32)
        np.minimum.at(age, past.query, past.counts.age[past.number])
        of_user[:, 2] = np.where(items > 0, age, np.nan)
        if _ALL in past.counts.counts:
            counts = past.counts.counts[_ALL][past.number]
            events = np.bincount(past.query, weights=counts, minlength=users)
            of_user[:, 3] = np.where(items > 0, 1 - items / np.maximum(events, 1), np.nan)
        if past.counts.visits is not None:
            of_user[:, 4:] = _rhythm(past, of_user[:, 2])
        write_rows(of_user, pairs.query, values)

    def describe(self, name: str, value: float) -> str:
        """Counts as such, days as days."""
        if np.isnan(value):
            return "nothing known of what the user took"
        if name == _EVENTS:
            return f"the user took {counted(np.expm1(value), 'thing')} of late"
        if name == _ITEMS:
            return f"the user knows {counted(np.expm1(value), 'different thing')}"
        if name == _AGE:
            return f"the user last took something {ago(value)}"
        told = {
            _VISITS: f"the user took something on {counted(np.expm1(value), 'day')}",
            _BASKET: f"the user takes {counted(value, 'thing')} at a time",
            _FIRST: f"the user first took something {ago(value)}",
            _INTERVAL: f"the user usually takes something every {counted(value, 'day')}",
            _OVERDUE: f"{value:.0%} of the time between the user's visits has gone by",
        }
        if name in told:
            return told[name]
        return f"{value:.0%} of what the user takes are things taken before"


def _rhythm(past: PastEntries, age: np.ndarray) -> np.ndarray:
    """[U, 5] float32, the last of `_NAMES`; age is [U], of the last event."""
    counts = past.counts
    users = len(age)
    assert counts.visits is not None and counts.span is not None and counts.days is not None
    # In doubles: vectorised logarithms of floats differ by a bit with the place in the array.
    visits = np.where(np.isnan(age), np.nan, counts.visits).astype(np.float64)
    first = np.zeros(users, np.float32)
    np.maximum.at(first, past.query, counts.age[past.number] + counts.span[past.number])
    days = np.bincount(past.query, weights=counts.days[past.number], minlength=users)
    with np.errstate(divide="ignore", invalid="ignore"):
        interval = np.where(visits > 1, (first - age) / (visits - 1), np.nan)
        rhythm = (
            np.log1p(visits),
            days / visits,
            np.where(np.isnan(age), np.nan, first),
            interval,
            age / np.maximum(interval, 1),
        )
    return np.stack(rhythm, axis=1).astype(np.float32)
