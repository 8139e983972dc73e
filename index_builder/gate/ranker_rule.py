"""The gate's rule on the ranker: whether it answers in place of the mix. It refuses no version.

A version's ranker is fitted on the day and on days before, so that nobody can have judged it yet.
What is judged is how such rankers are made: on each day the parent's ranker beside the parent's mix,
for all users who were measured before the day was trained on. As many of the newest days as have
`ENOUGH_USERS` users between them are put together, 28 at the most. The ranker serves if

    it finds more than the mix: all of the 95% interval of `gate.metric` lies above 0,
    it does not surely find less than the best of the sources alone (99%), and
    this version's own ranker does not surely find less than its own mix, for users held out of the
    day (95%): what was fitted today may be broken today.

Else the mix serves, and a note says why.
"""

from collections.abc import Iterator
from typing import NamedTuple

from index_builder.gate.comparison import LEAST_DIFFERENT, Finding
from index_builder.gate.memory_rule import LineMemory
from index_builder.gate.pooled_days import SURE, PooledDays, pool_days
from index_builder.gate.served_rule import VERY_SURE
from twinspire_core.config.source_names import MIX, RANKED
from twinspire_core.config.tables.quality import GateConfig
from twinspire_core.contracts.day_metrics import FusionMeasures
from twinspire_core.contracts.paired_differences import PairedDifferences
from twinspire_core.contracts.ranker_measures import RankerMeasures

ENOUGH_USERS = 2_000
"""Users at which no older day is added: a gain of a few hundredths shows among so many."""


class RankerJudgement(NamedTuple):
    """What was found.

    Attributes:
      serves: `ranked` or `mix`; None without either.
      beside_mix: the rankers of the newest days beside the mixes; None where nothing was measured.
      notes: why the mix serves, or why the ranker does.
    """

    serves: str | None
    beside_mix: PooledDays | None
    notes: tuple[Finding, ...] = ()


def judge_ranker(
    ranker: RankerMeasures | None,
    mix: FusionMeasures,
    memory: LineMemory | None,
    gate: GateConfig,
) -> RankerJudgement:
    """Says what serves.

    Args:
      ranker: what was measured; None without `ranking.enabled`.
      mix: the same of fused lists.
      memory: what is remembered of the days before.
      gate: the limits.
    """
    otherwise = MIX if mix.fitted else None
    if ranker is None:
        return RankerJudgement(otherwise, None)
    beside_mix = _beside_mix(ranker, memory, gate)
    if ranker.fitted is None:
        note = "no ranker: too few users to fit one on (ranking.min_users); the mix serves"
        return RankerJudgement(otherwise, beside_mix, (Finding(False, note),))
    against = tuple(_against(ranker, beside_mix, memory, gate))
    if against:
        return RankerJudgement(otherwise, beside_mix, against)
    assert beside_mix is not None, "of `_against`"
    note = f"the ranker serves: {_as_text(beside_mix, 'the mix')}"
    return RankerJudgement(RANKED, beside_mix, (Finding(False, note),))


def _against(
    ranker: RankerMeasures,
    beside_mix: PooledDays | None,
    memory: LineMemory | None,
    gate: GateConfig,
) -> Iterator[Finding]:
    """What speaks against the ranker."""
    if beside_mix is None or beside_mix.compared.users < gate.min_users:
        users = beside_mix.compared.users if beside_mix else 0
        yield Finding(
            False,
            f"the mix serves: the ranker was measured beside it on {users} users so far, fewer than"
            f" gate.min_users = {gate.min_users}",
        )
        return
    low = beside_mix.compared.low
    if low is None or low <= 0 or beside_mix.compared.differ < LEAST_DIFFERENT:
        text = _as_text(beside_mix, "the mix")
        yield Finding(False, f"the mix serves, as the ranker is not surely better: {text}")
    source = _best_source(ranker, memory, gate)
    if source and source[1].compared.high is not None and source[1].compared.high < 0:
        text = _as_text(source[1], f"its source {source[0]} alone")
        yield Finding(False, f"the mix serves, as the ranker is surely worse: {text}")
    own = ranker.own_beside_mix
    if own and _is_surely_worse(own, gate.metric):
        one = own.by_measure[gate.metric]
        yield Finding(
            False,
            f"the mix serves, as this version's own ranker finds {gate.metric} of"
            f" {one.base + one.mean:.4f} and its own mix {one.base:.4f} for {own.users} held-out"
            " users",
        )


def _is_surely_worse(found: PairedDifferences, metric: str) -> bool:
    """Whether all of the 95% interval of one day's differences lies below 0."""
    one = found.by_measure.get(metric)
    if one is None or one.differ < LEAST_DIFFERENT:
        return False
    return bool(one.mean + SURE * one.deviation / found.users**0.5 < 0)


def _beside_mix(
    ranker: RankerMeasures, memory: LineMemory | None, gate: GateConfig
) -> PooledDays | None:
    if memory is None:
        return None
    days: dict[str, PairedDifferences | None] = {
        day: one.ranked_beside_mix for day, one in memory.line.items()
    }
    days[str(memory.day)] = ranker.beside_mix
    return pool_days(days, memory.day, gate.metric, enough=ENOUGH_USERS)


def _best_source(
    ranker: RankerMeasures, memory: LineMemory | None, gate: GateConfig
) -> tuple[str, PooledDays] | None:
    """The source that alone finds most, and the rankers beside it."""
    if memory is None:
        return None
    found = list[tuple[str, PooledDays]]()
    for name, today in ranker.beside_sources.items():
        days: dict[str, PairedDifferences | None] = {
            day: one.ranked_beside_sources.get(name) for day, one in memory.line.items()
        }
        days[str(memory.day)] = today
        pooled = pool_days(days, memory.day, gate.metric, enough=ENOUGH_USERS, sure=VERY_SURE)
        if pooled and pooled.compared.differ >= LEAST_DIFFERENT:
            found.append((name, pooled))
    return max(found, key=lambda one: one[1].compared.baseline or 0.0, default=None)


def _as_text(pooled: PooledDays, other: str) -> str:
    compared = pooled.compared
    days = f" of {pooled.days} days" if pooled.days > 1 else ""
    return (
        f"{compared.name} of {compared.candidate:.4f}, {other} {compared.baseline:.4f}: a change of"
        f" {compared.change:+.1%} ({compared.low:+.1%} to {compared.high:+.1%}) over"
        f" {compared.users} users{days}, {compared.differ} of whom fare differently"
    )
