"""The gate's rule on losses that add up: a version against the best accepted one before it.

Each day's loss may be too small to be refused, and the next day's is measured against what is left.
So the version is also held against the one of the 30 days before at which the line of accepted
versions stood highest (twinspire/runs/best_version.py), on the same users: refused when the whole
paired interval lies below `gate.max_drop`. Where the best one is the baseline, that comparison is
the baseline's, with the rule on losses as it is.

Of some hundred users even a third lost may be chance on one day. Each day asks other users, so the
days on which the line was held against the same best version are put together: refused when all
of that interval lies below `gate.max_drop`, unless the day itself says otherwise.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Self

from index_builder.gate.comparison import (
    LEAST_DIFFERENT,
    ComparedMeasure,
    Finding,
    compare_all,
)
from index_builder.gate.pooled_days import PooledDays, pool_days
from twinspire_core.config.tables.gate import GateConfig
from twinspire_core.contracts.day_metrics import (
    MEMORY_DAYS,
    BestMeasures,
    HeldOutMeasures,
    MeasuredDay,
)
from twinspire_core.contracts.gate_verdict import BestFigures
from twinspire_core.contracts.measures import PairedDifferences


@dataclass(frozen=True, slots=True, kw_only=True)
class LineMemory:
    """What is remembered of the line that a version goes on.

    Attributes:
      day: the version's.
      best: the best accepted version before; None where the line is not remembered.
      line: by day.
    """

    day: date
    best: BestMeasures | None
    line: Mapping[str, MeasuredDay]

    def since(self, overruled: Collection[str]) -> Self:
        """What counts where somebody promoted versions despite the gate: the days after the newest
        of them. The losses before were accepted with it, and would otherwise be held against every
        later day.
        """
        kept = dict[str, MeasuredDay]()
        for name in sorted(self.line, reverse=True):
            kept[name] = self.line[name]
            if kept[name].against in overruled:
                break
        return replace(self, line=kept)

    def beside_best(self) -> dict[str, PairedDifferences | None]:
        """By day, the line's version of that day beside the best one."""
        version = self.best.version if self.best else None
        found = dict[str, PairedDifferences | None]()
        for name, one in self.line.items():
            if one.best == version:
                found[name] = one.beside_best
            elif one.against == version:
                found[name] = one.two_tower
        return found

    def pool_two_tower(self, lists: HeldOutMeasures, gate: GateConfig) -> PooledDays | None:
        """The line's versions beside their baselines, where held-out users of the day and of days
        before are too few; None where they are enough, or are too few together, too.
        """
        days = {name: one.two_tower for name, one in self.line.items()}
        return self._pool(days, lists, gate)

    def pool_fixed_order(
        self, order: HeldOutMeasures | None, gate: GateConfig
    ) -> PooledDays | None:
        """The same of lists in their fixed orders."""
        if order is None or order.candidate is None:
            return None
        return self._pool({name: one.fixed_order for name, one in self.line.items()}, order, gate)

    def _pool(
        self,
        days: Mapping[str, PairedDifferences | None],
        lists: HeldOutMeasures,
        gate: GateConfig,
    ) -> PooledDays | None:
        if lists.baseline is None or lists.users >= gate.min_users:
            return None
        pooled = pool_days(days, self.day, gate.metric, enough=gate.min_users)
        return pooled if pooled and pooled.compared.users >= gate.min_users else None


class BestComparison:
    """A version beside the best accepted one.

    Attributes:
      best: the latter.
      compared: on held-out users of the day, and if they are few of days before.
      pooled: the line beside the same best version, several days together; None of a single day.
    """

    def __init__(
        self, two_tower: HeldOutMeasures, memory: LineMemory, best: BestMeasures, metric: str
    ) -> None:
        """Compares a measure."""
        lists = HeldOutMeasures(
            users=two_tower.users,
            candidate=two_tower.candidate,
            baseline=best.measures,
            change=best.change,
        )
        self.best = best
        self.compared: ComparedMeasure = compare_all(lists, metric)
        pooled = pool_days(memory.beside_best(), memory.day, metric, enough=None)
        self.pooled: PooledDays | None = pooled if pooled and pooled.days > 1 else None

    def figures(self) -> BestFigures:
        """As JSON can hold them."""
        pooled = self.pooled.figures() if self.pooled else None
        return BestFigures(
            version=self.best.version,
            ahead=self.best.ahead,
            pooled=pooled,
            **self.compared.figures(),
        )


def compare_with_best(
    two_tower: HeldOutMeasures, memory: LineMemory | None, metric: str
) -> BestComparison | None:
    """Compares a version with the best accepted one; None where that is its baseline, or none is
    known.
    """
    if memory is None or memory.best is None or memory.best.measures is None:
        return None
    return BestComparison(two_tower, memory, memory.best, metric)


def judge_memory(
    two_tower: HeldOutMeasures, memory: LineMemory | None, gate: GateConfig
) -> Iterator[Finding]:
    """Holds a version against the best accepted one; notes what cannot be told."""
    if memory is None or two_tower.baseline is None:
        return
    if memory.best is None:
        why = (
            "its baseline was made before versions remembered the ones before them, or before"
            " serving.exclude_seen was changed"
        )
        yield Finding(
            False, f"not compared with the best version of the {MEMORY_DAYS} days before: {why}"
        )
        return
    if memory.best.gone:
        gone = ", ".join(memory.best.gone)
        text = f"the best accepted before it are gone, pruned or deleted: {gone}"
        yield Finding(False, f"{text}; the best of those left is {memory.best.version}")
    found = compare_with_best(two_tower, memory, gate.metric)
    if found:
        yield from _judge(found, gate)
        if found.best.unread:
            unread = ", ".join(found.best.unread)
            why = "the pipeline file was edited, and these features are missing for"
            yield Finding(False, f"{why} {found.best.version}: {unread}")


def _judge(comparison: BestComparison, gate: GateConfig) -> Iterator[Finding]:
    of_day = comparison.compared
    is_judged = of_day.users >= gate.min_users and of_day.change is not None
    if is_judged and _surely_beyond(of_day, gate):
        yield Finding(True, _as_text(comparison, of_day, gate))
        return
    # A line that has recovered is not refused for the days before
    recovered = is_judged and not _beyond(of_day, gate)
    pooled = comparison.pooled
    if pooled and not recovered and _refuses(pooled, gate):
        text = _as_text(comparison, pooled.compared, gate)
        yield Finding(True, f"{text}; {pooled.where}, each day's version against it")
    elif is_judged and _beyond(of_day, gate):
        yield Finding(False, f"{_as_text(comparison, of_day, gate)}; this may be chance")


def _refuses(pooled: PooledDays, gate: GateConfig) -> bool:
    return pooled.compared.users >= gate.min_users and _surely_beyond(pooled.compared, gate)


def _beyond(compared: ComparedMeasure, gate: GateConfig) -> bool:
    return compared.change is not None and compared.change < -gate.max_drop


def _surely_beyond(compared: ComparedMeasure, gate: GateConfig) -> bool:
    below = compared.high is not None and compared.high < -gate.max_drop
    return below and compared.differ >= LEAST_DIFFERENT


def _as_text(comparison: BestComparison, compared: ComparedMeasure, gate: GateConfig) -> str:
    best = (
        f"{comparison.best.version}, the best accepted version of the {MEMORY_DAYS} days before it"
    )
    return (
        f"{compared.name} is {compared.candidate:.4f}, {best}, has {compared.baseline:.4f}"
        f"{compared.change_as_text}; all of the interval below -gate.max_drop = -{gate.max_drop:g}"
        " is refused"
    )
