"""Measures that each version inherits from its parent and extends, so that the gate can look at many days.

Differences: the gate compares a version with its parent. By this alone, small losses could add up day after
day. So metrics.json lists the mean paired differences of each day from its parent. Their running sum shows
which version was best (index_builder/registry/parents.py), and a day needs only its parent to continue it.
Days with few held-out users also store mean and deviation of the differences, so that the gate can pool
days. No user ids are stored.
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from model.evaluation.day_queries import HELD_OUT
from model.evaluation.evaluate import compare, evaluate_ranked, paired_differences
from model.evaluation.evaluation_set import DayData
from model.evaluation.ranked_lists import DayLists, RankedLists
from twinspire_core.config.source_registry import RANKED
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.contracts.day_metrics import MEMORY_DAYS, BestMeasures, DayMetrics, MeasuredDay
from twinspire_core.contracts.measures import PairedDifferences
from twinspire_core.metrics import measure_names

ENOUGH = 5
"""A day with this many times `gate.min_users` users is not pooled with other days."""
_DIGITS = 7


def is_pooled(users: int, min_users: int) -> bool:
    """Whether a day has so few users that it is pooled with other days."""
    return users < ENOUGH * min_users


def compare_with_best(ctx: StageContext, day: DayData, lists: DayLists) -> BestMeasures | None:
    """Compares the day's version with the best accepted version on held-out users; None if no best
    version is known. If it is the parent, nothing is measured here: the parent is compared anyway.
    """
    if ctx.best is None:
        return None
    of_version: dict[str, Any] = {
        "version": ctx.best.version,
        "ahead": ctx.best.ahead,
        "gone": ctx.best.gone,
    }
    if lists.best is None:
        return BestMeasures(**of_version)
    ks = ctx.pipeline.evaluation.ks
    held_out = day.evaluation_sets[HELD_OUT]
    # As long as the best version's lists, because items further down would count in `mrr`.
    ours = lists.version.ranked[HELD_OUT].first(max(ks))
    theirs = lists.best.ranked[HELD_OUT]
    seen = held_out.exclude_seen
    return BestMeasures(
        **of_version,
        unread=lists.best.missing_columns,
        measures=evaluate_ranked(held_out, theirs, ks),
        change=compare(held_out, ours.counted(seen), theirs.counted(seen), ks),
    )


def remember_day(
    ctx: StageContext,
    day: DayData,
    lists: DayLists,
    on_day: Mapping[str, Mapping[str, Any]],
) -> MeasuredDay | None:
    """What later days need to know about this version.

    Args:
      lists: lists of this version, the parent and the best accepted version for held-out users.
      on_day: by list, its measures on all users of the day.

    Returns: None without a parent to compare with.
    """
    if ctx.parent is None:
        return None
    ks = ctx.pipeline.evaluation.ks
    held_out = day.evaluation_sets[HELD_OUT]
    ours = lists.version.ranked[HELD_OUT].first(max(ks))
    parents = lists.before.ranked[HELD_OUT].first(max(ks))

    def beside(theirs: RankedLists) -> PairedDifferences | None:
        # Held-out users of earlier days count on their own day. Here they would count twice.
        of_today = day.held_out_of(ctx.day)
        differences = paired_differences(held_out, ours, theirs, ks, of_today)
        is_few = is_pooled(differences.users, ctx.pipeline.gate.min_users)
        return differences if is_few else None

    of_all = paired_differences(held_out, ours, parents, ks)
    return MeasuredDay(
        against=ctx.parent.version,
        differences={name: pairs.mean for name, pairs in of_all.by_measure.items()},
        two_tower=beside(parents),
        best=ctx.besides.version if ctx.besides else None,
        beside_best=beside(lists.best.ranked[HELD_OUT]) if lists.best else None,
        lists=_judged_measures(on_day, ks),
    )


def _judged_measures(
    on_day: Mapping[str, Mapping[str, Any]], ks: Sequence[int]
) -> dict[str, dict[str, float]]:
    """By list, the measures that the gate may use; empty on a day without a ranker."""
    return {
        name: {
            measure: round(values[measure], _DIGITS)
            for measure in measure_names.headline(ks)
            if measure in values
        }
        for name, values in on_day.items()
        if RANKED in on_day
    }


def line_after(ctx: StageContext, measured: MeasuredDay | None) -> dict[str, MeasuredDay]:
    """The measures that the day's version stores, by day, oldest first: its own, and those of its
    ancestors.
    """
    parent = _parent_with_such_lists(ctx)
    before = parent.line if parent else {}
    # The next day is at least one day later and looks 30 days back: one day less is enough here.
    oldest = ctx.day - timedelta(days=MEMORY_DAYS - 1)
    line = {day: before[day] for day in sorted(before) if date.fromisoformat(day) >= oldest}
    if measured:
        if not measured.lists:
            # A new ranker starts, for example with other sources. Earlier rankers say nothing about it.
            line = {day: each.model_copy(update={"lists": {}}) for day, each in line.items()}
        line[str(ctx.day)] = measured
    return line


def _parent_with_such_lists(ctx: StageContext) -> DayMetrics | None:
    """The parent's metrics; None if `serving.exclude_seen` has changed, because they are of other lists."""
    parent = DayMetrics.find(ctx.parent.home) if ctx.parent else None
    counted = ctx.pipeline.serving.counted_lists
    return parent if parent and parent.counted_lists == counted else None
