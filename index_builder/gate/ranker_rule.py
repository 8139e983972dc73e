"""The gate's rule on the ranker: whether it answers in place of the mix. It refuses no version.

A version's ranker is fitted on the day and on days before, so that nobody can have judged it yet.
What is judged is how such rankers are made: on each day the parent's ranker beside the parent's mix,
for all users who were measured before the day was trained on. As many of the newest days as have
`ENOUGH_USERS` users between them are put together, 28 at the most. The ranker serves if

    it is surely better than the mix: all of the 95% interval lies above 0,
    it is not surely below the best of the sources alone (99%), and
    this version's own ranker does not surely find less than half of what its own mix does, for users
    held out of the day (95%): what was fitted today may be broken today.

The last is asked as of the end of the day, of what was taken during it: a ranker is fitted for what
comes next. On news, where that is something else, a good one finds a third less there. So only a
gross loss says something.

Else the mix serves, and a note says why. All of this is by `gate.metric`. A ranker is for the order
of the first places, of which recall@50 says nothing. So ndcg of the shortest lists is told beside
it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from index_builder.gate.comparison import LEAST_DIFFERENT, Finding
from index_builder.gate.memory_rule import LineMemory
from index_builder.gate.pooled_days import SURE, PooledDays, pool_days
from index_builder.gate.served_rule import VERY_SURE
from twinspire_core.config.source_names import MIX, RANKED
from twinspire_core.config.tables.gate import GateConfig
from twinspire_core.contracts.day_metrics import FusionMeasures, RankerMeasures
from twinspire_core.contracts.gate_verdict import OrderFigures, PooledFigures
from twinspire_core.contracts.measures import PairedDifferences

ENOUGH_USERS = 2_000
"""Users at which no older day is added: a gain of a few hundredths shows among so many."""
_BROKEN = 0.5
"""The share of what its own mix finds below which a ranker is broken. One that orders its some 300
candidates by chance finds a sixth of what is among them.
"""
_NDCG = "ndcg@"


class RankerJudgement(NamedTuple):
    """What was found.

    Attributes:
      serves: `ranked` or `mix`; None without either.
      beside_mix: the rankers of the newest days beside the mixes by `gate.metric`; None where
        nothing was measured.
      order: the same by ndcg of the shortest lists; None where that is `gate.metric`.
      notes: why the mix serves, or why the ranker does.
    """

    serves: str | None
    beside_mix: PooledDays | None = None
    order: PooledDays | None = None
    notes: tuple[Finding, ...] = ()

    def figures(self) -> dict[str, PooledFigures]:
        """What there is for fields of `GateFigures`."""
        figures: dict[str, PooledFigures] = {}
        if self.beside_mix:
            figures["ranker"] = self.beside_mix.figures()
        if self.order:
            measured = self.order.compared
            figures["ranker_order"] = OrderFigures(
                measure=measured.name, days=self.order.days, **measured.figures()
            )
        return figures


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
        return RankerJudgement(otherwise)
    newest = _NewestDays(ranker, memory)
    beside_mix = newest.beside_mix(gate.metric)
    other = _shortest_ndcg(ranker)
    order = newest.beside_mix(other) if other and other != gate.metric else None
    if ranker.fitted is None:
        notes = ["no ranker: too few users to fit one on (ranking.min_users); the mix serves"]
        serves = otherwise
    else:
        notes = list(_against(newest, gate))
        serves = otherwise if notes else RANKED
        if beside_mix and not notes:
            notes.append(f"the ranker serves: {_as_text(beside_mix, 'the mix')}")
        if order:
            notes.append(f"by another measure the ranker has {_as_text(order, 'the mix')}")
    return RankerJudgement(serves, beside_mix, order, tuple(Finding(False, n) for n in notes))


@dataclass(frozen=True, slots=True)
class _NewestDays:
    """Rankers of the newest days.

    Attributes:
      today: what was measured on the day.
      memory: of the days before; None where nothing is remembered.
    """

    today: RankerMeasures
    memory: LineMemory | None

    def beside_mix(self, metric: str) -> PooledDays | None:
        """Beside the mixes; None where nothing was measured."""
        if self.memory is None:
            return None
        days = {day: one.ranked_beside_mix for day, one in self.memory.line.items()}
        return self._pool(days, self.today.beside_mix, metric, SURE)

    def best_source(self, metric: str) -> tuple[str, PooledDays] | None:
        """The source that alone finds most, and the rankers beside it."""
        if self.memory is None:
            return None
        found = list[tuple[str, PooledDays]]()
        for name, today in self.today.beside_sources.items():
            line = self.memory.line
            days = {day: one.ranked_beside_sources.get(name) for day, one in line.items()}
            pooled = self._pool(days, today, metric, VERY_SURE)
            if pooled and pooled.compared.differ >= LEAST_DIFFERENT:
                found.append((name, pooled))
        return max(found, key=lambda one: one[1].compared.baseline or 0.0, default=None)

    def _pool(
        self,
        before: Mapping[str, PairedDifferences | None],
        today: PairedDifferences | None,
        metric: str,
        sure: float,
    ) -> PooledDays | None:
        assert self.memory is not None, "asked for where something is remembered"
        day = self.memory.day
        return pool_days({**before, str(day): today}, day, metric, enough=ENOUGH_USERS, sure=sure)


def _against(newest: _NewestDays, gate: GateConfig) -> Iterator[str]:
    """What speaks against the ranker."""
    beside_mix = newest.beside_mix(gate.metric)
    if beside_mix is None or beside_mix.compared.users < gate.min_users:
        users = beside_mix.compared.users if beside_mix else 0
        yield (
            f"the mix serves: the ranker was measured beside it on {users} users so far, fewer than"
            f" gate.min_users = {gate.min_users}"
        )
        return
    if not _is_surely_better(beside_mix):
        text = _as_text(beside_mix, "the mix")
        few = beside_mix.compared.differ < LEAST_DIFFERENT
        why = f"; that takes {LEAST_DIFFERENT} who do" if few else ""
        yield f"the mix serves, as the ranker is not surely better: {text}{why}"
    yield from _surely_worse(newest, gate.metric)


def _surely_worse(newest: _NewestDays, metric: str) -> Iterator[str]:
    """What the ranker is surely below."""
    best = newest.best_source(metric)
    if best:
        name, pooled = best
        if pooled.compared.high is not None and pooled.compared.high < 0:
            text = _as_text(pooled, f"its source {name} alone")
            yield f"the mix serves, as the ranker is surely worse: {text}"
    own = newest.today.own_beside_mix
    if own and _is_broken(own, metric):
        one = own.by_measure[metric]
        yield (
            f"the mix serves, as this version's own ranker seems broken: it finds {metric} of"
            f" {one.base + one.mean:.4f} and its own mix {one.base:.4f} for {own.users} held-out"
            " users"
        )


def _shortest_ndcg(ranker: RankerMeasures) -> str | None:
    """The name of ndcg of the shortest lists that were measured."""
    measured = ranker.beside_mix.by_measure if ranker.beside_mix else ()
    ks = [name.removeprefix(_NDCG) for name in measured if name.startswith(_NDCG)]
    shortest = min((int(k) for k in ks if k.isdigit()), default=None)
    return None if shortest is None else f"{_NDCG}{shortest}"


def _is_surely_better(pooled: PooledDays) -> bool:
    low = pooled.compared.low
    return low is not None and low > 0 and pooled.compared.differ >= LEAST_DIFFERENT


def _is_broken(own: PairedDifferences, metric: str) -> bool:
    """Whether all of the 95% interval of what a ranker finds lies below the share of what its mix does."""
    one = own.by_measure.get(metric)
    if one is None or one.differ < LEAST_DIFFERENT:
        return False
    most = one.base + one.mean + SURE * one.deviation / own.users**0.5
    return bool(most < _BROKEN * one.base)


def _as_text(pooled: PooledDays, other: str) -> str:
    compared = pooled.compared
    days = f" of {pooled.days} days" if pooled.days > 1 else ""
    return (
        f"{compared.name} of {compared.candidate:.4f}, {other} {compared.baseline:.4f}: a change of"
        f" {compared.change:+.1%} ({compared.low:+.1%} to {compared.high:+.1%}) over"
        f" {compared.users} users{days}, {compared.differ} of whom fare differently"
    )
