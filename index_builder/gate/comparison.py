"""A version's measures beside its baseline's, as the gate judges them."""

import math
from typing import Any, NamedTuple

from twinspire_core.contracts.day_metrics import HeldOutMeasures
from twinspire_core.contracts.measures import value_of
from twinspire_core.metrics.measure_names import USERS, key

LEAST_DIFFERENT = 10
"""Users whose two lists fare differently: of fewer, a bootstrap interval claims more than is
known.
"""
ALL_WORSE = 7
"""Users whose two lists fare differently, of whom all fare worse: so many are enough, as chance alone
does that to one good version of 128 (a sign test).
"""


class Finding(NamedTuple):
    """A sentence of the verdict, and whether it is a reason to refuse or a note."""

    refuses: bool
    text: str


class ComparedMeasure(NamedTuple):
    """A measure of the version and of its baseline; None where something was not measured.

    Attributes:
      name: of the measure; of that of a slice as in `recall@50/users:0`.
      users: whom it applies to.
      candidate: of the version.
      baseline: of its baseline.
      change: relative, -.1 for a tenth less.
      low, high: its interval.
      differ: users whose two lists differ in the measure.
      worse: those of them whose list of the version is the worse one.
    """

    name: str
    users: int
    candidate: float | None
    baseline: float | None
    change: float | None
    low: float | None
    high: float | None
    differ: int
    worse: int = 0

    @property
    def slice(self) -> str:
        """Of which slice it is: `users:0`; empty for all."""
        return self.name.partition("/")[2]

    @property
    def change_as_text(self) -> str:
        """The change with its interval and its users, to end a sentence with."""
        if self.change is None:
            return ""
        span = f" (95%: {self.low:+.1%} to {self.high:+.1%})" if self.low is not None else ""
        return (
            f": a change of {self.change:+.1%}{span} over {self.users} users, {self.differ} of whom"
            " fare differently"
        )

    @property
    def is_measured(self) -> bool:
        """Whether the version's own measure is a number."""
        return finite(self.candidate) is not None

    def lost(self, allowed: float) -> bool:
        """Whether more than a share was lost."""
        return self.change is not None and self.change < -allowed

    @property
    def is_known(self) -> bool:
        """Whether enough users' lists differ, or all that differ are worse."""
        return self.differ >= LEAST_DIFFERENT or self.worse == self.differ >= ALL_WORSE

    def surely_lost(self, allowed: float) -> bool:
        """Whether all of the interval says so, of enough users whose lists differ."""
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
            # 0 would say that the two lists are alike
            "differ": None if self.change is None else self.differ,
        }


def compare_all(lists: HeldOutMeasures, measure: str) -> ComparedMeasure:
    """Compares a measure of all users."""
    return _compare(lists, measure, lists.users)


def compare_slices(lists: HeldOutMeasures, measure: str) -> list[ComparedMeasure]:
    """Compares the measure of each slice of users in which it was taken."""
    if lists.candidate is None or lists.candidate.slices is None:
        return []
    return [
        _compare(lists, key(measure, USERS, name), found.users)
        for name, found in lists.candidate.slices.users.items()
        if found.value(measure) is not None
    ]


def _compare(lists: HeldOutMeasures, name: str, users: int) -> ComparedMeasure:
    change = lists.change_of(name)
    return ComparedMeasure(
        name=name,
        users=users,
        candidate=value_of(lists.candidate, name),
        baseline=value_of(lists.baseline, name),
        change=change.change,
        low=change.low,
        high=change.high,
        differ=change.differ,
        worse=change.worse,
    )


def finite(value: float | None) -> float | None:
    """The value as JSON can hold it."""
    if value is None or not math.isfinite(value):
        return None
    return value
