"""Features of the user's history: how often the user took a candidate, when and how regularly, whether it is
due again; and how much is known of the user at all.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from twinspire_core.display.table import ago, counted, times
from twinspire_core.ranking.pairs import Feature, FeatureGroup, Pairs
from twinspire_core.search.ragged import list_places
from twinspire_core.sources.user_histories import (
    AGE,
    DAYS,
    HALF_LIFE,
    HALF_LIVES,
    SPAN,
    PersonalCounts,
)

_COUNT = "personal:"
_ALL = "all"


def _interval_text(value: float) -> str:
    if value < 1:
        return "usually bought more than once a day"
    if round(value) == 1:
        return "usually bought every day"
    return f"usually bought every {counted(value, 'day')}"


def _overdue_text(value: float) -> str:
    if value < 0.5:
        return f"not due yet: {value:.0%} of the usual time has passed"
    if value < 1.5:
        return f"due about now: {value:.0%} of the usual time has passed"
    return f"overdue: {value:.1f} times the usual time has passed"


def _of_pair(
    words: Callable[[float], str],
    unknown: str = "never bought before, or the time is unknown",
    *,
    needs_times: bool = True,
) -> Feature:
    return Feature(words, unknown, needs_times)


def _count(half_life: str) -> Feature:
    def words(value: float) -> str:
        if value == 0:
            return "never bought before"
        if half_life == _ALL:
            return f"bought {times(value)} before"
        return f"bought {value:.1f} times before, half-life {half_life}"

    return _of_pair(words, needs_times=half_life != _ALL)


_RARE = "not bought often enough to know how regularly"
_OF_PAIR = {
    **{_COUNT + name: _count(name) for name in HALF_LIVES},
    "personal_age": _of_pair(lambda x: f"last bought {ago(x)}"),
    "personal_first": _of_pair(lambda x: f"first bought {ago(x)}"),
    "personal_share": _of_pair(lambda x: f"{x:.1%} of the user's events"),
    "personal_rank": _of_pair(
        lambda x: f"number {x + 1:.0f} among the user's most frequent items", needs_times=False
    ),
    "personal_days": _of_pair(lambda x: f"bought on {counted(x, 'day')}"),
    "personal_day_share": _of_pair(lambda x: f"bought on {x:.0%} of the user's active days"),
    "interval": _of_pair(_interval_text, _RARE),
    "overdue": _of_pair(_overdue_text, _RARE),
    "seen": _of_pair(lambda x: "bought before" if x else "never bought before", needs_times=False),
}


_PURCHASES = {*(_COUNT + name for name in HALF_LIVES), "personal_age"}


def purchases_text(name: str, values: Mapping[str, float]) -> str:
    """How often and when the user bought an item, for a feature that says a part of this.

    Args:
      values: of all features of the item, by name.

    Returns: empty for any other feature, or where the user never bought the item.

    Example:
      >>> purchases_text("personal_age", {"personal:all": 4.0, "personal_age": 6.1})
      'bought 4 times, last 6 days ago'
    """
    often, age = (values.get(part, np.nan) for part in (_COUNT + _ALL, "personal_age"))
    if name not in _PURCHASES or not often > 0:
        return ""
    return f"bought {times(often)}" + ("" if np.isnan(age) else f", last {ago(age)}")


def _of_user(words: Callable[[float], str], *, needs_times: bool = True) -> Feature:
    return Feature(words, "the user's history is unknown", needs_times)


_OF_USER = {
    "user_events": _of_user(
        lambda x: f"the user bought {counted(np.expm1(x), 'item')} lately", needs_times=False
    ),
    "user_items": _of_user(
        lambda x: f"the user bought {counted(np.expm1(x), 'different item')}", needs_times=False
    ),
    "user_age": _of_user(lambda x: f"the user was last active {ago(x)}"),
    "user_repeats": _of_user(
        lambda x: f"{x:.0%} of the user's events repeat an earlier one", needs_times=False
    ),
    "user_visits": _of_user(lambda x: f"the user was active on {counted(np.expm1(x), 'day')}"),
    "user_basket": _of_user(lambda x: f"the user buys {counted(x, 'item')} per active day"),
    "user_first": _of_user(lambda x: f"the user was first active {ago(x)}"),
    "user_interval": _of_user(lambda x: f"the user is usually active every {counted(x, 'day')}"),
    "user_overdue": _of_user(
        lambda x: f"{x:.0%} of the user's usual time between visits has passed"
    ),
}


class PersonalHistory(FeatureGroup):
    """The user's history with a candidate: how often, when, how regularly, and whether it is due again.

    Counts and shares are 0 for items that the user never took, all else is missing. Regularity is
    measured in days: two events of one visit show none.
    """

    def features(self, sources: Sequence[str]) -> Mapping[str, Feature]:
        """A count by half-life; days since the last and the first event; the share of all that the user
        took, and the rank by that; days with events, and their share of the days with any event; the mean
        number of days between, and how often it has passed since the last event; whether `exclude_seen`
        leaves the item out.
        """
        return _OF_PAIR

    def write(self, pairs: Pairs, values: np.ndarray) -> None:
        """From the history and the counts."""
        values[:] = np.nan
        column = dict(zip(_OF_PAIR, values, strict=True))
        # Seen is what `Queries.seen` lists: items of the history, and items with counts.
        pair = pairs.find(pairs.queries.past.row, pairs.queries.past.values)
        column["seen"][:] = 0
        column["seen"][pair[pair >= 0]] = 1
        personal = pairs.personal
        entry = np.flatnonzero(pairs.past_pair >= 0)
        pair = pairs.past_pair[entry]
        column["seen"][pair] = 1
        of_pair = {name: values[entry] for name, values in personal.of_entry.items()}
        age, span, days = (of_pair[name] for name in (AGE, SPAN, DAYS))
        of_query = pairs.query[pair]
        amounts = {_COUNT + name: of_pair[name] for name in HALF_LIVES}
        amounts["personal_share"] = (
            of_pair[HALF_LIFE] / np.maximum(pairs.past_totals, 1e-30)[of_query]
        )
        amounts["personal_days"] = days
        amounts["personal_day_share"] = days / personal.visits[of_query]
        for name, amount in amounts.items():
            column[name][:] = 0
            column[name][pair] = amount
        column["personal_age"][pair] = age
        column["personal_first"][pair] = age + span
        column["personal_rank"][pair] = list_places(personal.items.lengths)[entry]
        with np.errstate(divide="ignore", invalid="ignore"):
            interval = np.where(days > 1, span / (days - 1), np.nan)
        column["interval"][pair] = interval
        # At least a day: two events around midnight show no interval of minutes.
        column["overdue"][pair] = age / np.maximum(interval, 1)


class UserActivity(FeatureGroup):
    """The user's activity. It is the same for all candidates of a query, and the meaning of other features
    depends on it. Numbers of events, items and days are logarithms.

    Hour and weekday are left out. The ranker is fitted on one query per user, as of the start of a day.
    So the hour never varies, and a model must not be served values that it never saw. A query does not
    say for which day its list is: a version serves on the days after its own until the next version.
    """

    def features(self, sources: Sequence[str]) -> Mapping[str, Feature]:
        """Events, distinct items, days since the last event, the share of events with an item that the user
        had taken before; days with any event, items on such a day, days since the first event, the mean
        number of days between, and how often it has passed since the last event.
        """
        return _OF_USER

    def write(self, pairs: Pairs, values: np.ndarray) -> None:
        """All except events and items are missing where queries bring no counts, and without any event."""
        users = len(pairs.queries)
        of_user = np.full((users, len(_OF_USER)), np.nan, np.float32)
        of_user[:, 0] = np.log1p(pairs.queries.events)
        personal = pairs.personal
        items, query = personal.items.lengths, personal.items.row
        of_user[:, 1] = np.log1p(items)
        age = np.full(users, np.inf, np.float32)
        np.minimum.at(age, query, personal.of_entry[AGE])
        of_user[:, 2] = np.where(items > 0, age, np.nan)
        events = np.bincount(query, weights=personal.of_entry[_ALL], minlength=users)
        of_user[:, 3] = np.where(items > 0, 1 - items / np.maximum(events, 1), np.nan)
        of_user[:, 4:] = _rhythm(personal, of_user[:, 2])
        values[:] = of_user.take(pairs.query, axis=0).T


def _rhythm(personal: PersonalCounts, age: np.ndarray) -> np.ndarray:
    """The last five features of users, [U, 5] float32; age is that of the last event, [U]."""
    query, of_entry = personal.items.row, personal.of_entry
    users = len(age)
    # In doubles: vectorised logarithms of floats can differ in the last bit by their place in the array.
    visits = np.where(np.isnan(age), np.nan, personal.visits).astype(np.float64)
    first = np.zeros(users, np.float32)
    np.maximum.at(first, query, of_entry[AGE] + of_entry[SPAN])
    days = np.bincount(query, weights=of_entry[DAYS], minlength=users)
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
