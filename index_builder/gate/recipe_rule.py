"""The gate's two rules on trees.

*Order*: a version's trees against those of the newest accepted version, for users held out of the
day. Both order the same candidates, by the vectors of the version before and by counts as of the
day's start: neither has seen the day. A user is the unit. Refused when the whole 95% interval lies
below -`gate.max_drop`.

*Recipe*: whether trees serve, or the fixed order. It refuses no version. A version's trees are
fitted on the day, so that nobody can have judged them yet. What can be judged is how trees are made:
those of the version before, on all users of a day, before the day was trained on. A day is the unit.
Over the newest 7 to 28 days they are compared with the best of the fixed order and of each source
alone. If they are surely below, the fixed order serves from now on; it is measured on, and trees
serve again once they are no longer surely below. Before there are 7 days the trees serve.
"""

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from statistics import fmean, stdev
from typing import NamedTuple

from index_builder.gate.comparison import (
    LEAST_DIFFERENT,
    MOST_DAYS,
    Finding,
    LineMemory,
    compare_all,
)
from twinspire_core.config.source_names import FIXED_ORDER, RANKED
from twinspire_core.config.tables.gate import GateConfig
from twinspire_core.contracts.day_metrics import RankerMeasures
from twinspire_core.contracts.gate_verdict import RecipeFigures

LEAST_DAYS = 7
"""Days that say something of how trees are made."""
# fmt: off
_SURE = (3.707, 3.499, 3.355, 3.250, 3.169, 3.106, 3.055, 3.012, 2.977, 2.947, 2.921, 2.898, 2.878,
         2.861, 2.845, 2.831, 2.819, 2.807, 2.797, 2.787, 2.779, 2.771)
"""Standard errors to either side of the mean of 7, 8, … 28 days that a 99% interval by Student's t
reaches: of several lists the best is looked at, every day, which has to be surer than once."""
# fmt: on


class RecipeJudgement(NamedTuple):
    """What was found.

    Attributes:
      serves: `ranked` or `fixed_order`.
      figures: what was compared; None before there are enough days.
      notes: why the fixed order serves, or what is not known yet.
    """

    serves: str
    figures: RecipeFigures | None = None
    notes: tuple[Finding, ...] = ()


def judge_recipe(
    ranker: RankerMeasures | None, memory: LineMemory | None, gate: GateConfig
) -> RecipeJudgement:
    """Says what serves.

    Args:
      ranker: what was measured of trees; None where none were wanted.
      memory: what is remembered of the days.
      gate: says by which measure.
    """
    if ranker is None:
        return RecipeJudgement(FIXED_ORDER)
    if ranker.fitted is None:
        return _serves(FIXED_ORDER, None, "the fixed order serves: too few users to fit trees on")
    days = _days(memory, gate.metric) if memory else []
    if len(days) < LEAST_DAYS:
        known = f"they were measured on {len(days)} days, and {LEAST_DAYS} are needed"
        text = f"the trees serve, and are not compared with the fixed order and single sources: {known}"
        return _serves(RANKED, None, text)
    figures = _compare(days)
    if figures.is_below:
        return _serves(FIXED_ORDER, figures, figures.why_not(gate.metric))
    return RecipeJudgement(RANKED, figures)


def _serves(serves: str, figures: RecipeFigures | None, note: str) -> RecipeJudgement:
    return RecipeJudgement(serves, figures, (Finding(False, note),))


def _days(memory: LineMemory, metric: str) -> list[Mapping[str, float]]:
    """By list, the measure of each of the newest days on which there were trees."""
    oldest = memory.day - timedelta(days=MOST_DAYS - 1)
    found = list[Mapping[str, float]]()
    for name, one in memory.line.items():
        measured = {by: values[metric] for by, values in one.lists.items() if metric in values}
        if RANKED in measured and oldest <= date.fromisoformat(name) <= memory.day:
            found.append(measured)
    return found


def _compare(days: list[Mapping[str, float]]) -> RecipeFigures:
    """The trees beside the list that found most on the same days."""
    # A source that came later has fewer days: it counts once it has all of them
    others = set.intersection(*(set(day) for day in days)) - {RANKED}
    other = max(sorted(others), key=lambda name: fmean(day[name] for day in days))
    differences = [day[RANKED] - day[other] for day in days]
    mean = fmean(differences)
    reach = _SURE[len(days) - LEAST_DAYS] * stdev(differences) / len(days) ** 0.5
    return RecipeFigures(
        days=len(days),
        beside=other,
        trees=fmean(day[RANKED] for day in days),
        other=fmean(day[other] for day in days),
        mean=mean,
        low=mean - reach,
        high=mean + reach,
    )


def judge_order(ranker: RankerMeasures | None, gate: GateConfig) -> Iterator[Finding]:
    """Compares a version's trees with those before; notes what cannot be compared.

    Args:
      ranker: what was measured of trees; None where none were wanted.
    """
    if ranker is None or ranker.fitted is None:
        return
    unjudged = "the trees are not compared with those of the version before"
    if ranker.holdout.baseline is None:
        yield Finding(
            False, f"{unjudged}: there are none for the same sources. The rule begins here"
        )
        return
    one = compare_all(ranker.holdout, gate.metric)
    if one.change is None or not one.is_known:
        few = f"the lists of {one.differ} held-out users differ, {LEAST_DIFFERENT} are needed"
        yield Finding(False, f"{unjudged}: {few}")
    elif one.surely_lost(gate.max_drop):
        yield Finding(
            True,
            f"{one.name} of the trees is {one.candidate:.4f}, the trees of the version before find"
            f" {one.baseline:.4f} of the same candidates{one.change_as_text}; all of the interval"
            f" below -gate.max_drop = -{gate.max_drop:g} is refused",
        )
