"""Splits into training and test data: the cases of the benchmark, on test days and on earlier days.

A log has many test days. A split is one training, with the test days that it serves: cheap contenders are
trained for each day, costly ones once for several days. Settings are chosen on the earlier days, never on
test days.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl

WEEK = 7
LOOKBACK = 280
"""Days of events for contenders, the same as `window.personal_days` of the groceries' pipeline file."""
MOST = 20_000
"""Most queries of a case. If there are more, those with the smallest hashes are kept."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Queries of one day for all contenders of a split.

    Attributes:
      name: unique in a split, such as `groceries/next-day 2017-11-06`.
      frozen: whether there is one query per user, as of the start of the day; else one per event, as of
        just before it.
      wanted: the true items: `_user`, `_item`, and `_time` (microseconds since 1970, UTC), which is the
        time of queries that are not frozen; these also have further columns of the event.
      day: the first test day; by default the day after the last training day.
    """

    name: str
    frozen: bool
    wanted: pl.DataFrame
    day: date | None = None

    @property
    def series(self) -> str:
        """The name without the day: `groceries/next-day`."""
        return self.name.split(" ")[0]

    @property
    def context(self) -> list[str]:
        """Query features of the events: columns of `wanted` with the names of requests."""
        return [name for name in self.wanted.columns if not name.startswith("_")]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Training days, and queries of the days after them.

    Attributes:
      name: name of the log.
      file: its pipeline file.
      last: the last training day.
      first: the day of the first version of the chain that serves this split's days.
      asked: the last day with queries as of an event, if there are any.
      settings: overrides of the pipeline file for all contenders: paths, windows.
      events: the log's events up to the last test day: `_user`, `_item`, `_time` (microseconds, UTC) and
        `_day` (of the log's zone).
      items: ids of the catalogue; None for the items with recent events.
      most: most queries of a case.
    """

    name: str
    file: Path
    last: date
    first: date
    asked: date | None = None
    settings: Mapping[str, Any]
    cases: tuple[Case, ...]
    events: pl.DataFrame = field(default_factory=pl.DataFrame)
    items: pl.Series | None = None
    most: int = MOST


@dataclass(frozen=True, kw_only=True)
class Log:
    """A log and its cases. Other attributes are those of `Split`.

    Attributes:
      test: days to compare on.
      earlier: days to choose settings on.
      cases: makes the cases of a day.
      weekly: whether costly contenders are trained only once a week.
      chained: number of days before the first test day on which a chain of versions begins.
    """

    name: str
    file: Path
    settings: Mapping[str, Any]
    events: pl.DataFrame
    items: pl.Series | None
    test: Sequence[date]
    earlier: Sequence[date]
    cases: Callable[[date], Iterable[Case]]
    weekly: bool = True
    chained: int = 1
    most: int = MOST

    def splits(self, *, earlier: bool, costly: bool, most: int | None = None) -> list[Split]:
        """The splits, one training after the other.

        Args:
          earlier: whether to use the earlier days instead of the test days.
          costly: whether the splits are for contenders with a long training.
          most: most days, the first ones; None for all.
        """
        asked = list(self.earlier if earlier else self.test)[:most]
        parts = [[day] for day in asked]
        if costly and self.weekly:
            parts = list(_weeks(asked))
        begin = None if earlier else asked[0] - timedelta(days=self.chained)
        return [self._split(part, begin) for part in parts]

    def _split(self, asked: Sequence[date], begin: date | None) -> Split:
        last = asked[0] - timedelta(days=1)
        cases = tuple(case for day in asked for case in self.cases(day))
        as_of_events = [case for case in cases if not case.frozen and len(case.wanted)]
        is_known = pl.col("_day") < asked[-1]
        for case in as_of_events:
            is_known |= pl.col("_time") <= case.wanted["_time"].max()
        return Split(
            name=self.name,
            file=self.file,
            last=last,
            first=begin or last,  # earlier days are far apart
            asked=_last_day(as_of_events, self.events) if as_of_events else None,
            settings=self.settings,
            cases=cases,
            events=self.events.filter(is_known),
            items=self.items,
            most=self.most,
        )


def _last_day(cases: Iterable[Case], events: pl.DataFrame) -> date:
    """The last day of cases as of events."""
    moment = max(case.wanted["_time"].max() for case in cases)  # type: ignore[type-var]
    last: date = events.filter(pl.col("_time") == moment)["_day"].max()  # type: ignore[assignment]
    return last


def _weeks(asked: Sequence[date]) -> Iterable[list[date]]:
    """Runs of consecutive days, at most a week long."""
    part = list(asked[:1])
    for before, day in pairwise(asked):
        if day - before != timedelta(days=1) or len(part) == WEEK:
            yield part
            part = []
        part.append(day)
    if part:
        yield part
