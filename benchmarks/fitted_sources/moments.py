"""What was known at the start of a day of a log, as the feature job would tell it to sources."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from beam_jobs.point_in_time import co_occurrence
from twinspire_core.contracts.feature_schema import PERSONAL_HALF_LIVES, TRENDING_HALF_LIVES
from twinspire_core.search.ragged import Ragged, list_ranges
from twinspire_core.sources.past import most_frequent_first
from twinspire_core.sources.personal_counts import PersonalCounts
from twinspire_core.sources.queries import Queries
from twinspire_core.sources.sequences import Sequences

DAY = 86_400_000_000
_BASKET = 50
_NEIGHBOURS = 50


@dataclass(frozen=True, kw_only=True)
class Log:
    """Events sorted by user and time: numbers of users and items, microseconds, days since 1970."""

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    session: np.ndarray | None
    items: int

    @classmethod
    def of(cls, events: pl.DataFrame) -> "Log":
        """Of `u`, `i`, `t` (microseconds of the local clock), and `s` if there are sessions."""
        events = events.unique(["u", "i", "t"], maintain_order=True).sort("u", "t", "i")
        _, user = np.unique(events["u"].to_numpy(), return_inverse=True)
        names, item = np.unique(events["i"].to_numpy(), return_inverse=True)
        session = events["s"].to_numpy() if "s" in events.columns else None
        return cls(
            user=user, item=item, time=events["t"].to_numpy(), session=session, items=len(names)
        )

    @property
    def day(self) -> np.ndarray:
        """Days since 1970."""
        return self.time // DAY


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is measured.

    Attributes:
      log: the events.
      fitted: moments, as days since 1970, of the queries that weights and constants are fitted on.
      tested: moments of those that are measured.
      days: windows in days: of histories, of personal counts and sequences, of counts, and of
        co-occurrence; and how recent an event of a listed item must be, if that matters.
      ask: the queries of a moment: event by event, up to which, without, a user's past is known;
        and what was taken.
      exclude_seen: whether the past is left out of lists.
    """

    log: Log
    fitted: tuple[int, ...]
    tested: tuple[int, ...]
    history_days: int
    personal_days: int
    count_days: int
    train_days: int
    corpus_days: int | None
    ask: Callable[[Log, int], "Asked"]
    exclude_seen: bool = False


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Q queries: events `low` up to, without, `high` are the past.

    Attributes:
      low: [Q] int64.
      high: [Q] int64.
      now: [Q] int64, microseconds.
      user: [Q] int64.
      truth: Q lists of items.
    """

    low: np.ndarray
    high: np.ndarray
    now: np.ndarray
    user: np.ndarray
    truth: Ragged


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What is known at the start of a day, and what is asked. Items are positions in the corpus,
    which has all items of the log; those that may not be listed do not pass.
    """

    case: Case
    now: int
    asked: Asked

    @classmethod
    def of(cls, case: Case, day: int) -> "Moment":
        """The moment at the start of a day."""
        return cls(case=case, now=day * DAY, asked=case.ask(case.log, day))

    def window(self, days: int) -> np.ndarray:
        """Numbers of the events of the last days before the moment."""
        time = self.case.log.time
        return np.flatnonzero((time < self.now) & (time >= self.now - days * DAY))

    @cached_property
    def passing(self) -> np.ndarray:
        """[C] bool, what may be listed."""
        if self.case.corpus_days is None:
            return np.ones(self.case.log.items, bool)
        passing = np.zeros(self.case.log.items, bool)
        passing[self.case.log.item[self.window(self.case.corpus_days)]] = True
        return passing

    @cached_property
    def corpus(self) -> pa.Table:
        """The columns of `corpus/start` that sources read."""
        log = self.case.log
        columns: dict[str, Any] = {"_item": [f"{n:08d}" for n in range(log.items)]}
        for name, days in (("_popular", self.case.count_days), ("_lately", 1)):
            columns[name] = np.bincount(log.item[self.window(days)], minlength=log.items)
        events = self.window(max(self.case.count_days, self.case.history_days))
        age = (self.now - log.time[events]) / DAY
        for name, half_life in TRENDING_HALF_LIVES.items():
            columns[name] = np.bincount(log.item[events], np.exp2(-age / half_life), log.items)
        return pa.table(columns)

    @cached_property
    def sequences(self) -> Sequences:
        """What fitted sources are made of."""
        log = self.case.log
        events = self.window(self.case.personal_days)[::-1]
        ages = ((self.now - log.time[events]) / DAY).astype(np.float32)
        _, user = np.unique(-log.user[events], return_inverse=True)
        return Sequences(Ragged(log.item[events], user, int(user.max()) + 1), ages)

    @cached_property
    def co_occurrence(self) -> pa.Table:
        """As the feature job counts it."""
        log = self.case.log
        events = self.window(self.case.train_days)
        pair = log.user[events] * log.items + log.item[events]
        last = len(pair) - 1 - np.unique(pair[::-1], return_index=True)[1]
        last = np.sort(last)
        user, item = log.user[events][last], log.item[events][last]
        starts = np.flatnonzero(np.diff(user, prepend=-1))
        sizes = np.diff(starts, append=len(user))
        kept = np.arange(len(user)) >= np.repeat(starts + np.maximum(sizes - _BASKET, 0), sizes)
        user, item = user[kept], item[kept]
        counted = co_occurrence.pairs(user, item, range(log.items), log.items)
        users = np.bincount(item, minlength=log.items)
        row = np.where(self.passing, np.arange(log.items), -1)
        near = co_occurrence.nearest(counted, users, row, _NEIGHBOURS)
        table = near.to_arrow()
        ids = pa.array([f"{n:08d}" for n in table["item"].to_pylist()])
        return table.drop_columns("item").append_column("_item", ids)

    @cached_property
    def queries(self) -> Queries:
        """What the queries tell sources."""
        log = self.case.log
        asked = self.asked
        past = _spans(asked.low, asked.high)
        recent = past.where(
            log.time[past.values] >= asked.now[past.row] - self.case.history_days * DAY
        )
        return Queries(
            past=most_frequent_first(recent._replace(values=log.item[recent.values])),
            events=recent.lengths,
            personal=self._personal(past),
        )

    def _personal(self, past: Ragged) -> PersonalCounts:
        log = self.case.log
        age = (self.asked.now[past.row] - log.time[past.values]) / DAY
        kept = age <= self.case.personal_days
        row, item, age = past.row[kept], log.item[past.values][kept], age[kept]
        pair, inverse = np.unique(row * log.items + item, return_inverse=True)
        last = np.full(len(pair), np.inf)
        np.minimum.at(last, inverse, age)
        counts = {
            name.removeprefix("_personal_"): np.bincount(
                inverse, np.exp2(-age / half_life), len(pair)
            ).astype(np.float32)
            for name, half_life in PERSONAL_HALF_LIVES.items()
        }
        row, item = np.divmod(pair, log.items)
        order = np.lexsort((last, -counts["60d"], row))
        return PersonalCounts(
            entries=Ragged(np.arange(len(order)), row[order], past.rows),
            item=item[order],
            counts={name: values[order] for name, values in counts.items()},
            age=last[order].astype(np.float32),
        )


def _spans(low: np.ndarray, high: np.ndarray) -> Ragged:
    return Ragged.of_lengths(list_ranges(low, high - low), high - low)
