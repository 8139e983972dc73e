"""What the gate knows of the versions before, along the line of parents."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import NamedTuple, Self

from index_builder.gate.comparison import ComparedMeasure, compare_all
from index_builder.gate.pooled_days import PooledDays, pool_days
from twinspire_core.config.tables.gate import GateConfig
from twinspire_core.contracts.day_metrics import BestMeasures, HeldOutMeasures, MeasuredDay
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

    def pool_newest(self, lists: HeldOutMeasures, gate: GateConfig) -> PooledDays | None:
        """The line's versions beside their baselines, where held-out users of the day and of days
        before are too few; None where they are enough, or are too few together, too.
        """
        if lists.baseline is None or lists.users >= gate.min_users:
            return None
        days = {name: one.two_tower for name, one in self.line.items()}
        pooled = pool_days(days, self.day, gate.metric, enough=gate.min_users)
        return pooled if pooled and pooled.compared.users >= gate.min_users else None


class BestComparison(NamedTuple):
    """A version beside the best accepted one.

    Attributes:
      best: the latter.
      compared: on held-out users of the day, and if they are few of days before.
      pooled: the line beside the same best version, several days together; None of a single day.
    """

    best: BestMeasures
    compared: ComparedMeasure
    pooled: PooledDays | None

    def figures(self) -> BestFigures:
        """As JSON can hold them."""
        return BestFigures(
            version=self.best.version,
            ahead=self.best.ahead,
            pooled=self.pooled.figures() if self.pooled else None,
            **self.compared.figures(),
        )


def compare_with_best(
    two_tower: HeldOutMeasures, memory: LineMemory | None, metric: str
) -> BestComparison | None:
    """Compares a version with the best accepted one; None where that is its baseline, or none is
    known.
    """
    best = memory.best if memory else None
    if memory is None or best is None or best.measures is None:
        return None
    lists = HeldOutMeasures(
        users=two_tower.users,
        candidate=two_tower.candidate,
        baseline=best.measures,
        change=best.change,
    )
    pooled = pool_days(memory.beside_best(), memory.day, metric, enough=None)
    several = pooled if pooled and pooled.days > 1 else None
    return BestComparison(best, compare_all(lists, metric), several)
