"""The gate's two rules on the towers, for users held out of the day and, if these are few, of up to
six days before. A user is the unit.

*Drop*: the two-tower's lists against those of earlier versions.

nobody   fewer than `FEWEST` users can be measured, after a day that had enough: refused, as nobody
         can tell what the version is worth
newest   against the newest accepted version: refused when more than `gate.max_drop` is lost, unless
         the 95% interval reaches up to no loss: with 200 users a tenth may be lost by chance
slices   the same for slices of users by their earlier events: refused when more than twice
         `gate.max_drop` is surely lost, by Holm's procedure over all slices
best     against the best accepted version of 30 days (index_builder/registry/parents.py), so that
         small losses do not add up: refused when the whole interval lies below -`gate.max_drop`
few      with fewer than `gate.min_users`, refused when the whole interval lies below
         -`gate.max_drop`; else the paired differences of up to 28 days are judged together
         (index_builder/gate/comparison.py)

Source: Holm, *A simple sequentially rejective multiple test procedure*, Scand. J. Statist. 6, 1979.

*Lead* over what was popular on the day (model/evaluation/version_line.py). A version's baseline saw
nothing of the day, so on a log that changes by the day even a bad version may beat it. The popular
list saw the same day as the version. The lead over it is compared with the leads of the versions
before: refused when it is both

    far below   more than `gate.max_lead_drop` below their median
    surely      its whole interval is below the smallest of them: days differ, too

The fixed order has no such rule: its other sources never saw the day.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, median
from typing import NamedTuple

from index_builder.gate.comparison import (
    LEAST_DIFFERENT,
    BestComparison,
    ComparedMeasure,
    Finding,
    LineMemory,
    PooledDays,
    compare_all,
    compare_slices,
    compare_with_best,
    finite,
)
from index_builder.gate.limits import below
from twinspire_core.config.tables.quality import GateConfig
from twinspire_core.contracts.day_metrics import MEMORY_DAYS, HeldOutMeasures
from twinspire_core.contracts.gate_verdict import LiftFigures
from twinspire_core.contracts.measures import PopularityLift, value_of

FEWEST = 2
"""Users to measure: what one user got says nothing of what others get."""
_CHANCE = "; this may be chance"
_IN_A_SLICE = 2
"""Times `gate.max_drop` that a slice may lose: versions differ more there."""
_ONE_SIDED = 0.025


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredUsers:
    """Users of a day on whom a version can be measured, as they have a history.

    Attributes:
      now: of the day.
      before: of the baseline's day; 0 without a baseline.
      of: all users of the day.
      ids: the form of most user ids of the day, such as `whole numbers`; empty if not known.
      ids_before: the form of those of the days before.
    """

    now: int
    before: int
    of: int
    ids: str = ""
    ids_before: str = ""


def judge_towers(
    two_tower: HeldOutMeasures,
    memory: LineMemory | None,
    users: MeasuredUsers | None,
    gate: GateConfig,
) -> Iterator[Finding]:
    """Compares a version's two-tower with those before; with too few users nothing is concluded.

    Args:
      two_tower: measures of its lists and of its baseline's.
      memory: measures of the versions before; None to judge without.
      users: how many it can be measured on; None if that is not known.
    """
    if users:
        yield from _judge_measurable(users, gate)
    yield from _judge_newest(two_tower, memory, gate)
    if memory and two_tower.baseline:
        yield from _judge_best(two_tower, memory, gate)


def _judge_measurable(users: MeasuredUsers, gate: GateConfig) -> Iterator[Finding]:
    if users.now >= FEWEST or users.before < gate.min_users:
        return
    changed = ""
    if users.ids != users.ids_before and users.ids and users.ids_before:
        changed = (
            f": user ids were {users.ids_before} and are {users.ids} now, so that all look new"
        )
    yield Finding(
        True,
        f"{users.now} of the day's {users.of:,} users have a history to measure the version on, on the"
        f" baseline's day {users.before:,} had{changed}. Nobody can tell whether it is worse: mend the"
        " logs, and run the day again",
    )


def _judge_newest(
    lists: HeldOutMeasures, memory: LineMemory | None, gate: GateConfig
) -> Iterator[Finding]:
    pooled = memory.pool_newest(lists, gate) if memory else None
    whole = compare_all(lists, gate.metric)
    if lists.users < gate.min_users and whole.surely_lost(gate.max_drop):
        text = f"{whole.name} is {whole.candidate:.4f}, the baseline's {whole.baseline:.4f}"
        limit = f"all of the interval below -gate.max_drop = -{gate.max_drop:g} is refused"
        yield Finding(True, f"{text}{whole.change_as_text}; {limit}, of few users too")
    elif pooled:
        yield from _pooled_drop(pooled, gate)
    elif lists.users < gate.min_users:
        few = f"{lists.users} held-out users, gate.min_users is {gate.min_users}"
        yield Finding(False, f"not compared with the baseline: {few}")
    elif lists.baseline is None:
        yield Finding(False, "not compared with a baseline: no earlier version was accepted")
        value = value_of(lists.candidate, gate.metric)
        yield from below(gate.metric, value, 0.0, "to be compared with later")
    else:
        yield from _drop(whole, gate)
        yield from _slice_drops(compare_slices(lists, gate.metric), gate)


def _drop(whole: ComparedMeasure, gate: GateConfig) -> Iterator[Finding]:
    before = whole.baseline
    if before is None or not math.isfinite(before):
        why = "evaluation.ks must hold the k of gate.metric"
        yield Finding(True, f"{whole.name} of the baseline was not measured; {why}")
        return
    # An interval that reaches up to no loss at all
    chance = whole.is_measured and whole.high is not None and whole.high >= 0
    meaning = f"what gate.max_drop = {gate.max_drop:g} allows below the baseline's {before:.4f}"
    for _, text in below(whole.name, whole.candidate, before * (1 - gate.max_drop), meaning):
        yield Finding(not chance, text + whole.change_as_text + (_CHANCE if chance else ""))


def _pooled_drop(pooled: PooledDays, gate: GateConfig) -> Iterator[Finding]:
    compared = pooled.compared
    text = (
        f"{pooled.where}, each day's version against its baseline: {compared.name} is"
        f" {compared.candidate:.4f}, of the baselines {compared.baseline:.4f}"
        f"{compared.change_as_text}"
    )
    if not compared.lost(gate.max_drop):
        yield Finding(False, f"judged by several days: {text}")
        return
    sure = compared.surely_lost(0)
    limit = f"more than gate.max_drop = {gate.max_drop:g} is refused"
    yield Finding(sure, f"{text}; {limit}" + ("" if sure else _CHANCE))


def _slice_drops(slices: Sequence[ComparedMeasure], gate: GateConfig) -> Iterator[Finding]:
    few = [f"{one.slice} ({one.users})" for one in slices if one.users < gate.min_users]
    if few:
        text = f"slices of fewer than gate.min_users = {gate.min_users} are not judged"
        yield Finding(False, f"{text}: {', '.join(few)}")
    allowed = _IN_A_SLICE * gate.max_drop
    judged = [one for one in slices if one.users >= gate.min_users and one.change is not None]
    sure = _surely_below(judged, allowed)
    for one in judged:
        if one.lost(allowed):
            limit = f"twice gate.max_drop = {gate.max_drop:g} below the baseline's"
            text = f"{one.name} is {one.candidate:.4f}, more than {limit} {one.baseline:.4f}"
            refuses = one.name in sure
            yield Finding(refuses, text + one.change_as_text + ("" if refuses else _CHANCE))


def _surely_below(slices: Sequence[ComparedMeasure], allowed: float) -> set[str]:
    """Names of the slices that surely lost more than is allowed, by Holm's procedure.

    Args:
      slices: each with a change.
      allowed: a share: 0.2 for a fifth.
    """
    beyond = {one.name: _beyond(one, allowed) for one in slices}
    sure = set[str]()
    for rank, name in enumerate(sorted(beyond, key=lambda name: -beyond[name])):
        needed = NormalDist().inv_cdf(1 - _ONE_SIDED / (len(beyond) - rank))
        if beyond[name] <= needed / NormalDist().inv_cdf(1 - _ONE_SIDED):
            break
        sure.add(name)
    return sure


def _beyond(one: ComparedMeasure, allowed: float) -> float:
    """How far the change lies below what is allowed, in halves of its 95% interval."""
    if one.change is None or one.high is None or one.differ < LEAST_DIFFERENT:
        return -math.inf
    half, beyond = one.high - one.change, -allowed - one.change
    return beyond / half if half > 0 else math.copysign(math.inf, beyond)


def _judge_best(
    two_tower: HeldOutMeasures, memory: LineMemory, gate: GateConfig
) -> Iterator[Finding]:
    best = memory.best
    if best is None:
        why = (
            "its baseline was made before versions remembered the ones before them, or before"
            " serving.exclude_seen was changed"
        )
        yield Finding(
            False, f"not compared with the best version of the {MEMORY_DAYS} days before: {why}"
        )
        return
    if best.gone:
        text = f"the best accepted before it are gone, pruned or deleted: {', '.join(best.gone)}"
        yield Finding(False, f"{text}; the best of those left is {best.version}")
    comparison = compare_with_best(two_tower, memory, gate.metric)
    if comparison:
        yield from _compared_with_best(comparison, gate)
        if best.unread:
            why = "the pipeline file was edited, and these features are missing for"
            yield Finding(False, f"{why} {best.version}: {', '.join(best.unread)}")


def _compared_with_best(comparison: BestComparison, gate: GateConfig) -> Iterator[Finding]:
    best, of_day, pooled = comparison
    is_judged = of_day.users >= gate.min_users and of_day.change is not None
    text = _beside_best(best.version, of_day, gate)
    if is_judged and of_day.surely_lost(gate.max_drop):
        yield Finding(True, text)
        return
    # Once the day itself is well again, losses of the days before refuse nothing
    recovered = is_judged and not of_day.lost(gate.max_drop)
    enough = pooled is not None and pooled.compared.users >= gate.min_users
    if pooled and enough and not recovered and pooled.compared.surely_lost(gate.max_drop):
        text = _beside_best(best.version, pooled.compared, gate)
        yield Finding(True, f"{text}; {pooled.where}, each day's version against it")
    elif is_judged and not recovered:
        yield Finding(False, text + _CHANCE)


def _beside_best(version: str, compared: ComparedMeasure, gate: GateConfig) -> str:
    if compared.candidate is None or compared.baseline is None:
        return ""
    best = f"{version}, the best accepted version of the {MEMORY_DAYS} days before it"
    return (
        f"{compared.name} is {compared.candidate:.4f}, {best}, has {compared.baseline:.4f}"
        f"{compared.change_as_text}; all of the interval below -gate.max_drop = -{gate.max_drop:g}"
        " is refused"
    )


_LEAST_BEFORE = 3
"""Versions before the version whose leads must be known to compare with."""


class LiftOfLine(NamedTuple):
    """The lead of a version in a measure, and those of the versions before it.

    Attributes:
      own: the version's lead, with its interval.
      before: the leads of the versions before, the oldest first.
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
    """The leads in a measure.

    Args:
      two_tower: measures of the version's lists on held-out users.
      lifts_before: leads of the versions before, by measure, the oldest first.
      measure: its name with its list length, such as `recall@50`.
    """
    leads = (lifts[measure] for lifts in lifts_before if measure in lifts)
    return LiftOfLine(two_tower.lift_of(measure), list(filter(math.isfinite, leads)))


def judge_popularity_lift(
    two_tower: HeldOutMeasures, lifts_before: Sequence[Mapping[str, float]], gate: GateConfig
) -> Iterator[Finding]:
    """Compares the two-tower's lead with those of the versions before; notes what cannot be
    compared.

    Args:
      two_tower: measures of the version's lists on held-out users.
      lifts_before: leads of the versions before, by measure, the oldest first.
      gate: the limit, and the measure that it is of.
    """
    # The comparison with the baseline has noted that there are too few users, or no baseline
    too_few = two_tower.users < gate.min_users
    if gate.max_lead_drop >= 1 or too_few or two_tower.baseline is None:
        return
    lift = lift_of_line(two_tower, lifts_before, gate.metric)
    own, before = lift
    if own.lead is None:
        needed = f"it takes gate.min_users = {gate.min_users} held-out users of the day itself"
        yield Finding(
            False,
            f"its lead over popular_today was not measured: {needed}, whom that list serves",
        )
    elif len(before) < _LEAST_BEFORE:
        few = f"of {len(before)} versions before it is known, {_LEAST_BEFORE} are needed"
        yield Finding(False, f"its lead over popular_today, {own.lead:.2f}, is not compared: {few}")
    elif own.lead < (1 - gate.max_lead_drop) * median(before):
        # Days differ too: what lies inside the range of those before is no proof
        below_all = own.high is not None and own.high < min(before)
        sure = below_all and own.differ >= LEAST_DIFFERENT
        text = _drop_as_text(lift, two_tower.users, gate)
        yield Finding(sure, text if sure else text + _CHANCE)


def _drop_as_text(lift: LiftOfLine, users: int, gate: GateConfig) -> str:
    own, before = lift
    typical = median(before)
    span = f" (95%: {own.low:.2f} to {own.high:.2f})" if own.low is not None else ""
    limit = f"gate.max_lead_drop = {gate.max_lead_drop:g} below their median of {typical:.2f}"
    return (
        f"{gate.metric} is {own.lead:.2f} times the {own.popular_today:.4f} of popular_today{span}"
        f" over {users} users, {own.differ} of them with different results; of the {len(before)}"
        f" versions before it was {min(before):.2f} to {max(before):.2f} times, and more than"
        f" {limit} is refused"
    )
