"""The gate's two rules on the ranker.

*Order* compares a version's ranker with that of the newest accepted version, for held-out users of the day.
Both order the same candidates. The candidates come from the earlier version's vectors and from counts at the
start of the day, so neither has seen the day. The unit is a user. A version is refused if the whole 95%
interval lies below -`gate.max_drop`. A shop with few held-out users is judged by all users of the day. The
new ranker was fitted on the choices of these users, so if it still loses, the version is broken.

*Recipe*: whether the ranker or the fixed order serves. This rule refuses no version. A version's ranker is
fitted on the day, so the day cannot judge it. It can judge the recipe: the ranker of the version before, on
all users of a day, before training on that day. The unit is a day. Over the newest 7 to 28 days, rankers are
compared with the best of the fixed order and each source alone. If they are significantly worse, the fixed
order serves. Rankers are still measured, and serve again once they are no longer significantly worse. Before
there are 7 such days, the ranker serves.
"""

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from statistics import fmean, stdev
from typing import NamedTuple

from index_builder.gate.comparison import (
    LEAST_DIFFERENT,
    MOST_DAYS,
    Finding,
    JudgedVersion,
    LineMemory,
    compare_all,
)
from twinspire_core.config.source_registry import FIXED_ORDER, RANKED
from twinspire_core.config.tables.deployment import IndexConfig
from twinspire_core.config.tables.quality import GateConfig
from twinspire_core.contracts.gate_verdict import RecipeFigures
from twinspire_core.display.table import counted

# Days with measured trees before the recipe is judged.
_LEAST_DAYS = 7
# fmt: off
# Half the width of a 99% interval by Student's t for the mean of 7, 8, … 28 days, in standard errors. Why
# 99%: every day the best of several lists is compared, and repeated tests must be surer than a single one.
_SURE = (3.707, 3.499, 3.355, 3.250, 3.169, 3.106, 3.055, 3.012, 2.977, 2.947, 2.921, 2.898, 2.878,
         2.861, 2.845, 2.831, 2.819, 2.807, 2.797, 2.787, 2.779, 2.771)
# fmt: on


class RecipeJudgement(NamedTuple):
    """What serves, and why.

    Attributes:
      serves: `ranked` or `fixed_order`.
      note: why the fixed order serves, or what is not known yet; may be empty.
      figures: what was compared; None before there are enough days.
    """

    serves: str
    note: str = ""
    figures: RecipeFigures | None = None


def judge_recipe(version: JudgedVersion, gate: GateConfig) -> RecipeJudgement:
    """Decides whether the ranker or the fixed order serves."""
    ranker, memory = version.ranker, version.memory
    if ranker is None:
        return RecipeJudgement(FIXED_ORDER)
    if ranker.fitted is None:
        return RecipeJudgement(
            FIXED_ORDER, "the fixed order serves: too few users to fit a ranker on"
        )
    days = _days(memory, gate.metric) if memory else []
    if len(days) < _LEAST_DAYS:
        return RecipeJudgement(
            RANKED,
            "the ranker serves. It is not compared with the fixed order and single sources yet: it was"
            f" measured on {counted(len(days), 'day')}, {_LEAST_DAYS} are needed",
        )
    figures = _compare(days)
    if figures.is_below:
        return RecipeJudgement(FIXED_ORDER, figures.why_not(gate.metric), figures)
    return RecipeJudgement(RANKED, figures=figures)


def _days(memory: LineMemory, metric: str) -> list[Mapping[str, float]]:
    """By list, its measure on each of the newest days that had trees."""
    oldest = memory.day - timedelta(days=MOST_DAYS - 1)
    days = list[Mapping[str, float]]()
    for name, day in memory.line.items():
        measured = {by: values[metric] for by, values in day.lists.items() if metric in values}
        if RANKED in measured and oldest <= date.fromisoformat(name) <= memory.day:
            days.append(measured)
    return days


def _compare(days: list[Mapping[str, float]]) -> RecipeFigures:
    """The trees against the list that did best on the same days."""
    # A source that was added later has fewer days. It counts once it has all of them
    names = set.intersection(*(set(day) for day in days)) - {RANKED}
    best = max(sorted(names), key=lambda name: fmean(day[name] for day in days))
    # Paired by day: an easy day is easy for both
    differences = [day[RANKED] - day[best] for day in days]
    mean = fmean(differences)
    reach = _SURE[len(days) - _LEAST_DAYS] * stdev(differences) / len(days) ** 0.5
    return RecipeFigures(
        days=len(days),
        beside=best,
        trees=fmean(day[RANKED] for day in days),
        other=fmean(day[best] for day in days),
        mean=mean,
        low=mean - reach,
        high=mean + reach,
    )


def note_recipe(version: JudgedVersion, gate: GateConfig, _: IndexConfig) -> Iterator[Finding]:
    """Notes why the fixed order serves, or what is not known yet."""
    if note := judge_recipe(version, gate).note:
        yield Finding(False, note)


def judge_order(version: JudgedVersion, gate: GateConfig, _: IndexConfig) -> Iterator[Finding]:
    """Compares a version's trees with those before; notes what cannot be compared."""
    ranker = version.ranker
    if ranker is None or ranker.fitted is None:
        return
    trees = compare_all(ranker.holdout, gate.metric)
    # With few held-out users, the trees are also compared on all users of the day.
    if not trees.is_known and ranker.on_day.change:
        trees = compare_all(ranker.on_day, gate.metric)
    if ranker.holdout.baseline is None:
        yield Finding(
            False,
            "the ranker is not compared with an earlier one: the version before has none for the same"
            " sources. Later rankers are compared with this one",
        )
    elif not trees.differ:
        yield Finding(
            False,
            "the ranker is not compared with that of the version before: it is the same, or gives the"
            " same lists",
        )
    elif trees.change is None or not trees.is_known:
        yield Finding(
            False,
            "the ranker is not compared with that of the version before: the lists of"
            f" only {trees.differ} held-out users differ, {LEAST_DIFFERENT} are needed",
        )
    elif trees.surely_lost(gate.max_drop):
        yield Finding(
            True,
            f"{trees.name} of the ranker is {trees.candidate:.4f}; the ranker of the version before reaches"
            f" {trees.baseline:.4f} on the same candidates{trees.change_as_text}. The gate refuses this:"
            f" the whole interval is below -gate.max_drop = -{gate.max_drop:g}",
        )
