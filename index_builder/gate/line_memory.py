"""What the gate knows of the versions before, along the line of parents; and days put together, where
one of them has too few users to say anything.

What is pooled are the paired differences of each day as its own run stored them, each day's version
against the one that it was compared with then: that judges how versions are made, not one of them.
A user on a day is the unit. Ids are not kept, so somebody who is there on several days counts
several times. A tenth of the users of each day are held out, drawn anew every day, so that few are;
and what they tell on two days is about two different pairs of versions.

Source of the interval: the mean of n differences has the standard error s / sqrt(n), s their
standard deviation around the mean of all, so that days that differ make it wider.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import NamedTuple, Self

from index_builder.gate.comparison import ComparedMeasure, compare_all
from twinspire_core.config.tables.gate import GateConfig
from twinspire_core.contracts.day_metrics import BestMeasures, HeldOutMeasures, MeasuredDay
from twinspire_core.contracts.gate_verdict import BestFigures, PooledFigures
from twinspire_core.contracts.measures import PairedDifferences

MOST_DAYS = 28
"""Days that are pooled at the most, the day itself among them."""
SURE = 1.96
"""Standard errors to either side of a mean that a 95% interval reaches."""


class PooledDays(NamedTuple):
    """Several days together.

    Attributes:
      days: how many had users.
      compared: the measure, of all their users.
    """

    days: int
    compared: ComparedMeasure

    def figures(self) -> PooledFigures:
        """As JSON can hold them."""
        return PooledFigures(days=self.days, **self.compared.figures())

    @property
    def where(self) -> str:
        """Of whom it is, for a sentence."""
        return f"{self.compared.users} users of {self.days} days put together"


def pool_days(
    days: Mapping[str, PairedDifferences | None],
    day: date,
    measure: str,
    *,
    enough: int | None,
    sure: float = SURE,
) -> PooledDays | None:
    """Puts days together, the newest first.

    Args:
      days: by day, what was stored; None or nothing where there is nothing to pool.
      day: the newest of them.
      measure: such as `recall@50`.
      enough: users at which no older day is added; None for all days.
      sure: standard errors to either side that the interval reaches.

    Returns: None where nobody was asked, or where the other lists found nothing.
    """
    oldest = day - timedelta(days=MOST_DAYS - 1)
    parts = list[tuple[int, float, float, float, int]]()
    users = 0
    for name in sorted(days, reverse=True):
        stored = days[name]
        found = stored.by_measure.get(measure) if stored else None
        if not oldest <= date.fromisoformat(name) <= day or stored is None or found is None:
            continue
        parts.append((stored.users, found.mean, found.base, found.deviation, found.differ))
        users += stored.users
        if enough is not None and users >= enough:
            break
    if users == 0:
        return None
    base = sum(n * base for n, _, base, _, _ in parts) / users
    if base <= 0:
        return None
    mean = sum(n * mean for n, mean, *_ in parts) / users
    error = _standard_error(((n, m, deviation) for n, m, _, deviation, _ in parts), mean, users)
    return PooledDays(
        days=len(parts),
        compared=ComparedMeasure(
            name=measure,
            users=users,
            candidate=base + mean,
            baseline=base,
            change=mean / base,
            low=(mean - sure * error) / base,
            high=(mean + sure * error) / base,
            differ=sum(differ for *_, differ in parts),
        ),
    )


def _standard_error(parts: Iterable[tuple[int, float, float]], mean: float, users: int) -> float:
    """Of the mean of all differences, from users, mean and deviation of each day."""
    squares = 0.0
    for n, of_day, deviation in parts:
        squares += (n - 1) * deviation**2 + n * (of_day - mean) ** 2
    return math.sqrt(squares / max(1, users - 1) / users)


@dataclass(frozen=True, slots=True, kw_only=True)
class LineMemory:
    """What is remembered of the line that a version goes on.

    Attributes:
      day: the version's.
      best: the best accepted version before; None where the line is not remembered.
      line: by day.
    """

    day: date
    best: BestMeasures | None
    line: Mapping[str, MeasuredDay]

    def since(self, overruled: Collection[str]) -> Self:
        """What counts where somebody promoted versions despite the gate: the days after the newest
        of them. The losses before were accepted with it, and would otherwise be held against every
        later day.
        """
        kept = dict[str, MeasuredDay]()
        for name in sorted(self.line, reverse=True):
            kept[name] = self.line[name]
            if kept[name].against in overruled:
                break
        return replace(self, line=kept)

    def beside_best(self) -> dict[str, PairedDifferences | None]:
        """By day, the line's version of that day beside the best one."""
        version = self.best.version if self.best else None
        found = dict[str, PairedDifferences | None]()
        for name, one in self.line.items():
            if one.best == version:
                found[name] = one.beside_best
            elif one.against == version:
                found[name] = one.two_tower
        return found

    def pool_newest(self, lists: HeldOutMeasures, gate: GateConfig) -> PooledDays | None:
        """The line's versions beside their baselines, where held-out users of the day and of days
        before are too few; None where they are enough, or are too few together, too.
        """
        if lists.baseline is None or lists.users >= gate.min_users:
            return None
        days = {name: one.two_tower for name, one in self.line.items()}
        pooled = pool_days(days, self.day, gate.metric, enough=gate.min_users)
        return pooled if pooled and pooled.compared.users >= gate.min_users else None


class BestComparison(NamedTuple):
    """A version beside the best accepted one.

    Attributes:
      best: the latter.
      compared: on held-out users of the day, and if they are few of days before.
      pooled: the line beside the same best version, several days together; None of a single day.
    """

    best: BestMeasures
    compared: ComparedMeasure
    pooled: PooledDays | None

    def figures(self) -> BestFigures:
        """As JSON can hold them."""
        return BestFigures(
            version=self.best.version,
            ahead=self.best.ahead,
            pooled=self.pooled.figures() if self.pooled else None,
            **self.compared.figures(),
        )


def compare_with_best(
    two_tower: HeldOutMeasures, memory: LineMemory | None, metric: str
) -> BestComparison | None:
    """Compares a version with the best accepted one; None where that is its baseline, or none is
    known.
    """
    best = memory.best if memory else None
    if memory is None or best is None or best.measures is None:
        return None
    lists = HeldOutMeasures(
        users=two_tower.users,
        candidate=two_tower.candidate,
        baseline=best.measures,
        change=best.change,
    )
    pooled = pool_days(memory.beside_best(), memory.day, metric, enough=None)
    several = pooled if pooled and pooled.days > 1 else None
    return BestComparison(best, compare_all(lists, metric), several)
