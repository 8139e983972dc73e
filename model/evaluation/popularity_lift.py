"""How far a version is ahead of `popular_today`: the items by how often the day's other users took
them.

Those users are whom the version was trained on, so both lists know the same of the day; the
version's baseline knows nothing of it. Where what is taken changes by the day, that alone may
double a measure, whatever else the version is worth. A day that is easy is so for both lists, hence
their ratio, unlike the measure, may be compared between days:

    lead = measure of the version / measure of popular_today, for the same users held out of
    training

It is measured on users of the day itself, where these are `gate.min_users` or more.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.evaluate import by_query, compare
from model.evaluation.evaluation_set import EvaluationSet
from model.evaluation.ranked_lists import RankedLists
from model.evaluation.tower_lists import Lift
from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.contracts.stage_context import StageContext
from twinspire_core.metrics.ranking import means
from twinspire_core.sources.baselines import same_for_all

KEPT = 7
"""Days before whose leads a version's line remembers."""


def popular_today(
    split: EvaluationSet, corpus: pa.Table, taken: pa.Array | pa.ChunkedArray
) -> np.ndarray:
    """Positions of the corpus by how often the day's other users took them, [C] int64; ties as
    `popular_lately`.

    Args:
      split: prepared for the corpus.
      corpus: `_item`.
      taken: ids, the item of each row of the day that is trained on.
    """
    place = (
        pc.index_in(taken, value_set=corpus.column("_item").combine_chunks()).drop_null().to_numpy()
    )
    times = np.bincount(place, minlength=split.items)
    return split.lately[np.argsort(-times[split.lately], kind="stable")]


def measure_lift(
    ctx: StageContext, asked: EvaluationSet, ranked: RankedLists, today: np.ndarray
) -> Lift | None:
    """The lead of lists, by measure: `measure_lift` with its paired interval, `low` and `high`;
    `popular_today`, the measure of that list; and the number of users whose two lists `differ` in
    it. What that list finds nothing by is left out.

    Args:
      ctx: pipeline and day.
      asked: users held out of training.
      ranked: the version's lists for them.
      today: from `popular_today`.

    Returns: None where too few users were asked, or some about another day.
    """
    p, split = ctx.pipeline, asked
    days = asked.queries.column("_day").unique().to_pylist()
    if split.users < p.gate.min_users or days != [ctx.day]:
        return None
    ks = p.evaluation.ks
    other = same_for_all(today, split.truth.rows, max(ks))
    changes = compare(split, ranked.kept[:, : max(ks)], other, ks)
    theirs = means(by_query(split, other, ks))
    ratios = {"change": "lead", "low": "low", "high": "high"}
    return {
        name: {
            **{ratio: 1 + told[change] for change, ratio in ratios.items() if change in told},
            "popular_today": theirs[name],
            "differ": told["differ"],
        }
        for name, told in changes.items()
        if "/" not in name
    }


def lifts_after(ctx: StageContext, own: Lift | None) -> Lift:
    """What the version of the day remembers: its line's leads of up to `KEPT` days before, and its
    own.

    Args:
      ctx: day and parent.
      own: from `measure_lift`.

    Returns: leads by day and measure.
    """
    parent = DayMetrics.find(ctx.parent.home) if ctx.parent else None
    before = parent.leads if parent else {}
    told = {name: x["lead"] for name, x in own.items()} if own else {}
    return {day: before[day] for day in sorted(before)[-KEPT:]} | (
        {str(ctx.day): told} if told else {}
    )
