"""The gate's rule on the lead (model/evaluation/popularity_lift.py): how a version does beside a
list that saw the same day as it did.

A version's baseline saw nothing of the day, so on a log that changes by the day even half a version
may beat it. The lead has no such help, and is compared with the leads of the versions before:
refused when it is both

    far below   more than `gate.max_lead_drop` below their median
    surely      its whole interval is below the least of them: days differ too, as these tell

A mix has no such rule. Its weights are fitted for a two-tower that is a day old, beside sources
that never saw the day; its lead tells how much the former counts in it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from index_builder.gate.comparison import LEAST_DIFFERENT, Finding, Pair, finite
from twinspire_core.config.tables.quality import GateConfig

LEAST_BEFORE = 3
"""Versions before whose leads must be known."""


class PopularityLift(NamedTuple):
    """The lead of a version in a measure; None where something was not measured.

    Attributes:
      lead: the version's measure over that of `popular_today`.
      low, high: its interval.
      popular_today: the measure of that list.
      differ: users whose two lists differ in the measure.
      before: leads of the versions before, the oldest first.
    """

    lead: float | None
    low: float | None
    high: float | None
    popular_today: float | None
    differ: int
    before: Sequence[float]

    @classmethod
    def of(cls, pair: Pair, measure: str) -> "PopularityLift":
        """Reads it."""
        told: Mapping[str, float] = (pair.lead or {}).get(measure) or {}
        lead, low, high, theirs = (
            told.get(name) for name in ("lead", "low", "high", "popular_today")
        )
        before = [
            leads[measure]
            for leads in pair.leads_before
            if math.isfinite(leads.get(measure, math.nan))
        ]
        return cls(lead, low, high, theirs, int(told.get("differ", 0)), before)

    def figures(self) -> dict[str, Any] | None:
        """As JSON can hold them; None where there is no lead."""
        if self.lead is None:
            return None
        numbers = {
            name: finite(getattr(self, name)) for name in ("lead", "low", "high", "popular_today")
        }
        return {**numbers, "differ": self.differ, "before": list(self.before)}


def judge_popularity_lift(pair: Pair, gate: GateConfig) -> Iterator[Finding]:
    """Compares the two-tower's lead with those of the versions before; notes what cannot be
    compared.

    Of too few users, or of a first version, the comparison with the baseline has said so.
    """
    led = PopularityLift.of(pair, gate.metric)
    if gate.max_lead_drop >= 1 or pair.users < gate.min_users or pair.baseline is None:
        return
    if led.lead is None:
        needed = f"it takes gate.min_users = {gate.min_users} held-out users of the day itself"
        yield Finding(
            False,
            f"its lead over popular_today was not measured: {needed}, of whom that list finds some",
        )
    elif len(led.before) < LEAST_BEFORE:
        known = f"of {len(led.before)} versions before it is known, {LEAST_BEFORE} are needed"
        yield Finding(
            False, f"its lead over popular_today, {led.lead:.2f}, is not compared: {known}"
        )
    elif led.lead < (1 - gate.max_lead_drop) * median(led.before):
        sure = led.high is not None and led.high < min(led.before) and led.differ >= LEAST_DIFFERENT
        yield Finding(sure, _told(led, pair, gate) + ("" if sure else "; this may be chance"))


def _told(led: PopularityLift, pair: Pair, gate: GateConfig) -> str:
    least, most, typical = min(led.before), max(led.before), median(led.before)
    span = f" (95%: {led.low:.2f} to {led.high:.2f})" if led.low is not None else ""
    limit = f"gate.max_lead_drop = {gate.max_lead_drop:g} below their median of {typical:.2f}"
    return (
        f"{gate.metric} is {led.lead:.2f} times the {led.popular_today:.4f} of popular_today{span}"
        f" over {pair.users} users, {led.differ} of whom fare differently; of the {len(led.before)}"
        f" versions before it was {least:.2f} to {most:.2f} times, and more than {limit} is refused"
    )
