"""The gate's rule on losses: a version against its baseline, on the same held-out users.

drop     of `gate.metric`, of all users. Refused when the loss is beyond `gate.max_drop`, unless
its interval, a paired one, reaches up to no loss at all: of 200 users a recall may lose
a tenth by chance
days     where held-out users are too few for that, also with those of days before: the drop of several
days together, each day's version against its baseline (index_builder/gate/pooled_days.py).
Refused when it is beyond `gate.max_drop` and its interval lies below no loss
slices   the same of users by their earlier events. Refused when the whole interval is beyond
`gate.max_slice_drop`: several are looked at day after day, so that only what is sure
counts
nobody   a day on which fewer than two users can be measured, after one that had enough: whatever is wrong
with the day, nobody can tell what the version is worth
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from index_builder.gate.comparison import (
    LEAST_DIFFERENT,
    ComparedMeasure,
    Finding,
    compare_all,
    compare_slices,
    finite,
)
from index_builder.gate.limits import below
from index_builder.gate.pooled_days import PooledDays
from twinspire_core.config.tables.gate import GateConfig
from twinspire_core.contracts.day_metrics import HeldOutMeasures
from twinspire_core.contracts.measures import value_of

_CHANCE = "; this may be chance"
FEWEST = 2
"""Users to measure: what one user got says nothing of what others get."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredUsers:
    """Users of a day on whom a version can be measured, as they have a history.

    Attributes:
      now: of the day.
      before: of the baseline's day; 0 without a baseline.
      of: all users of the day.
      ids: the form that most user ids of the day have, `whole numbers` say.
      ids_before: that of the days before; empty like `ids` where it is not known.
    """

    now: int
    before: int
    of: int
    ids: str = ""
    ids_before: str = ""


def judge_measurable(users: MeasuredUsers, gate: GateConfig) -> Iterator[Finding]:
    """Refuses a day on which hardly anybody can be measured, where the day before had enough users."""
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


def judge_drops(
    lists: HeldOutMeasures, gate: GateConfig, *, pooled: PooledDays | None = None
) -> Iterator[Finding]:
    """Compares lists of the version with those of its baseline; of too few users nothing is
    concluded.

    Args:
      lists: both.
      gate: limits.
      pooled: several days together, where the users of one are too few.
    """
    if pooled and lists.users < gate.min_users:
        yield from _pooled_drop(pooled, gate)
    elif lists.users < gate.min_users:
        few = f"{lists.users} held-out users, gate.min_users is {gate.min_users}"
        yield Finding(False, f"not compared with the baseline: {few}")
    elif lists.baseline is None:
        yield Finding(False, "not compared with a baseline: no earlier version was accepted")
        value = value_of(lists.candidate, gate.metric)
        yield from below(gate.metric, value, 0.0, "to be compared with later")
    else:
        yield from _drop(compare_all(lists, gate.metric), gate)
        yield from _slice_drops(compare_slices(lists, gate.metric), gate)


def judge_fixed_order_drops(
    order: HeldOutMeasures | None, gate: GateConfig, *, pooled: PooledDays | None = None
) -> Iterator[Finding]:
    """The same of lists in the fixed order, where both versions' were measured."""
    if order and order.candidate and order.baseline:
        for refuses, text in judge_drops(order, gate, pooled=pooled):
            yield Finding(refuses, f"the fixed order: {text}")


def _drop(whole: ComparedMeasure, gate: GateConfig) -> Iterator[Finding]:
    before = whole.baseline
    after = whole.candidate
    if before is None or not math.isfinite(before):
        why = "evaluation.ks must hold the k of gate.metric"
        yield Finding(True, f"{whole.name} of the baseline was not measured; {why}")
        return
    # An interval that reaches up to no loss at all
    chance = finite(after) is not None and whole.high is not None and whole.high >= 0
    meaning = f"what gate.max_drop = {gate.max_drop:g} allows below the baseline's {before:.4f}"
    for _, text in below(whole.name, after, before * (1 - gate.max_drop), meaning):
        yield Finding(not chance, text + whole.change_as_text + (_CHANCE if chance else ""))


def _pooled_drop(pooled: PooledDays, gate: GateConfig) -> Iterator[Finding]:
    compared = pooled.compared
    text = (
        f"{pooled.where}, each day's version against its baseline: {compared.name} is"
        f" {compared.candidate:.4f}, of the baselines {compared.baseline:.4f}"
        f"{compared.change_as_text}"
    )
    if compared.change is None or compared.change >= -gate.max_drop:
        yield Finding(False, f"judged by several days: {text}")
        return
    below_zero = compared.high is not None and compared.high < 0
    sure = below_zero and compared.differ >= LEAST_DIFFERENT
    limit = f"more than gate.max_drop = {gate.max_drop:g} is refused"
    yield Finding(sure, f"{text}; {limit}" + ("" if sure else _CHANCE))


def _slice_drops(slices: list[ComparedMeasure], gate: GateConfig) -> Iterator[Finding]:
    few = [f"{one.slice} ({one.users})" for one in slices if one.users < gate.min_users]
    if few:
        yield Finding(
            False,
            f"slices of fewer than gate.min_users = {gate.min_users} are not judged:"
            f" {', '.join(few)}",
        )
    for one in slices:
        if one.users < gate.min_users or one.change is None or one.change >= -gate.max_slice_drop:
            continue
        # Several slices are looked at each day: only a whole interval is proof
        beyond = one.high is not None and one.high < -gate.max_slice_drop
        sure = beyond and one.differ >= LEAST_DIFFERENT
        limit = (
            f"gate.max_slice_drop = {gate.max_slice_drop:g} below the baseline's {one.baseline:.4f}"
        )
        text = f"{one.name} is {one.candidate:.4f}, more than {limit}{one.change_as_text}"
        yield Finding(sure, text if sure else text + _CHANCE)
