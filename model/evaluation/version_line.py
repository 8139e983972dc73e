"""What a version remembers of the versions before it in its line: how each did beside its baseline.

The gate compares a version with its baseline, which alone would let small losses add up day after
day. So metrics.json carries, along the line of parents, a day's mean paired difference from its
baseline, measure by measure: their running sum tells which version of the line stood highest
(twinspire/runs/best_version.py). A day needs nothing but its parent for that.

Of days with few held-out users it also carries what is needed to pool them: for the users of the
day itself, mean and deviation of the differences. Held-out users of earlier days, who fill up a
day's comparison, are left out there, as they are among those of their own day. Nobody's id is kept.
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np

from model.evaluation.day_data import HELD_OUT, DayData
from model.evaluation.evaluate import by_query, compare, evaluate_ranked
from model.evaluation.evaluation_set import EvaluationSet, without_slices
from model.evaluation.ranked_lists import RankedLists, rank_baselines
from model.evaluation.version_evaluation import (
    BestEvaluation,
    EarlierVersions,
    VersionEvaluation,
)
from twinspire_core.config.source_names import RANKED
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.contracts.day_metrics import (
    MEMORY_DAYS,
    BestMeasures,
    DayMetrics,
    MeasuredDay,
)
from twinspire_core.contracts.measures import PairedDifference, PairedDifferences
from twinspire_core.metrics import measure_names

ENOUGH = 5
"""With so many times `gate.min_users` users of its own, a day is not pooled with others."""
_DIGITS = 7


def paired_differences(
    evaluation_set: EvaluationSet,
    ranked: RankedLists,
    other: RankedLists,
    ks: Sequence[int],
    chosen: np.ndarray | None = None,
    *,
    slices: bool = False,
) -> PairedDifferences:
    """How one set of lists differs from another, user by user.

    Args:
      evaluation_set: one query per user.
      ranked: the lists compared, of the kind that counts.
      other: the lists compared with.
      ks: list lengths.
      chosen: [U] bool, the queries that count; None for all.
      slices: also of each slice of users.
    """
    asked = evaluation_set if slices else without_slices(evaluation_set)
    seen = evaluation_set.exclude_seen
    ours = by_query(asked, ranked.counted(seen), ks)
    theirs = by_query(asked, other.counted(seen), ks)
    counted = np.ones(len(ranked.kept), bool) if chosen is None else chosen
    by_measure = {}
    judged = measure_names.headline(ks)
    for name, values in ours.items():
        measure, side, _ = measure_names.split_name(name)
        if measure not in judged or side == measure_names.ITEMS:
            continue
        difference = values - theirs[name]
        # Where a measure does not apply: newcomers count in their slice alone
        known = counted & np.isfinite(difference)
        if known.any():
            by_measure[name] = describe_differences(difference[known], theirs[name][known])
    users = evaluation_set.users_among(counted & evaluation_set.headline)
    return PairedDifferences(users=users, by_measure=by_measure)


def beside_simple_lists(
    evaluation_set: EvaluationSet, ranked: RankedLists | None, ks: Sequence[int]
) -> dict[str, PairedDifferences]:
    """How lists differ from each of the simple lists that are measured anyway, user by user; nothing
    without lists.

    Args:
      evaluation_set: one query per user.
      ranked: the lists compared.
      ks: list lengths.
    """
    if ranked is None:
        return {}
    simple = rank_baselines(evaluation_set, max(ks))
    return {
        name: paired_differences(evaluation_set, ranked, other, ks)
        for name, other in simple.items()
    }


def describe_differences(difference: np.ndarray, base: np.ndarray) -> PairedDifference:
    """What is kept of differences, [N] float64, and of the other lists' measure, [N]."""
    deviation = difference.std(ddof=1) if len(difference) > 1 else 0.0
    return PairedDifference(
        mean=round(float(difference.mean()), _DIGITS),
        base=round(float(base.mean()), _DIGITS),
        deviation=round(float(deviation), _DIGITS),
        differ=int(np.count_nonzero(difference)),
    )


def is_pooled(users: int, min_users: int) -> bool:
    """Whether so many users of a day are few enough to be pooled with those of other days."""
    return users < ENOUGH * min_users


def compare_with_best(
    ctx: StageContext, day: DayData, best: BestEvaluation | None, version: VersionEvaluation
) -> BestMeasures | None:
    """This version beside the best accepted one, for users held out.

    Args:
      ctx: pipeline, and which version that is.
      day: the evaluation sets.
      best: what it lists; None where it is the parent, which is compared anyway.
      version: what this version lists.

    Returns: None where no line is remembered.
    """
    if ctx.best is None:
        return None
    of_version: dict[str, Any] = {
        "version": ctx.best.version,
        "ahead": ctx.best.ahead,
        "gone": ctx.best.gone,
    }
    if best is None:
        return BestMeasures(**of_version)
    ks = ctx.pipeline.evaluation.ks
    held_out = day.evaluation_sets[HELD_OUT]
    ours = version.lists[HELD_OUT].first(max(ks))
    seen = held_out.exclude_seen
    return BestMeasures(
        **of_version,
        unread=best.missing_columns,
        measures=evaluate_ranked(held_out, best.lists, ks),
        change=compare(held_out, ours.counted(seen), best.lists.counted(seen), ks),
    )


def remember_day(
    ctx: StageContext,
    day: DayData,
    before: EarlierVersions,
    version: VersionEvaluation,
    on_day: Mapping[str, Mapping[str, Any]],
) -> MeasuredDay | None:
    """What later days are to know of this version.

    Args:
      ctx: pipeline, day and parent.
      day: the evaluation sets.
      before: what the parent and the best accepted version list for users held out.
      version: what this version lists for them.
      on_day: by list, its measures on all users of the day.

    Returns: None without a parent to measure it against.
    """
    if ctx.parent is None:
        return None
    ks = ctx.pipeline.evaluation.ks
    held_out = day.evaluation_sets[HELD_OUT]
    of_today = day.held_out_of(ctx.day)
    ours = version.lists[HELD_OUT].first(max(ks))
    parents = before.parent.lists[HELD_OUT].first(max(ks))

    def beside(theirs: RankedLists) -> PairedDifferences | None:
        # Users of earlier days would be counted on their own day and here.
        found = paired_differences(held_out, ours, theirs, ks, of_today)
        return found if is_pooled(found.users, ctx.pipeline.gate.min_users) else None

    of_all = paired_differences(held_out, ours, parents, ks)
    best = before.best
    return MeasuredDay(
        against=ctx.parent.version,
        differences={name: one.mean for name, one in of_all.by_measure.items()},
        two_tower=beside(parents),
        best=ctx.besides.version if ctx.besides else None,
        beside_best=beside(best.lists) if best else None,
        lists=_judged_measures(on_day, ks),
    )


def _judged_measures(
    on_day: Mapping[str, Mapping[str, Any]], ks: Sequence[int]
) -> dict[str, dict[str, float]]:
    """By list, the measures that the gate may look at; nothing of a day without trees."""
    judged = measure_names.headline(ks)
    return {
        name: {key: round(one[key], _DIGITS) for key in judged if key in one}
        for name, one in on_day.items()
        if RANKED in on_day
    }


def line_after(ctx: StageContext, own: MeasuredDay | None) -> dict[str, MeasuredDay]:
    """What the version of the day remembers: its own figures, and those of the versions before it.

    Args:
      ctx: day and parent.
      own: of the day's version; None without a parent.

    Returns: by day, oldest first.
    """
    parent = DayMetrics.find(ctx.parent.home) if ctx.parent else None
    # Lists of the other kind, from before `serving.exclude_seen` was changed, say nothing of these
    counted = ctx.pipeline.serving.counted_lists
    before: Mapping[str, MeasuredDay] = {}
    if parent and parent.counted_lists == counted:
        before = parent.line
    # The next day looks 30 days back, and is this day's morrow at the earliest.
    oldest = ctx.day - timedelta(days=MEMORY_DAYS - 1)
    line = {day: before[day] for day in sorted(before) if date.fromisoformat(day) >= oldest}
    if own:
        if not own.lists:
            # Trees start again, such as with other sources: earlier ones say nothing about them.
            line = {day: one.model_copy(update={"lists": {}}) for day, one in line.items()}
        line[str(ctx.day)] = own
    return line
