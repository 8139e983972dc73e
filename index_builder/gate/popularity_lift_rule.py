"""The gate's rule on the lead (model/evaluation/popularity_lift.py): how a version does beside a
list that saw the same day as it did.

A version's baseline saw nothing of the day, so on a log that changes by the day even half a version
may beat it. The lead has no such help, and is compared with the leads of the versions before:
refused when it is both

    far below   more than `gate.max_lead_drop` below their median
    surely      its whole interval is below the least of them: days differ too, as these tell

The fixed order has no such rule: its other sources never saw the day.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import NamedTuple

from index_builder.gate.comparison import LEAST_DIFFERENT, Finding, finite
from twinspire_core.config.tables.gate import GateConfig
from twinspire_core.contracts.day_metrics import HeldOutMeasures, PopularityLift
from twinspire_core.contracts.gate_verdict import LiftFigures

LEAST_BEFORE = 3
"""Versions before whose leads must be known."""


class LiftOfLine(NamedTuple):
    """The lead of a version in a measure, and those of the versions before it in its line.

    Attributes:
      own: of the version.
      before: of the versions before, the oldest first.
    """

    own: PopularityLift
    before: Sequence[float]

    def figures(self) -> LiftFigures | None:
        """As JSON can hold them; None where there is no lead."""
        own = self.own
        if own.lead is None:
            return None
        return LiftFigures(
            lead=finite(own.lead),
            low=finite(own.low),
            high=finite(own.high),
            popular_today=finite(own.popular_today),
            differ=own.differ,
            before=self.before,
        )


def lift_of_line(
    two_tower: HeldOutMeasures, lifts_before: Sequence[Mapping[str, float]], measure: str
) -> LiftOfLine:
    """Finds the leads in a measure.

    Args:
      two_tower: its lists on held-out users.
      lifts_before: leads of the versions before, by measure, the oldest first.
      measure: such as `recall@50`.
    """
    known = (lifts[measure] for lifts in lifts_before if measure in lifts)
    return LiftOfLine(two_tower.lift_of(measure), list(filter(math.isfinite, known)))


def judge_popularity_lift(
    two_tower: HeldOutMeasures, lifts_before: Sequence[Mapping[str, float]], gate: GateConfig
) -> Iterator[Finding]:
    """Compares the two-tower's lead with those of the versions before; notes what cannot be
    compared.

    Args:
      two_tower: its lists on held-out users.
      lifts_before: leads of the versions before, by measure, the oldest first.
      gate: the limit, and the measure that it is of.
    """
    # Of too few users, or of a first version, the comparison with the baseline has said so.
    too_few = two_tower.users < gate.min_users
    if gate.max_lead_drop >= 1 or too_few or two_tower.baseline is None:
        return
    lift = lift_of_line(two_tower, lifts_before, gate.metric)
    own, before = lift
    if own.lead is None:
        needed = f"it takes gate.min_users = {gate.min_users} held-out users of the day itself"
        yield Finding(
            False,
            f"its lead over popular_today was not measured: {needed}, of whom that list finds some",
        )
    elif len(before) < LEAST_BEFORE:
        known = f"of {len(before)} versions before it is known, {LEAST_BEFORE} are needed"
        yield Finding(
            False, f"its lead over popular_today, {own.lead:.2f}, is not compared: {known}"
        )
    elif own.lead < (1 - gate.max_lead_drop) * median(before):
        # Days differ too: what lies inside the range of those before is no proof
        below_all = own.high is not None and own.high < min(before)
        sure = below_all and own.differ >= LEAST_DIFFERENT
        text = _drop_as_text(lift, two_tower.users, gate)
        yield Finding(sure, text if sure else f"{text}; this may be chance")


def _drop_as_text(lift: LiftOfLine, users: int, gate: GateConfig) -> str:
    own, before = lift
    typical = median(before)
    span = f" (95%: {own.low:.2f} to {own.high:.2f})" if own.low is not None else ""
    limit = f"gate.max_lead_drop = {gate.max_lead_drop:g} below their median of {typical:.2f}"
    return (
        f"{gate.metric} is {own.lead:.2f} times the {own.popular_today:.4f} of popular_today{span}"
        f" over {users} users, {own.differ} of whom fare differently; of the {len(before)}"
        f" versions before it was {min(before):.2f} to {max(before):.2f} times, and more than"
        f" {limit} is refused"
    )
