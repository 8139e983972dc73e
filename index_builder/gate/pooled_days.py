"""Days put together, where one of them has too few users to say anything.

What is pooled are the paired differences of each day as its own run stored them, each day's version
against the one that it was compared with then: that judges how versions are made, not one of them.
A user on a day is the unit. Ids are not kept, so somebody who is there on several days counts
several times. A tenth of the users of each day are held out, drawn anew every day, so that few are;
and what they tell on two days is about two different pairs of versions.

Source of the interval: the mean of n differences has the standard error s / sqrt(n), s their
standard deviation around the mean of all, so that days that differ make it wider.
"""

import math
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import NamedTuple

from index_builder.gate.comparison import ComparedMeasure
from twinspire_core.contracts.gate_verdict import PooledFigures
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
