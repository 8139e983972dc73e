"""Compares a version's measures with its baseline's. The gate's rules read the results. A comparison covers
one day, or several days together if one day has too few users.

Several days are pooled by their paired differences. Each day's run stored the differences of that day's
version from its baseline. So pooling judges how versions are made, not a single version. The unit is a user
on a day. User ids are not stored, so a user who is held out on several days counts several times. Few users
are, because a new tenth of the users is drawn every day.

Source of the interval: the mean of n differences has the standard error s / sqrt(n), where s is their
standard deviation around the mean of all. Differences between days make the interval wider.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any, NamedTuple, Self

from twinspire_core.config.tables.quality import GateConfig
from twinspire_core.contracts.day_metrics import (
    BestMeasures,
    HeldOutMeasures,
    MeasuredDay,
    RankerMeasures,
)
from twinspire_core.contracts.features_report import FeatureSkew
from twinspire_core.contracts.gate_verdict import BestFigures, ComparedFigures, PooledFigures
from twinspire_core.contracts.measures import PairedDifference, PairedDifferences, value_of
from twinspire_core.metrics.measure_names import USERS, key

LEAST_DIFFERENT = 10
"""Users whose two lists differ in result: with fewer, a bootstrap interval is too narrow."""
# Enough users whose two lists differ in result, if the version's list is always the worse one. By a sign
# test, chance does that to one good version in 128.
_ALL_WORSE = 7


class Finding(NamedTuple):
    """A sentence of the verdict, and whether it is a reason to refuse or a note."""

    refuses: bool
    text: str


class ComparedMeasure(ComparedFigures):
    """A measure of the version and of its baseline, to be judged. Its values may be no numbers.

    Attributes:
      name: the measure; in a slice as `recall@50/users:0`.
      worse: number of users for whom the version's list is the worse one.
    """

    name: str
    users: int
    differ: int
    worse: int = 0

    @property
    def slice(self) -> str:
        """The slice, such as `users:0`; empty for all users."""
        return self.name.partition("/")[2]

    @property
    def change_as_text(self) -> str:
        """The change, its interval and its users in brackets."""
        if self.change is None:
            return ""
        span = ""
        if self.low is not None:
            span = f", 95% interval {self.low:+.1%} to {self.high:+.1%}"
        return (
            f" ({self.change:+.1%}{span}; {self.users} users, {self.differ} of them with different"
            " results)"
        )

    def lost(self, allowed: float) -> bool:
        """Whether more than the share `allowed` was lost."""
        return self.change is not None and self.change < -allowed

    @property
    def is_known(self) -> bool:
        """Whether enough users' lists differ, or all that differ are worse."""
        # A bootstrap of few differences is too sure of itself; a sign test is not.
        return self.differ >= LEAST_DIFFERENT or self.worse == self.differ >= _ALL_WORSE

    def surely_lost(self, allowed: float) -> bool:
        """Whether the whole interval is below the allowed loss, and the lists of enough users differ."""
        return self.high is not None and self.high < -allowed and self.is_known

    def figures(self) -> dict[str, Any]:
        """The fields of `ComparedFigures`, as JSON can hold them."""
        return {
            "users": self.users,
            "candidate": finite(self.candidate),
            "baseline": finite(self.baseline),
            "change": finite(self.change),
            "low": finite(self.low),
            "high": finite(self.high),
            # None if nothing was compared: 0 would say that the two lists are alike
            "differ": None if self.change is None else self.differ,
        }


def compare_all(lists: HeldOutMeasures, measure: str) -> ComparedMeasure:
    """Compares a measure of all users."""
    return _compare(lists, measure, lists.users)


def compare_slices(lists: HeldOutMeasures, measure: str) -> list[ComparedMeasure]:
    """Compares the measure in each slice of users for which it was measured."""
    if lists.candidate is None or lists.candidate.slices is None:
        return []
    return [
        _compare(lists, key(measure, USERS, name), measures.users)
        for name, measures in lists.candidate.slices.users.items()
        if measures.value(measure) is not None
    ]


def _compare(lists: HeldOutMeasures, name: str, users: int) -> ComparedMeasure:
    return ComparedMeasure(
        name=name,
        users=users,
        candidate=value_of(lists.candidate, name),
        baseline=value_of(lists.baseline, name),
        **dict(lists.change_of(name)),
    )


def finite(value: float | None) -> float | None:
    """The value as JSON can hold it: None for NaN and infinity."""
    return None if value is None or not math.isfinite(value) else value


MOST_DAYS = 28
"""Most days that are pooled, the day itself included."""
SURE = 1.96
"""Half the width of a 95% interval, in standard errors."""


class PooledMeasure(ComparedMeasure):
    """A measure over the users of several days together.

    Attributes:
      days: how many of them had users.
    """

    days: int

    def figures(self) -> dict[str, Any]:
        """The fields of `PooledFigures`, as JSON can hold them."""
        return {"days": self.days, **super().figures()}


def pool_days(
    days: Mapping[str, PairedDifferences | None],
    day: date,
    measure: str,
    *,
    enough: int | None,
) -> PooledMeasure | None:
    """Puts days together, the newest first.

    Args:
      days: by day, the stored differences; None for a day that has none.
      day: the newest day that counts.
      measure: its name with its list length, such as `recall@50`.
      enough: number of users from which on no older day is added; None for all days.

    Returns: None if there were no users, or if the baselines' measure is 0.
    """
    parts = list[tuple[int, PairedDifference]]()
    users = 0
    for name in sorted(days, reverse=True):
        stored = days[name]
        in_reach = day - timedelta(days=MOST_DAYS) < date.fromisoformat(name) <= day
        if stored and in_reach and measure in stored.by_measure:
            parts.append((stored.users, stored.by_measure[measure]))
            users += stored.users
        if enough is not None and users >= enough:
            break
    # Each user on a day has the same weight, so a day's weight is its number of users
    base = sum(n * pairs.base for n, pairs in parts) / max(1, users)
    if base <= 0:
        return None
    mean = sum(n * pairs.mean for n, pairs in parts) / users
    # Within days and between them: days that differ make the interval wider
    squares = sum((n - 1) * p.deviation**2 + n * (p.mean - mean) ** 2 for n, p in parts)
    error = math.sqrt(squares / max(1, users - 1) / users)
    return PooledMeasure(
        days=len(parts),
        name=measure,
        users=users,
        candidate=base + mean,
        baseline=base,
        change=mean / base,
        low=(mean - SURE * error) / base,
        high=(mean + SURE * error) / base,
        differ=sum(pairs.differ for _, pairs in parts),
    )


class MeasuredUsers(NamedTuple):
    """Users of a day on whom a version can be measured, as they have a history.

    Attributes:
      now: of the day.
      before: of the baseline's day; 0 without a baseline.
      of: all users of the day.
    """

    now: int
    before: int
    of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LineMemory:
    """Measures of the versions in this version's line of parents.

    Attributes:
      day: the version's day.
      best: the best accepted version before it; None if nothing was stored of those.
      line: by day, what was measured of that day's version.
    """

    day: date
    best: BestMeasures | None
    line: Mapping[str, MeasuredDay]

    def since(self, overruled: Collection[str]) -> Self:
        """The days after the newest version that was promoted despite the gate."""
        counted = dict[str, MeasuredDay]()
        for name in sorted(self.line, reverse=True):
            counted[name] = self.line[name]
            # Whoever promoted it accepted the losses before it. If these still counted, every later day would
            # be refused
            if counted[name].against in overruled:
                break
        return replace(self, line=counted)

    def beside_best(self) -> dict[str, PairedDifferences | None]:
        """By day, the differences of that day's version from the best one."""
        version = self.best.version if self.best else None
        differences = dict[str, PairedDifferences | None]()
        for name, day in self.line.items():
            if day.best == version:
                differences[name] = day.beside_best
            # That day's parent was the best version, so the differences from its parent are those.
            elif day.against == version:
                differences[name] = day.two_tower
        return differences

    def pool_newest(self, lists: HeldOutMeasures, gate: GateConfig) -> PooledMeasure | None:
        """The versions of several days against their baselines; None if the day alone has enough
        users, or all days together have too few.
        """
        # With enough users the day is judged by itself.
        if lists.baseline is None or lists.users >= gate.min_users:
            return None
        days = {name: day.two_tower for name, day in self.line.items()}
        pooled = pool_days(days, self.day, gate.metric, enough=gate.min_users)
        return pooled if pooled and pooled.users >= gate.min_users else None


class DaysItems(NamedTuple):
    """How a day's events fit the items that could be recommended, before any training on the day.

    Attributes:
      share: of the items taken, those in the corpus as of the day's start; None if unknown.
      share_before: on the baseline's day.
      best: the gate's measure of the best of all lists, simple ones included; None if unknown.
      best_before: on the baseline's day.
    """

    share: float | None = None
    share_before: float | None = None
    best: float | None = None
    best_before: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedVersion:
    """What the gate's rules judge.

    Attributes:
      two_tower: measures of its lists on held-out users.
      fixed_order: measures of its lists in the fixed order, on users held out of the day itself.
      ranker: measures of lists by trees; None if the pipeline file asks for no ranker.
      memory: measures of earlier versions; None to judge without them.
      index_recall: share of the exact neighbours that the index finds; None if it was not measured.
      items: size of the corpus.
      baseline_items: size of the baseline's corpus.
      measurable: how many users of the day it could be measured on; None if unknown.
      days_items: how the day's events fit the corpus.
      emptied: features without a value on the day, with the examples of the baseline's day that had one.
      unread: features that are missing for the baseline, because the pipeline file changed them.
      skew: how far the served features are from those of the training rows.
    """

    two_tower: HeldOutMeasures
    fixed_order: HeldOutMeasures = field(default_factory=HeldOutMeasures)
    ranker: RankerMeasures | None = None
    memory: LineMemory | None = None
    index_recall: float | None
    items: int
    baseline_items: int | None
    measurable: MeasuredUsers | None = None
    days_items: DaysItems = field(default_factory=DaysItems)
    emptied: Mapping[str, int] = field(default_factory=dict)
    unread: Sequence[str] = ()
    skew: Sequence[FeatureSkew] = ()


class BestComparison(NamedTuple):
    """A version against the best accepted one.

    Attributes:
      best: the best accepted version, with its measures.
      compared: on held-out users of the day, and of days before if these are few.
      pooled: the versions of several days against the same best one; None for a single day.
    """

    best: BestMeasures
    compared: ComparedMeasure
    pooled: PooledMeasure | None

    def figures(self) -> BestFigures:
        """As JSON can hold them."""
        return BestFigures(
            version=self.best.version,
            ahead=self.best.ahead,
            pooled=PooledFigures(**self.pooled.figures()) if self.pooled else None,
            **self.compared.figures(),
        )


def compare_with_best(
    two_tower: HeldOutMeasures, memory: LineMemory | None, metric: str
) -> BestComparison | None:
    """Compares a version with the best accepted one; None if the best one is its baseline or is unknown."""
    best = memory.best if memory else None
    if memory is None or best is None or best.measures is None:
        return None
    lists = HeldOutMeasures(
        users=two_tower.users,
        candidate=two_tower.candidate,
        baseline=best.measures,
        change=best.change,
    )
    # All days since the best one: daily losses that are too small to be seen add up
    pooled = pool_days(memory.beside_best(), memory.day, metric, enough=None)
    several = pooled if pooled and pooled.days > 1 else None
    return BestComparison(best, compare_all(lists, metric), several)
