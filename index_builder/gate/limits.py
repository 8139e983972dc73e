"""Absolute limits of the gate: `gate.floors` and `gate.ceilings`, of the two-tower's lists and of
the mix's.

A limit of a measure holds for both; one named `mix/MEASURE` for the mix, in place of that. The
two-tower is held to them however few users were asked, in a slice from `gate.min_users` on. The mix
was asked about users of the day itself alone, and not at all where its weights were fitted on
these: of fewer than `gate.min_users` it is held to none, which is noted.
"""

import math
from collections.abc import Iterator, Mapping

from index_builder.gate.comparison import Finding, Pair, figure
from twinspire_core.config.tables.quality import GateConfig
from twinspire_core.metrics.measure_names import OF_MIX, part

Limits = Mapping[str, float]


def judge_limits(pair: Pair, gate: GateConfig) -> Iterator[Finding]:
    """Holds the two-tower to the limits."""
    yield from _judge(
        pair, gate, *({n: x for n, x in y.items() if not n.startswith(OF_MIX)} for y in _both(gate))
    )


def judge_mix_limits(mix: Pair | None, gate: GateConfig) -> Iterator[Finding]:
    """Holds the mix to the limits, where the version carries one."""
    if mix is None or not any(_both(gate)):
        return
    if mix.candidate is None or mix.users < gate.min_users:
        few = f"{mix.users} held-out users of the day itself, gate.min_users is {gate.min_users}"
        why = few if mix.candidate else "its weights were fitted on the users held out"
        yield Finding(False, f"the mix is not held to gate.floors and gate.ceilings: {why}")
    else:
        for refuses, text in _judge(mix, gate, *map(of_mix, _both(gate))):
            yield Finding(refuses, f"the mix: {text}")


def of_mix(limits: Limits) -> Limits:
    """The limits that hold for the mix, by measure."""
    own = {
        name.removeprefix(OF_MIX): limit
        for name, limit in limits.items()
        if name.startswith(OF_MIX)
    }
    return {name: limit for name, limit in limits.items() if not name.startswith(OF_MIX)} | own


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


def _both(gate: GateConfig) -> tuple[Limits, Limits]:
    return gate.floors, gate.ceilings


def _judge(pair: Pair, gate: GateConfig, floors: Limits, ceilings: Limits) -> Iterator[Finding]:
    for kind, limits, beyond in (("floor", floors, below), ("ceiling", ceilings, above)):
        for name, limit in limits.items():
            users = part(pair.candidate, name)[0].get("users", 0)
            if "/" in name and users < gate.min_users:
                few = f"{users} users, gate.min_users is {gate.min_users}"
                yield Finding(False, f"{name} is not held to its {kind} of {limit:g}: {few}")
            else:
                yield from beyond(
                    name, figure(pair.candidate, name), limit, f"its {kind} in gate.{kind}s"
                )


def _missing(value: float | None) -> str:
    return "missing" if value is None else f"{value}, not a number"
