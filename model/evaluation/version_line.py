"""Measures that each version inherits from its parent and extends, so that the gate can look at many days.

Differences: the gate compares a version with its parent. By this alone, small losses could add up day after
day. So metrics.json lists the mean paired differences of each day from its parent. Their running sum shows
which version was best (index_builder/registry/parents.py), and a day needs only its parent to continue it.
Days with few held-out users also store mean and deviation of the differences, so that the gate can pool
days. No user ids are stored.

Lead: how much better a version is than `popular_today`, the most popular items of the day among the users
that it was trained on. Both lists know the same about the day, and an easy day is easy for both. So leads of
different days can be compared, unlike plain measures:

    lead = measure of the version / measure of popular_today, for the same held-out users

A lead is measured on users of the day itself, if there are at least `gate.min_users`.
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.day_queries import HELD_OUT
from model.evaluation.evaluate import by_query, compare, evaluate_ranked, paired_differences
from model.evaluation.evaluation_set import DayData, EvaluationSet
from model.evaluation.ranked_lists import DayLists, RankedLists
from twinspire_core.config.source_registry import RANKED
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.contracts.day_metrics import MEMORY_DAYS, BestMeasures, DayMetrics, MeasuredDay
from twinspire_core.contracts.measures import PairedDifferences
from twinspire_core.metrics import measure_names
from twinspire_core.metrics.list_metrics import means
from twinspire_core.sources.popular_and_history import same_for_all

LEADS_KEPT = 7
"""Earlier days whose leads a version keeps."""
ENOUGH = 5
"""A day with this many times `gate.min_users` users is not pooled with other days."""
_DIGITS = 7

Lead = Mapping[str, Mapping[str, float]]
"""By measure: `lead`, its paired interval `low` to `high`, the measure of `popular_today`, and the
number of users whose two lists `differ` in the measure.
"""


def popular_today(
    evaluation_set: EvaluationSet, corpus: pa.Table, taken: pa.Array | pa.ChunkedArray
) -> np.ndarray:
    """The corpus in the order of how often the day's trained users took each item, [C] int64 positions.

    Args:
      corpus: rows with the column `_item`.
      taken: ids, the item of each training row of the day.
    """
    items = corpus.column("_item").combine_chunks()
    position = pc.index_in(taken, value_set=items).drop_null()
    times = np.bincount(position, minlength=evaluation_set.items)
    # A stable sort, so that items that were taken equally often stay in the order of `popular_lately`.
    lately = evaluation_set.lately
    return lately[np.argsort(-times[lately], kind="stable")]


def measure_lead(
    ctx: StageContext, evaluation_set: EvaluationSet, ranked: RankedLists, today: np.ndarray
) -> Lead | None:
    """The lead of lists over `popular_today`, without measures that are 0 for `popular_today`.

    Args:
      evaluation_set: queries of held-out users.
      ranked: the version's lists for them.
      today: [C] int64, the order of `popular_today`.

    Returns: None if there are too few users, or some are of another day.
    """
    days = evaluation_set.queries.column("_day").unique().to_pylist()
    if evaluation_set.users < ctx.pipeline.gate.min_users or days != [ctx.day]:
        return None
    ks = ctx.pipeline.evaluation.ks
    exclude_seen = evaluation_set.exclude_seen
    popular = same_for_all(
        today,
        evaluation_set.truth.rows,
        max(ks),
        exclude=evaluation_set.seen if exclude_seen else None,
    )
    ours = ranked.counted(exclude_seen)[:, : max(ks)]
    popular_means = means(by_query(evaluation_set, popular, ks))
    return {
        measure: {
            "lead": 1 + change["change"],
            # The ratio a / b is the change a / b - 1, plus one. The same holds for the interval.
            **{end: 1 + change[end] for end in ("low", "high") if end in change},
            "popular_today": popular_means[measure],
            "differ": change["differ"],
        }
        for measure, change in compare(evaluation_set, ours, popular, ks).items()
        if "/" not in measure  # of a slice
    }


def leads_after(ctx: StageContext, lead: Lead | None) -> dict[str, Mapping[str, float]]:
    """The leads that the day's version stores, by day and measure: its own and up to `LEADS_KEPT` of its
    ancestors.
    """
    parent = _parent_with_such_lists(ctx)
    before = parent.leads if parent else {}
    leads = {day: before[day] for day in sorted(before)[-LEADS_KEPT:]}
    if lead:
        leads[str(ctx.day)] = {measure: values["lead"] for measure, values in lead.items()}
    return leads


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
