"""How far a version is ahead of `popular_today`: the items in the order of how often the day's
other users took them.

Those users are the ones that the version was trained on, so both lists know the same of the day;
the version's baseline knows nothing of it. Where what is taken changes by the day, that alone may
double a measure, whatever else the version is worth. A day that is easy is easy for both lists.
Their ratio, unlike the measure, can therefore be compared between days:

    lift = measure of the version / measure of popular_today, for the same users held out of training

It is measured on users of the day itself, if they are `gate.min_users` or more. In metrics.json it
is called `lead`.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.evaluate import by_query, compare
from model.evaluation.evaluation_set import EvaluationSet
from model.evaluation.ranked_lists import RankedLists
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.metrics.list_metrics import means
from twinspire_core.sources.popular import same_for_all

DAYS_KEPT = 7
"""Earlier days whose lifts a version keeps."""

Lift = Mapping[str, Mapping[str, float]]
"""By measure: `lead`, its paired interval `low` to `high`, the measure of `popular_today`, and the
number of users whose two lists `differ` in the measure.
"""


Lifts = Mapping[str, Mapping[str, float]]
"""By day and measure: the `lead`."""


def popular_today(
    evaluation_set: EvaluationSet, corpus: pa.Table, taken: pa.Array | pa.ChunkedArray
) -> np.ndarray:
    """The corpus by how often the day's other users took each item, [C] int64 positions.

    Items that were taken equally often stand in the order of `popular_lately`.

    Args:
      evaluation_set: prepared for the corpus.
      corpus: `_item`.
      taken: ids, the item of each row of the day that is trained on.
    """
    items = corpus.column("_item").combine_chunks()
    place = pc.index_in(taken, value_set=items).drop_null().to_numpy()
    times = np.bincount(place, minlength=evaluation_set.items)
    # A stable sort of the order of `popular_lately` keeps that order among equals.
    lately = evaluation_set.lately
    return lately[np.argsort(-times[lately], kind="stable")]


def measure_lift(
    ctx: StageContext, evaluation_set: EvaluationSet, ranked: RankedLists, today: np.ndarray
) -> Lift | None:
    """The lift of lists. Measures that are 0 for `popular_today` are left out.

    Args:
      ctx: pipeline and day.
      evaluation_set: queries of users held out of training.
      ranked: the version's lists for them.
      today: from `popular_today`.

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
    own = ranked.counted(exclude_seen)[:, : max(ks)]
    changes = compare(evaluation_set, own, popular, ks)
    popular_means = means(by_query(evaluation_set, popular, ks))
    lift = {}
    for measure, change in changes.items():
        if "/" in measure:  # of a slice
            continue
        # The ratio a / b is one more than the change a / b - 1, and so are the interval's ends.
        ratios = {"lead": 1 + change["change"]}
        if "low" in change:
            ratios["low"] = 1 + change["low"]
            ratios["high"] = 1 + change["high"]
        lift[measure] = {
            **ratios,
            "popular_today": popular_means[measure],
            "differ": change["differ"],
        }
    return lift


def lifts_after(ctx: StageContext, own: Lift | None) -> Lifts:
    """The lifts that the version of the day keeps: its own, and those of earlier versions of its
    line, up to `DAYS_KEPT`. Lifts of lists of the other kind, from before `serving.exclude_seen`
    was changed, are not kept: they say nothing of those that count now.

    Args:
      ctx: day and parent.
      own: from `measure_lift`.

    Returns: lifts by day and measure.
    """
    parent = DayMetrics.find(ctx.parent.home) if ctx.parent else None
    counted = ctx.pipeline.serving.counted_lists
    before = parent.leads if parent and parent.counted_lists == counted else {}
    lifts = {day: before[day] for day in sorted(before)[-DAYS_KEPT:]}
    if own:
        lifts[str(ctx.day)] = {measure: x["lead"] for measure, x in own.items()}
    return lifts
