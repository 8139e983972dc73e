"""The gate's rule on the towers: the two-tower's lists against those of earlier versions, for held-out users
of the day. If these are few, held-out users of up to six days before are added. The unit is a user.

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
"""

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist

from index_builder.gate.comparison import (
    LEAST_DIFFERENT,
    BestComparison,
    ComparedMeasure,
    Finding,
    JudgedVersion,
    LineMemory,
    PooledMeasure,
    compare_all,
    compare_slices,
    compare_with_best,
    finite,
)
from index_builder.gate.limits import beyond
from twinspire_core.config.tables.deployment import IndexConfig
from twinspire_core.config.tables.quality import GateConfig
from twinspire_core.contracts.day_metrics import MEMORY_DAYS, HeldOutMeasures

FEWEST = 2
"""Fewest users to measure: a single user says nothing about the others."""
_CHANCE = "; this may be chance"
# A slice may lose this many times `gate.max_drop`, because versions differ more in slices.
_IN_A_SLICE = 2
_ONE_SIDED = 0.025


def judge_towers(version: JudgedVersion, gate: GateConfig, _: IndexConfig) -> Iterator[Finding]:
    """Compares a version's two-tower with those before; with too few users nothing is concluded."""
    two_tower, memory, users = version.two_tower, version.memory, version.measurable
    if users and users.now < FEWEST and users.before >= gate.min_users:
        yield Finding(
            True,
            f"{users.now} of the day's {users.of:,} users have a history to measure the version on; on"
            f" the baseline's day, {users.before:,} users had one. Logs may be missing. Or user ids may"
            " be written differently, so that all users look new. Correct the logs, and run the day"
            " again",
        )
    yield from _judge_newest(two_tower, memory, gate)
    if memory and two_tower.baseline:
        yield from _judge_best(two_tower, memory, gate)


def _judge_newest(
    lists: HeldOutMeasures, memory: LineMemory | None, gate: GateConfig
) -> Iterator[Finding]:
    pooled = memory.pool_newest(lists, gate) if memory else None
    whole = compare_all(lists, gate.metric)
    if lists.users < gate.min_users and whole.surely_lost(gate.max_drop):
        yield Finding(
            True,
            f"{whole.name} is {whole.candidate:.4f}, the baseline's {whole.baseline:.4f}"
            f"{whole.change_as_text}. Although users are few, the gate refuses this: the whole"
            f" interval is below -gate.max_drop = -{gate.max_drop:g}",
        )
    elif pooled:
        yield from _pooled_drop(pooled, gate)
    elif lists.users < gate.min_users:
        yield Finding(
            False,
            f"not compared with the baseline: {lists.users} held-out users are too few (gate.min_users ="
            f" {gate.min_users})",
        )
    elif lists.baseline is None:
        yield Finding(False, "not compared with a baseline: no earlier version was accepted")
        # Later versions are compared with this one: its measure must be a number
        yield from beyond(
            gate.metric, whole.candidate, 0.0, "so that later versions can be compared with it"
        )
    else:
        yield from _drop(whole, gate)
        yield from _slice_drops(compare_slices(lists, gate.metric), gate)


def _drop(whole: ComparedMeasure, gate: GateConfig) -> Iterator[Finding]:
    before = finite(whole.baseline)
    if before is None:
        yield Finding(
            True,
            f"{whole.name} of the baseline was not measured; add the k of gate.metric to"
            " evaluation.ks",
        )
        return
    # Whether the interval includes no loss
    measured = finite(whole.candidate) is not None
    chance = measured and whole.high is not None and whole.high >= 0
    meaning = f"the lowest value that gate.max_drop = {gate.max_drop:g} allows for a baseline of {before:.4f}"
    for _, text in beyond(whole.name, whole.candidate, before * (1 - gate.max_drop), meaning):
        yield Finding(not chance, text + whole.change_as_text + (_CHANCE if chance else ""))


def _pooled_drop(pooled: PooledMeasure, gate: GateConfig) -> Iterator[Finding]:
    text = (
        f"over {pooled.days} days combined, {pooled.name} is {pooled.candidate:.4f}, the baselines'"
        f" {pooled.baseline:.4f}{pooled.change_as_text}, each day's version compared with its"
        " baseline"
    )
    if not pooled.lost(gate.max_drop):
        yield Finding(False, f"judged by several days: {text}")
        return
    text += f"; this loss is larger than gate.max_drop = {gate.max_drop:g} allows"
    sure = pooled.surely_lost(0)
    yield Finding(sure, text if sure else text + _CHANCE)


def _slice_drops(slices: Sequence[ComparedMeasure], gate: GateConfig) -> Iterator[Finding]:
    few = [f"{part.slice} ({part.users})" for part in slices if part.users < gate.min_users]
    if few:
        text = f"slices with fewer than gate.min_users = {gate.min_users} users are not judged"
        yield Finding(False, f"{text}: {', '.join(few)}")
    allowed = _IN_A_SLICE * gate.max_drop
    judged = [part for part in slices if part.users >= gate.min_users and part.change is not None]
    sure = _surely_below(judged, allowed)
    for part in judged:
        if part.lost(allowed):
            text = (
                f"{part.name} is {part.candidate:.4f}, more than twice gate.max_drop ="
                f" {gate.max_drop:g} below the baseline's {part.baseline:.4f}{part.change_as_text}"
            )
            refuses = part.name in sure
            yield Finding(refuses, text if refuses else text + _CHANCE)


def _surely_below(slices: Sequence[ComparedMeasure], allowed: float) -> set[str]:
    """Names of the slices that surely lost more than is allowed, by Holm's procedure.

    Args:
      slices: each with a change.
      allowed: a share: 0.2 for a fifth.
    """
    beyond = {part.name: _beyond(part, allowed) for part in slices}
    sure = set[str]()
    for rank, name in enumerate(sorted(beyond, key=lambda name: -beyond[name])):
        # Holm: the more slices remain, the stricter the test of the next one
        needed = NormalDist().inv_cdf(1 - _ONE_SIDED / (len(beyond) - rank))
        if beyond[name] <= needed / NormalDist().inv_cdf(1 - _ONE_SIDED):
            break
        sure.add(name)
    return sure


def _beyond(part: ComparedMeasure, allowed: float) -> float:
    """How far the change lies below the allowed one, in half widths of its 95% interval."""
    if part.change is None or part.high is None or part.differ < LEAST_DIFFERENT:
        return -math.inf
    # The upper half, because the question is whether the interval reaches up to the allowed change
    half, excess = part.high - part.change, -allowed - part.change
    return excess / half if half > 0 else math.copysign(math.inf, excess)


def _judge_best(
    two_tower: HeldOutMeasures, memory: LineMemory, gate: GateConfig
) -> Iterator[Finding]:
    best = memory.best
    if best is None:
        yield Finding(
            False,
            f"not compared with the best version of the {MEMORY_DAYS} days before: the baseline stores no"
            " figures of earlier versions, or serving.exclude_seen was changed after it",
        )
        return
    if best.gone:
        text = f"the best earlier versions were pruned or deleted: {', '.join(best.gone)}"
        yield Finding(False, f"{text}. {best.version} is the best of the others")
    if comparison := compare_with_best(two_tower, memory, gate.metric):
        yield from _compared_with_best(comparison, gate)
        if best.unread:
            yield Finding(
                False,
                f"the pipeline file was changed, so these features are missing for {best.version}:"
                f" {', '.join(best.unread)}",
            )


def _compared_with_best(comparison: BestComparison, gate: GateConfig) -> Iterator[Finding]:
    best, of_day, pooled = comparison
    is_judged = of_day.users >= gate.min_users and of_day.change is not None
    if is_judged and of_day.surely_lost(gate.max_drop):
        yield Finding(True, _beside_best(best.version, of_day, gate))
        return
    # If the day itself has recovered, losses of earlier days refuse nothing
    recovered = is_judged and not of_day.lost(gate.max_drop)
    enough = pooled is not None and pooled.users >= gate.min_users
    if pooled and enough and not recovered and pooled.surely_lost(gate.max_drop):
        text = _beside_best(best.version, pooled, gate)
        yield Finding(
            True, f"{text}; over {pooled.days} days combined, each day's version compared with it"
        )
    elif is_judged and not recovered:
        yield Finding(False, _beside_best(best.version, of_day, gate) + _CHANCE)


def _beside_best(version: str, compared: ComparedMeasure, gate: GateConfig) -> str:
    return (
        f"{compared.name} is {compared.candidate:.4f}; {version}, the best accepted version of the"
        f" {MEMORY_DAYS} days before, has {compared.baseline:.4f}{compared.change_as_text}. The gate"
        f" refuses this if the whole interval is below -gate.max_drop = -{gate.max_drop:g}"
    )


def note_unread(version: JudgedVersion, _: GateConfig, __: IndexConfig) -> Iterator[Finding]:
    """Notes the features that were missing when the baseline was measured."""
    if version.two_tower.baseline and version.unread:
        yield Finding(
            False,
            "the pipeline file was changed, so these features are missing for the baseline:"
            f" {', '.join(version.unread)}",
        )
