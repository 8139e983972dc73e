"""Figures of a version beside its baseline's, as the gate judges them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from twinspire_core.metrics.measure_names import USERS, key, part

Measures = Mapping[str, Any]

LEAST_DIFFERENT = 10
"""Users whose two lists fare differently: of fewer, a bootstrap interval claims more than is
known.
"""


class Finding(NamedTuple):
    """A sentence of the verdict, and whether it is a reason to refuse or a note."""

    refuses: bool
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Lists of one make by the version and by its baseline, measured on the same users held out of
    training.

    Attributes:
      candidate: measures of the version, None where it has no such lists or there was nobody to
        ask.
      baseline: measures of the newest accepted version before, None on the first day.
      change: how the former differs from the latter, by measure, as
        `model.evaluation.evaluate.compare` tells it.
      lead: how far the version is ahead of what was popular on the day, by measure, as
        `model.evaluation.popularity_lift.measure_lift` tells it.
      leads_before: the leads of the versions before, by measure, the oldest first.
      users: how many users were asked.
    """

    candidate: Measures | None
    baseline: Measures | None
    change: Mapping[str, Mapping[str, float]] | None = None
    lead: Mapping[str, Mapping[str, float]] | None = None
    leads_before: Sequence[Mapping[str, float]] = ()
    users: int

    def compared(self, measure: str) -> "Compared":
        """A measure of all users."""
        return self._compared(measure, self.users)

    def slices(self, measure: str) -> "list[Compared]":
        """The measure of each slice of users that has any, as far as there is one."""
        found = ((self.candidate or {}).get("slices") or {}).get(USERS) or {}
        return [
            self._compared(key(measure, USERS, n), x["users"])
            for n, x in found.items()
            if measure in x
        ]

    def _compared(self, name: str, users: int) -> "Compared":
        told = (self.change or {}).get(name) or {}
        change, low, high = (told.get(x) for x in ("change", "low", "high"))
        candidate, baseline = figure(self.candidate, name), figure(self.baseline, name)
        return Compared(
            name, users, candidate, baseline, change, low, high, int(told.get("differ", 0))
        )


class Compared(NamedTuple):
    """A measure of the version and of its baseline; None where something was not measured.

    Attributes:
      name: of the measure; of that of a slice as in `recall@50/users:0`.
      users: whom it applies to.
      change: relative, -.1 for a tenth less.
      low, high: its interval.
      differ: users whose two lists differ in the measure.
    """

    name: str
    users: int
    candidate: float | None
    baseline: float | None
    change: float | None
    low: float | None
    high: float | None
    differ: int

    @property
    def slice(self) -> str:
        """Of which slice it is: `users:0`; empty for all."""
        return self.name.partition("/")[2]

    @property
    def told(self) -> str:
        """The change with its interval and its users, to end a sentence with."""
        if self.change is None:
            return ""
        span = f" (95%: {self.low:+.1%} to {self.high:+.1%})" if self.low is not None else ""
        return (
            f": a change of {self.change:+.1%}{span} over {self.users} users, {self.differ} of whom"
            " fare differently"
        )

    def figures(self) -> dict[str, Any]:
        """As JSON can hold them."""
        told = {name: finite(value) for name, value in self._asdict().items() if name != "name"}
        return told if self.change is not None else {**told, "differ": None}


def figure(measures: Measures | None, name: str) -> float | None:
    """A measure, that of a slice too, or None if there is none."""
    where, measure = part(measures, name)
    value = where.get(measure)
    return None if value is None else float(value)


def finite(value: float | None) -> float | None:
    """The value as JSON can hold it."""
    return value if value is not None and math.isfinite(value) else None
