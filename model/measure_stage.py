"""The measure stage: how good the parent's lists for the day were, before the day was trained on, and
the day's version's for users who were held out. It also fits what orders candidates after the day. It
reads vectors that the train stage left, so that it needs no TensorFlow.

    metrics.json   what was measured (twinspire_core/contracts/day_metrics.py)
    fixed_order.json  weights of the sources (twinspire_core/fusion/rank_fusion.py)
    ranking_rows/  candidates of the newest days (twinspire_core/contracts/ranker_files.py)
    ranker.json, ranker.txt  the ranker that was fitted on them; not there without one
    examples.json  lists of a few users held out (twinspire_core/contracts/day_metrics.py)
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from model.evaluation.day_lists import DayLists, list_day
from model.evaluation.day_queries import (
    HELD_OUT,
    HELD_OUT_CLICKS,
    NEXT_CLICK,
    NEXT_DAY,
    localize,
    not_held_out,
)
from model.evaluation.diagnostics import pick_examples, popularity_figures
from model.evaluation.evaluate import (
    MeasuresDict,
    compare,
    evaluate_baselines,
    evaluate_ranked,
)
from model.evaluation.evaluation_set import DayData, read_day
from model.evaluation.ranked_lists import RankedLists
from model.evaluation.version_line import (
    Lead,
    compare_with_best,
    leads_after,
    line_after,
    measure_lead,
    popular_today,
    remember_day,
)
from model.ranking.day_orders import fit_day
from twinspire_core import storage
from twinspire_core.config.source_registry import FIXED_ORDER, RANKED, TWO_TOWER
from twinspire_core.contracts import day_metrics, feature_schema, trained_day
from twinspire_core.contracts.attempts import BestAccepted, Gap, StageContext
from twinspire_core.contracts.day_metrics import DayMetrics, HeldOutMeasures, NextClickMeasures
from twinspire_core.contracts.measures import Measures
from twinspire_core.contracts.ranker_files import needs_replay
from twinspire_core.contracts.trained_day import TrainedDay
from twinspire_core.sources.candidate_sources import fits_of


def run(ctx: StageContext) -> dict[str, Any]:
    """Runs the stage."""
    trained = TrainedDay.read(ctx.inputs["train"])
    ctx = _as_trained(ctx, trained)
    with tempfile.TemporaryDirectory() as scratch:
        tables = [
            storage.join(name, feature_schema.AT_START)
            for name in fits_of(ctx.pipeline.sources.use)
        ]
        # A first day, or one after a gap, has no rows of days before to fit a ranker on but these.
        if needs_replay(ctx.day, ctx.parent):
            tables.append(feature_schema.REPLAY)
        features = localize(ctx, tables, Path(scratch) / "features")
        out = Path(scratch) / "out" if storage.is_remote(ctx.out) else Path(ctx.out)
        out.mkdir(parents=True, exist_ok=True)
        day = read_day(ctx, features)
        lists = list_day(ctx, trained, features, day)
        metrics = measure_day(ctx, features, day, lists, trained, out)
        metrics.write(out)
        held_out, ranked = day.evaluation_sets[HELD_OUT], lists.version.ranked[HELD_OUT]
        examples = pick_examples(ctx.pipeline, held_out, ranked, day.corpus)
        (out / day_metrics.EXAMPLES).write_bytes(day_metrics.dump_examples(examples))
        if storage.is_remote(ctx.out):
            storage.upload_tree(out, ctx.out)
    return {
        "progressive": _headline(ctx, metrics.progressive),
        "holdout": {
            "users": metrics.holdout.users,
            "candidate": _headline(ctx, metrics.holdout.candidate),
            "baseline": _headline(ctx, metrics.holdout.baseline),
        },
    }


def _as_trained(ctx: StageContext, trained: TrainedDay) -> StageContext:
    """With the best accepted version and the gaps that there were when the day was trained."""
    # Others may have been accepted or refused since: measures must be of the versions that encoded.
    accepted = None
    if best := trained.best:
        accepted = BestAccepted(
            version=best.version, home="", ahead=best.ahead, gone=tuple(best.gone)
        )
    gaps = (map(date.fromisoformat, (gap["from"], gap["to"])) for gap in trained.gaps)
    return replace(ctx, best=accepted, gaps=tuple(Gap(first, last) for first, last in gaps))


def _headline(ctx: StageContext, measures: Measures | None) -> dict[str, float] | None:
    """The measures that the last line of the stage's output shows, in its order."""
    if measures is None:
        return None
    ks = ctx.pipeline.evaluation.ks
    names = [
        *(f"recall@{k}" for k in ks),
        f"ndcg@{min(ks)}",
        f"hit_rate@{min(ks)}",
        "mrr",
        f"coverage@{max(ks)}",
    ]
    return {name: round(measures.values[name], 5) for name in names if name in measures.values}


def measure_day(
    ctx: StageContext,
    features: Path,
    day: DayData,
    lists: DayLists,
    trained: TrainedDay,
    out: Path,
) -> DayMetrics:
    """Measures the parent and the day's version, and fits what orders candidates after the day.

    Args:
      ctx: says what is measured, and which versions are compared.
      features: local folder of the features attempt.
      day: queries and their answers.
      lists: of the parent, the best accepted and the day's version, and of sources.
      trained: what the train stage says of itself.
      out: local folder that what is fitted is written to.
    """
    ks = ctx.pipeline.evaluation.ks
    lead = _measure_lead(ctx, day, lists)
    progressive = _measure_before(NEXT_DAY, day, lists, ks)
    alone = lists.of_sources(ctx, day)
    baselines = _measure_baselines(NEXT_DAY, day, alone, ks)
    fixed_order, ranker = fit_day(ctx, features, day, lists, out)
    orders = {RANKED: ranker and ranker.progressive, FIXED_ORDER: fixed_order.progressive}
    on_day = {name: measured.values for name, measured in orders.items() if measured}
    on_day |= {TWO_TOWER: progressive or {}, **baselines}
    return DayMetrics(
        progressive=progressive,
        baselines=baselines,
        holdout=HeldOutMeasures(
            **_measure_held_out(HELD_OUT, ctx, day, lists),
            baselines=_measure_baselines(HELD_OUT, day, alone, ks),
            lead=lead,
        ),
        next_click=NextClickMeasures(
            progressive=_measure_before(NEXT_CLICK, day, lists, ks),
            baselines=evaluate_baselines(day.evaluation_sets[NEXT_CLICK], ks),
            holdout=HeldOutMeasures(**_measure_held_out(HELD_OUT_CLICKS, ctx, day, lists)),
        ),
        train=trained.train,
        leads=leads_after(ctx, lead),
        best=compare_with_best(ctx, day, lists),
        line=line_after(ctx, remember_day(ctx, day, lists, on_day)),
        fixed_order=fixed_order,
        ranker=ranker,
        parent_unread=lists.before.missing_columns,
        held_out_shares=trained.held_out_shares,
        gaps=[gap.describe(ctx.pipeline.name) for gap in ctx.gaps],
        auxiliary=trained.auxiliary,
        popularity=popularity_figures(
            ctx.pipeline,
            day,
            lists.version,
            trained_day.find_log_q(ctx.inputs["train"]),
        ),
        frequency=trained.frequency,
    )


def _measure_lead(ctx: StageContext, day: DayData, lists: DayLists) -> Lead | None:
    held_out = day.evaluation_sets[HELD_OUT]
    # Counted over the users that the version was trained on: both lists know the same of the day.
    today = popular_today(held_out, day.corpus, not_held_out(day.events).column("_item"))
    return measure_lead(ctx, held_out, lists.version.ranked[HELD_OUT], today)


def _measure_before(
    name: str, day: DayData, lists: DayLists, ks: Sequence[int]
) -> MeasuresDict | None:
    """Measures of the lists of what had not seen the day, in one evaluation set; None without them."""
    ranked = lists.before.ranked.get(name)
    # What stands behind the largest k would count in the mean reciprocal rank.
    return ranked and evaluate_ranked(day.evaluation_sets[name], ranked.first(max(ks)), ks)


def _measure_held_out(
    name: str, ctx: StageContext, day: DayData, lists: DayLists
) -> dict[str, Any]:
    """Measures of the version's lists and, if it has a parent, of the parent's, and how they differ."""
    ks = ctx.pipeline.evaluation.ks
    evaluation_set = day.evaluation_sets[name]
    ranked = lists.version.ranked[name].first(max(ks))
    baseline = change = None
    if ctx.parent is not None:
        baseline = _measure_before(name, day, lists, ks)
        seen = evaluation_set.exclude_seen
        before = lists.before.ranked[name].first(max(ks))
        change = compare(evaluation_set, ranked.counted(seen), before.counted(seen), ks)
    return {
        "users": evaluation_set.users,
        "days": evaluation_set.days,
        "candidate": evaluate_ranked(evaluation_set, ranked, ks),
        "baseline": baseline,
        "change": change,
    }


def _measure_baselines(
    name: str,
    day: DayData,
    alone: Mapping[str, Mapping[str, RankedLists]],
    ks: Sequence[int],
) -> dict[str, MeasuresDict]:
    """Measures of the lists that need no model, by name: simple ones, and of each source."""
    evaluation_set = day.evaluation_sets[name]
    return evaluate_baselines(evaluation_set, ks) | {
        source: evaluate_ranked(evaluation_set, ranked, ks)
        for source, ranked in alone.get(name, {}).items()
    }
