"""What is trained on, and what is to be found: the cases of the benchmark, each on its test days
and on earlier ones.

A log has many test days, and a split is one training with the days that it answers: cheap
contenders are trained for each day, costly ones once for several. Settings of contenders are
chosen on the earlier days, never on the test days.
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
"""Days of events that contenders are given, as `window.personal_days` of the groceries' pipeline file."""
MOST = 20_000
"""The most queries of a case: beyond so many, those whose hash comes first."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Queries of one day that are put to every contender trained on a split.

    Attributes:
      name: `groceries/next-day 2017-11-06`; no other case of a split has it.
      frozen: one query per user, as things stood at the start of the day; else one per event, as
        they stood just before.
      wanted: what is to be found: `_user`, `_item`, and `_time` (microseconds since 1970, UTC),
        which queries that are not frozen are asked at; with these also what else was known then.
      day: the day asked about, or the first; by default that after the last one trained on.
    """

    name: str
    frozen: bool
    wanted: pl.DataFrame
    day: date | None = None

    @property
    def of(self) -> str:
        """The case of the benchmark that it is a day of: `groceries/next-day`."""
        return self.name.split(" ")[0]

    @property
    def context(self) -> list[str]:
        """Query features of the events to be found, columns of `wanted` as requests name them."""
        return [name for name in self.wanted.columns if not name.startswith("_")]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Days to train on, and queries of the days after them.

    Attributes:
      name: of the log.
      file: its pipeline file.
      last: the last day trained on.
      first: the day of the first version of a chain that answers on this split's days.
      asked: the last day that queries as of an event are taken from, if there are any.
      settings: of the pipeline file, put over it for every contender: places, windows.
      cases: what is asked.
      events: of the log, up to the last day asked about: `_user`, `_item`, `_time` (microseconds,
        UTC) and `_day` (of the log's zone).
      items: ids of the catalogue; None where it is what had events lately.
      most: queries of a case that are kept.
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
    """A log, laid out, and how days of it are asked about.

    Attributes:
      name: of the log.
      file: its pipeline file.
      settings: as in `Split`.
      events: as in `Split`.
      items: as in `Split`.
      test: days to compare on.
      earlier: days to choose on.
      cases: of one day.
      weekly: whether costly contenders are trained once a week only.
      chained: how many days before the first test day a chain of versions begins.
      most: as in `Split`.
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
        """One training after the other.

        Args:
          earlier: of the days that are chosen on, not of the test days.
          costly: for contenders whose training takes long.
          most: days, the first ones; None is all.
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
        known = pl.col("_day") < asked[-1]
        for case in as_of_events:
            known |= pl.col("_time") <= case.wanted["_time"].max()
        return Split(
            name=self.name,
            file=self.file,
            last=last,
            first=begin or last,  # earlier days lie far apart
            asked=_last_day(as_of_events, self.events) if as_of_events else None,
            settings=self.settings,
            cases=cases,
            events=self.events.filter(known),
            items=self.items,
            most=self.most,
        )


def _last_day(cases: Iterable[Case], events: pl.DataFrame) -> date:
    """The last day that cases of events ask about."""
    moment = max(case.wanted["_time"].max() for case in cases)  # type: ignore[type-var]
    last: date = events.filter(pl.col("_time") == moment)["_day"].max()  # type: ignore[assignment]
    return last


def _weeks(asked: Sequence[date]) -> Iterable[list[date]]:
    """Runs of days that follow each other, a week long at most."""
    part = list(asked[:1])
    for before, day in pairwise(asked):
        if day - before != timedelta(days=1) or len(part) == WEEK:
            yield part
            part = []
        part.append(day)
    if part:
        yield part
