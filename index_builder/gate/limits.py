"""Absolute limits of the gate: `gate.floors` and `gate.ceilings`, of the two-tower's lists and of
those that are served.

A limit of a measure holds for both; one named `served/MEASURE` for what is served, in place of that.
The two-tower is held to them however few users were asked, in a slice from `gate.min_users` on. What
is served was asked about users of the day itself alone: of fewer than `gate.min_users` it is held to
none, which is noted.
"""

import math
from collections.abc import Iterator, Mapping

from index_builder.gate.comparison import Finding
from twinspire_core.config.tables.gate import GateConfig
from twinspire_core.contracts.day_metrics import HeldOutMeasures
from twinspire_core.contracts.measures import Measures, value_of
from twinspire_core.metrics.measure_names import OF_SERVED, split_name

Limits = Mapping[str, float]
_POPULAR_SHARE = "popular_share@"
"""The one measure that there is none of after a day that is missing."""


def judge_limits(two_tower: HeldOutMeasures, gate: GateConfig) -> Iterator[Finding]:
    """Holds the two-tower to the limits."""
    floors = two_tower_limits(gate.floors)
    ceilings = two_tower_limits(gate.ceilings)
    yield from _judge(two_tower.candidate, gate, floors, ceilings)


def judge_served_limits(served: HeldOutMeasures, gate: GateConfig) -> Iterator[Finding]:
    """Holds what is served to the limits."""
    if not (gate.floors or gate.ceilings):
        return
    if served.candidate is None or served.users < gate.min_users:
        few = f"{served.users} held-out users of the day itself, gate.min_users is {gate.min_users}"
        unjudged = "what is served is not held to gate.floors and gate.ceilings"
        yield Finding(False, f"{unjudged}: {few}")
        return
    floors = served_limits(gate.floors)
    ceilings = served_limits(gate.ceilings)
    for refuses, text in _judge(served.candidate, gate, floors, ceilings):
        yield Finding(refuses, f"what is served: {text}")


def two_tower_limits(limits: Limits) -> Limits:
    """The limits that hold for the two-tower, by measure."""
    return {name: limit for name, limit in limits.items() if not name.startswith(OF_SERVED)}


def served_limits(limits: Limits) -> dict[str, float]:
    """The limits that hold for what is served, by measure: the two-tower's, and in their place its
    own.
    """
    found = dict(two_tower_limits(limits))
    for name, limit in limits.items():
        if name.startswith(OF_SERVED):
            found[name.removeprefix(OF_SERVED)] = limit
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
