"""Absolute limits of the gate: `gate.floors` and `gate.ceilings`, of the two-tower's lists and of
the fixed order's.

A limit of a measure holds for both; one named `fixed_order/MEASURE` for the fixed order, in place of
that. The two-tower is held to them however few users were asked, in a slice from `gate.min_users` on.
The fixed order was asked about users of the day itself alone: of fewer than `gate.min_users` it is
held to none, which is noted.
"""

import math
from collections.abc import Iterator, Mapping

from index_builder.gate.comparison import Finding
from twinspire_core.config.tables.gate import GateConfig
from twinspire_core.contracts.day_metrics import HeldOutMeasures
from twinspire_core.contracts.measures import Measures, value_of
from twinspire_core.metrics.measure_names import OF_FIXED_ORDER, split_name

Limits = Mapping[str, float]
_POPULAR_SHARE = "popular_share@"
"""The one measure that there is none of after a day that is missing."""


def judge_limits(two_tower: HeldOutMeasures, gate: GateConfig) -> Iterator[Finding]:
    """Holds the two-tower to the limits."""
    floors = two_tower_limits(gate.floors)
    ceilings = two_tower_limits(gate.ceilings)
    yield from _judge(two_tower.candidate, gate, floors, ceilings)


def judge_fixed_order_limits(order: HeldOutMeasures | None, gate: GateConfig) -> Iterator[Finding]:
    """Holds the fixed order to the limits."""
    if order is None or not (gate.floors or gate.ceilings):
        return
    if order.candidate is None or order.users < gate.min_users:
        few = f"{order.users} held-out users of the day itself, gate.min_users is {gate.min_users}"
        unjudged = "the fixed order is not held to gate.floors and gate.ceilings"
        yield Finding(False, f"{unjudged}: {few}")
        return
    floors = fixed_order_limits(gate.floors)
    ceilings = fixed_order_limits(gate.ceilings)
    for refuses, text in _judge(order.candidate, gate, floors, ceilings):
        yield Finding(refuses, f"the fixed order: {text}")


def two_tower_limits(limits: Limits) -> Limits:
    """The limits that hold for the two-tower, by measure: all that are not the fixed order's own."""
    return {name: limit for name, limit in limits.items() if not name.startswith(OF_FIXED_ORDER)}


def fixed_order_limits(limits: Limits) -> dict[str, float]:
    """The limits that hold for the fixed order, by measure: the two-tower's, and in their place its
    own.
    """
    found = dict(two_tower_limits(limits))
    for name, limit in limits.items():
        if name.startswith(OF_FIXED_ORDER):
            found[name.removeprefix(OF_FIXED_ORDER)] = limit
    return found


def below(name: str, value: float | None, least: float, meaning: str) -> Iterator[Finding]:
    """Refuses what is missing, no number, or less."""
    if value is None or not math.isfinite(value):
        yield Finding(True, f"{name} is {_missing(value)}; it must reach {least:.4f}, {meaning}")
    elif value < least:
        yield Finding(True, f"{name} is {value:.4f}, below {least:.4f}, {meaning}")


def above(name: str, value: float | None, most: float, meaning: str) -> Iterator[Finding]:
    """Refuses what is missing, no number, or more."""
    if value is None or not math.isfinite(value):
        yield Finding(
            True, f"{name} is {_missing(value)}; it must not exceed {most:.4f}, {meaning}"
        )
    elif value > most:
        yield Finding(True, f"{name} is {value:.4f}, above {most:.4f}, {meaning}")


def _judge(
    measures: Measures | None, gate: GateConfig, floors: Limits, ceilings: Limits
) -> Iterator[Finding]:
    for kind, limits, beyond in (("floor", floors, below), ("ceiling", ceilings, above)):
        for name, limit in limits.items():
            measure, side, _ = split_name(name)
            users = measures.users_of_slice(name) if measures else 0
            # All users are held to a limit however few they are: a floor says what must be there
            if side and users < gate.min_users:
                few = f"{users} users, gate.min_users is {gate.min_users}"
                yield Finding(False, f"{name} is not held to its {kind} of {limit:g}: {few}")
                continue
            value = value_of(measures, name)
            if value is None and measures and measure.startswith(_POPULAR_SHARE):
                why = "the days before had no events, so that nothing is known to be popular"
                yield Finding(False, f"{name} is not held to its {kind} of {limit:g}: {why}")
            else:
                yield from beyond(name, value, limit, f"its {kind} in gate.{kind}s")


def _missing(value: float | None) -> str:
    return "missing" if value is None else f"{value}, not a number"
