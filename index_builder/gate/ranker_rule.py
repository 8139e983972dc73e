"""The gate's rule on the ranker: whether it answers in place of the fixed order. It refuses no
version.

A version's ranker is fitted on the day and on days before, so that nobody can have judged it yet.
What is judged is how such rankers are made: on each day the parent's ranker beside the parent's fixed
order, for all users who were measured before the day was trained on. As many of the newest days as have
`ENOUGH_USERS` users between them are put together, 28 at the most. The ranker serves if

    it is surely better than the fixed order: all of the 95% interval lies above 0, and
    this version's own ranker does not surely find less than half of what its own fixed order does,
    for users held out of the day (95%): what was fitted today may be broken today.

The last is asked as of the end of the day, of what was taken during it: a ranker is fitted for what
comes next. On news, where that is something else, a good one finds a third less there. So only a
gross loss says something.

Else the fixed order serves, and a note says why. All of this is by `gate.metric`. A ranker is for the order
of the first places, of which recall@50 says nothing. So ndcg of the shortest lists is told beside
it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from index_builder.gate.comparison import LEAST_DIFFERENT, Finding
from index_builder.gate.memory_rule import LineMemory
from index_builder.gate.pooled_days import SURE, PooledDays, pool_days
from twinspire_core.config.source_names import FIXED_ORDER, RANKED
from twinspire_core.config.tables.gate import GateConfig
from twinspire_core.contracts.day_metrics import RankerMeasures
from twinspire_core.contracts.gate_verdict import OrderFigures, PooledFigures
from twinspire_core.contracts.measures import PairedDifferences

ENOUGH_USERS = 2_000
"""Users at which no older day is added: a gain of a few hundredths shows among so many."""
_BROKEN = 0.5
"""The share of what its own fixed order finds below which a ranker is broken. One that orders its some 300
candidates by chance finds a sixth of what is among them.
"""
_NDCG = "ndcg@"
_ORDER = "the fixed order"


class RankerJudgement(NamedTuple):
    """What was found.

    Attributes:
      serves: `ranked` or `fixed_order`.
      beside_order: the rankers of the newest days beside the fixed orders by `gate.metric`; None
        where nothing was measured.
      order: the same by ndcg of the shortest lists; None where that is `gate.metric`.
      notes: why the fixed order serves, or why the ranker does.
    """

    serves: str
    beside_order: PooledDays | None = None
    order: PooledDays | None = None
    notes: tuple[Finding, ...] = ()

    def figures(self) -> dict[str, PooledFigures]:
        """What there is for fields of `GateFigures`."""
        figures: dict[str, PooledFigures] = {}
        if self.beside_order:
            figures["ranker"] = self.beside_order.figures()
        if self.order:
            measured = self.order.compared
            figures["ranker_order"] = OrderFigures(
                measure=measured.name, days=self.order.days, **measured.figures()
            )
        return figures


def judge_ranker(
    ranker: RankerMeasures | None, memory: LineMemory | None, gate: GateConfig
) -> RankerJudgement:
    """Says what serves.

    Args:
      ranker: what was measured; None without `ranking.enabled`.
      memory: what is remembered of the days before.
      gate: the limits.
    """
    if ranker is None:
        return RankerJudgement(FIXED_ORDER)
    newest = _NewestDays(ranker, memory)
    beside_order = newest.beside_order(gate.metric)
    other = _shortest_ndcg(ranker)
    order = newest.beside_order(other) if other and other != gate.metric else None
    if ranker.fitted is None:
        notes = [f"no ranker: too few users to fit one on (ranking.min_users); {_ORDER} serves"]
        serves = FIXED_ORDER
    else:
        notes = list(_against(newest, gate))
        serves = FIXED_ORDER if notes else RANKED
        if beside_order and not notes:
            notes.append(f"the ranker serves: {_as_text(beside_order)}")
        if order:
            notes.append(f"by another measure the ranker has {_as_text(order)}")
    return RankerJudgement(serves, beside_order, order, tuple(Finding(False, n) for n in notes))


@dataclass(frozen=True, slots=True)
class _NewestDays:
    """Rankers of the newest days.

    Attributes:
      today: what was measured on the day.
      memory: of the days before; None where nothing is remembered.
    """

    today: RankerMeasures
    memory: LineMemory | None

    def beside_order(self, metric: str) -> PooledDays | None:
        """Beside the fixed orders; None where nothing was measured."""
        if self.memory is None:
            return None
        days = {day: one.ranked_beside_fixed_order for day, one in self.memory.line.items()}
        days[str(self.memory.day)] = self.today.beside_fixed_order
        return pool_days(days, self.memory.day, metric, enough=ENOUGH_USERS, sure=SURE)


def _against(newest: _NewestDays, gate: GateConfig) -> Iterator[str]:
    """What speaks against the ranker."""
    beside = newest.beside_order(gate.metric)
    if beside is None or beside.compared.users < gate.min_users:
        users = beside.compared.users if beside else 0
        yield (
            f"{_ORDER} serves: the ranker was measured beside it on {users} users so far, fewer than"
            f" gate.min_users = {gate.min_users}"
        )
        return
    if not _is_surely_better(beside):
        text = _as_text(beside)
        few = beside.compared.differ < LEAST_DIFFERENT
        why = f"; that takes {LEAST_DIFFERENT} who do" if few else ""
        yield f"{_ORDER} serves, as the ranker is not surely better: {text}{why}"
    yield from _broken(newest, gate.metric)


def _broken(newest: _NewestDays, metric: str) -> Iterator[str]:
    own = newest.today.own_beside_fixed_order
    if own and _is_broken(own, metric):
        one = own.by_measure[metric]
        yield (
            f"{_ORDER} serves, as this version's own ranker seems broken: it finds {metric} of"
            f" {one.base + one.mean:.4f} and its own fixed order {one.base:.4f} for {own.users}"
            " held-out users"
        )


def _shortest_ndcg(ranker: RankerMeasures) -> str | None:
    """The name of ndcg of the shortest lists that were measured."""
    beside = ranker.beside_fixed_order
    measured = beside.by_measure if beside else ()
    ks = [name.removeprefix(_NDCG) for name in measured if name.startswith(_NDCG)]
    shortest = min((int(k) for k in ks if k.isdigit()), default=None)
    return None if shortest is None else f"{_NDCG}{shortest}"


def _is_surely_better(pooled: PooledDays) -> bool:
    low = pooled.compared.low
    return low is not None and low > 0 and pooled.compared.differ >= LEAST_DIFFERENT


def _is_broken(own: PairedDifferences, metric: str) -> bool:
    """Whether all of the 95% interval of what a ranker finds lies below the share of what its fixed
    order does.
    """
    one = own.by_measure.get(metric)
    if one is None or one.differ < LEAST_DIFFERENT:
        return False
    most = one.base + one.mean + SURE * one.deviation / own.users**0.5
    return bool(most < _BROKEN * one.base)


def _as_text(pooled: PooledDays) -> str:
    compared = pooled.compared
    days = f" of {pooled.days} days" if pooled.days > 1 else ""
    return (
        f"{compared.name} of {compared.candidate:.4f}, {_ORDER} {compared.baseline:.4f}: a change of"
        f" {compared.change:+.1%} ({compared.low:+.1%} to {compared.high:+.1%}) over"
        f" {compared.users} users{days}, {compared.differ} of whom fare differently"
    )
