"""What a version carries along its line of parents, so that it can be judged over days: its lead over
`popular_today`, and how it did beside its baseline.

The gate compares a version with its baseline, which alone would let small losses add up day after
day. So metrics.json carries, along the line of parents, a day's mean paired difference from its
baseline, measure by measure: their running sum tells which version of the line stood highest
(index_builder/registry/parents.py). A day needs nothing but its parent for that.

Of days with few held-out users it also carries what is needed to pool them: for the users of the
day itself, mean and deviation of the differences. Held-out users of earlier days, who fill up a
day's comparison, are left out there, as they are among those of their own day. Nobody's id is kept.

`popular_today` are the items in the order of how often the day's other users took them: those that
the version was trained on, so that both lists know the same of the day. The version's baseline knows
nothing of it: where what is taken changes by the day, that alone may double a measure. A day that is
easy is easy for both lists, so that their ratio can be compared between days:

    lead = measure of the version / measure of popular_today, for the same users held out of training

It is measured on users of the day itself, if they are `gate.min_users` or more.
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.day_lists import DayLists
from model.evaluation.day_queries import HELD_OUT
from model.evaluation.evaluate import by_query, compare, evaluate_ranked, paired_differences
from model.evaluation.evaluation_set import DayData, EvaluationSet
from model.evaluation.ranked_lists import RankedLists
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
"""With so many times `gate.min_users` users of its own, a day is not pooled with others."""
_DIGITS = 7

Lead = Mapping[str, Mapping[str, float]]
"""By measure: `lead`, its paired interval `low` to `high`, the measure of `popular_today`, and the
number of users whose two lists `differ` in the measure.
"""


def popular_today(
    evaluation_set: EvaluationSet, corpus: pa.Table, taken: pa.Array | pa.ChunkedArray
) -> np.ndarray:
    """The corpus by how often the day's other users took each item, [C] int64 positions.

    Items that were taken equally often stand in the order of `popular_lately`.

    Args:
      evaluation_set: queries for that corpus, with its items by popularity.
      corpus: rows with an id each, `_item`.
      taken: ids, the item of each row of the day that is trained on.
    """
    items = corpus.column("_item").combine_chunks()
    position = pc.index_in(taken, value_set=items).drop_null()
    times = np.bincount(position, minlength=evaluation_set.items)
    # A stable sort of the order of `popular_lately` keeps that order among equals.
    lately = evaluation_set.lately
    return lately[np.argsort(-times[lately], kind="stable")]


def measure_lead(
    ctx: StageContext, evaluation_set: EvaluationSet, ranked: RankedLists, today: np.ndarray
) -> Lead | None:
    """The lead of lists over `popular_today`. Measures that are 0 for the latter are left out.

    Args:
      ctx: says which day, and how many users are enough.
      evaluation_set: queries of users held out of training.
      ranked: the version's lists for them.
      today: [C] int64, the order of `popular_today`.

    Returns: None if the users are too few, or some of them are of another day.
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
            # The ratio a / b is one more than the change a / b - 1, and so are the interval's ends.
            **{end: 1 + change[end] for end in ("low", "high") if end in change},
            "popular_today": popular_means[measure],
            "differ": change["differ"],
        }
        for measure, change in compare(evaluation_set, ours, popular, ks).items()
        if "/" not in measure  # of a slice
    }


def leads_after(ctx: StageContext, lead: Lead | None) -> dict[str, Mapping[str, float]]:
    """The leads that the version of the day keeps: its own, and those of earlier versions of its
    line, up to `LEADS_KEPT`.

    Returns: by day and measure.
    """
    parent = _parent_with_such_lists(ctx)
    before = parent.leads if parent else {}
    leads = {day: before[day] for day in sorted(before)[-LEADS_KEPT:]}
    if lead:
        leads[str(ctx.day)] = {measure: values["lead"] for measure, values in lead.items()}
    return leads


def is_pooled(users: int, min_users: int) -> bool:
    """Whether so many users of a day are few enough to be pooled with those of other days."""
    return users < ENOUGH * min_users


def compare_with_best(ctx: StageContext, day: DayData, lists: DayLists) -> BestMeasures | None:
    """The day's version beside the best accepted one, for users held out; None where no line is
    remembered. Where the best one is the parent, there is nothing to measure: that is compared anyway.
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
    # As long as those of the best version: what stands further behind would count in `mrr`.
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
    """What later days are to know of this version.

    Args:
      ctx: says which versions it is compared with.
      day: says which users are held out.
      lists: what this version, the parent and the best accepted version list for these.
      on_day: by list, its measures on all users of the day.

    Returns: None without a parent to measure it against.
    """
    if ctx.parent is None:
        return None
    ks = ctx.pipeline.evaluation.ks
    held_out = day.evaluation_sets[HELD_OUT]
    ours = lists.version.ranked[HELD_OUT].first(max(ks))
    parents = lists.before.ranked[HELD_OUT].first(max(ks))

    def beside(theirs: RankedLists) -> PairedDifferences | None:
        # Users of earlier days would be counted on their own day and here.
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
    """By list, the measures that the gate may look at; nothing of a day without trees."""
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
    """What the version of the day remembers: what was `measured` of it, if it has a parent, and of
    the versions before it.

    Returns: by day, oldest first.
    """
    parent = _parent_with_such_lists(ctx)
    before = parent.line if parent else {}
    # The next day looks 30 days back; it comes one day after this one at the earliest.
    oldest = ctx.day - timedelta(days=MEMORY_DAYS - 1)
    line = {day: before[day] for day in sorted(before) if date.fromisoformat(day) >= oldest}
    if measured:
        if not measured.lists:
            # Trees start again, such as with other sources: earlier ones say nothing about them.
            line = {day: each.model_copy(update={"lists": {}}) for day, each in line.items()}
        line[str(ctx.day)] = measured
    return line


def _parent_with_such_lists(ctx: StageContext) -> DayMetrics | None:
    """What the parent measured; None where other lists counted then, as `serving.exclude_seen` was
    changed: that says nothing of those that count now.
    """
    parent = DayMetrics.find(ctx.parent.home) if ctx.parent else None
    counted = ctx.pipeline.serving.counted_lists
    return parent if parent and parent.counted_lists == counted else None
