"""The measure stage: what the parent made of the day before it was trained on, and the day's version
of users who were held out; and what orders candidates after the day. It reads vectors that the train
stage left, so that it needs no TensorFlow.

    metrics.json   what was measured (twinspire_core/contracts/day_metrics.py)
    fixed_order.json  weights of the sources (twinspire_core/fusion/fixed_order.py)
    ranking_rows/  candidates of the newest days (twinspire_core/contracts/ranking_rows.py)
    ranker.json, ranker.txt  the ranker that was fitted on them; not there without one
    examples.json  lists of a few users held out (twinspire_core/contracts/example_lists.py)
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from model.evaluation.day_data import (
    HELD_OUT,
    HELD_OUT_CLICKS,
    NEXT_CLICK,
    NEXT_DAY,
    DayData,
    localize,
    read_day,
)
from model.evaluation.diagnostics import pick_examples, popularity_figures
from model.evaluation.evaluate import (
    MeasuresDict,
    compare,
    evaluate_baselines,
    evaluate_ranked,
    headline,
)
from model.evaluation.evaluation_set import EvaluationSet
from model.evaluation.other_baselines import other_baselines
from model.evaluation.popularity_lift import Lift, lifts_after, measure_lift, popular_today
from model.evaluation.ranked_lists import RankedLists
from model.evaluation.source_lists import costly_lists
from model.evaluation.version_evaluation import (
    EarlierVersions,
    ParentEvaluation,
    VersionEvaluation,
    rank_earlier,
    rank_version,
)
from model.evaluation.version_line import compare_with_best, line_after, remember_day
from model.fit_day import candidate_sources, fit_day
from twinspire_core import storage
from twinspire_core.config.source_names import FIXED_ORDER, RANKED, TWO_TOWER
from twinspire_core.contracts import example_lists, feature_schema, trained_day
from twinspire_core.contracts.attempts import BestAccepted, Gap, StageContext
from twinspire_core.contracts.day_metrics import DayMetrics, HeldOutMeasures, NextClickMeasures
from twinspire_core.contracts.measures import Measures
from twinspire_core.contracts.ranking_rows import needs_replay
from twinspire_core.contracts.trained_day import TrainedDay
from twinspire_core.fusion.candidate_pool import DEPTH
from twinspire_core.sources.registry import fits_of


def run(ctx: StageContext) -> dict[str, Any]:
    """Runs the stage."""
    train = ctx.inputs["train"]
    trained = TrainedDay.read(train)
    ctx = _as_trained(ctx, trained)
    with tempfile.TemporaryDirectory() as scratch:
        tables = [
            storage.join(name, feature_schema.AT_START)
            for name in fits_of(ctx.pipeline.sources.use)
        ]
        if needs_replay(ctx.day, ctx.parent):
            tables.append(feature_schema.REPLAY)
        features = localize(ctx, tables, Path(scratch) / "features")
        out = Path(scratch) / "out" if storage.is_remote(ctx.out) else Path(ctx.out)
        out.mkdir(parents=True, exist_ok=True)
        day = read_day(ctx, features)
        depth, k = list_depth(ctx), max(ctx.pipeline.evaluation.ks)
        before = rank_earlier(train, trained, day.evaluation_sets, depth, k)
        version = rank_version(train, day.evaluation_sets, depth)
        metrics = measure_day(ctx, features, day, before, trained, version, out)
        metrics.write(out)
        held_out = day.evaluation_sets[HELD_OUT]
        examples = pick_examples(ctx.pipeline, held_out, version.lists[HELD_OUT], day.corpus)
        (out / example_lists.FILE).write_bytes(example_lists.dump(examples))
        if storage.is_remote(ctx.out):
            storage.upload_tree(out, ctx.out)
    return _summary(ctx, metrics)


def _as_trained(ctx: StageContext, trained: TrainedDay) -> StageContext:
    """With the best accepted version and the gaps of when the day was trained."""
    best = trained.best
    accepted = (
        BestAccepted(version=best.version, home="", ahead=best.ahead, gone=tuple(best.gone))
        if best
        else None
    )
    gaps = (map(date.fromisoformat, (gap["from"], gap["to"])) for gap in trained.gaps)
    return replace(ctx, best=accepted, gaps=tuple(Gap(first, last) for first, last in gaps))


def _summary(ctx: StageContext, metrics: DayMetrics) -> dict[str, Any]:
    """What the last line of the stage's output says."""

    def short(measures: Measures | None) -> dict[str, float] | None:
        if measures is None:
            return None
        shown = headline(measures.values, ctx.pipeline.evaluation.ks)
        return {name: round(value, 5) for name, value in shown.items()}

    return {
        "progressive": short(metrics.progressive),
        "holdout": {
            "users": metrics.holdout.users,
            "candidate": short(metrics.holdout.candidate),
            "baseline": short(metrics.holdout.baseline),
        },
    }


def list_depth(ctx: StageContext) -> int:
    """Length of the lists that are searched for: enough to be measured, and to be ordered with others."""
    return max(*ctx.pipeline.evaluation.ks, DEPTH)


def measure_day(
    ctx: StageContext,
    features: Path,
    day: DayData,
    before: EarlierVersions,
    trained: TrainedDay,
    version: VersionEvaluation,
    out: Path,
) -> DayMetrics:
    """Measures the parent and the day's version, and fits what orders candidates after the day.

    Args:
      ctx: pipeline, day and parent.
      features: local folder of the features attempt.
      day: what is measured on.
      before: what the parent and the best accepted version list for the day; of a first version, what
        it listed itself before it was trained on the day.
      trained: what the train stage says of itself.
      version: what the trained version lists for users held out.
      out: local folder that what is fitted is written to.
    """
    parent = before.parent
    # As of the start of the day: none of the sources has seen what is to be found.
    sources = candidate_sources(ctx, features, day)
    costly = {
        name: costly_lists(sources, day.evaluation_sets[name], list_depth(ctx))
        for name in (NEXT_DAY, HELD_OUT)
    }
    quality = _Quality.of(
        day,
        parent,
        version,
        other_baselines(ctx, day, sources, costly),
        ctx.pipeline.evaluation.ks,
        has_baseline=ctx.parent is not None,
    )
    lift = _measure_lift(ctx, day, version)
    fixed_order, ranker = fit_day(ctx, features, day, sources, costly, parent, version, out)
    popularity = popularity_figures(
        ctx.pipeline,
        day.evaluation_sets[HELD_OUT],
        (version.encoded.queries(HELD_OUT), version.encoded.items),
        version.lists[HELD_OUT].counted(day.evaluation_sets[HELD_OUT].exclude_seen),
        day,
        trained_day.find_log_q(ctx.inputs["train"]),
    )
    progressive, baselines = quality.of_parent(NEXT_DAY), quality.of_baselines(NEXT_DAY)
    second = {RANKED: ranker and ranker.progressive, FIXED_ORDER: fixed_order.progressive}
    on_day = {name: one.values for name, one in second.items() if one}
    on_day |= {TWO_TOWER: progressive or {}, **baselines}
    return DayMetrics(
        progressive=progressive,
        baselines=baselines,
        holdout=HeldOutMeasures(
            **quality.of_both(HELD_OUT), baselines=quality.of_baselines(HELD_OUT), lead=lift
        ),
        next_click=NextClickMeasures(
            progressive=quality.of_parent(NEXT_CLICK),
            baselines=quality.of_baselines(NEXT_CLICK),
            holdout=HeldOutMeasures(**quality.of_both(HELD_OUT_CLICKS)),
        ),
        train=trained.train,
        leads=lifts_after(ctx, lift),
        best=compare_with_best(ctx, day, before.best, version),
        line=line_after(ctx, remember_day(ctx, day, before, version, on_day)),
        fixed_order=fixed_order,
        ranker=ranker,
        parent_unread=parent.missing_columns,
        held_out_shares=trained.held_out_shares,
        gaps=[gap.describe(ctx.pipeline.name) for gap in ctx.gaps],
        auxiliary=trained.auxiliary,
        popularity=popularity,
        frequency=trained.frequency,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Quality:
    """Measures of lists by evaluation set.

    Attributes:
      evaluation_sets: of the day.
      before: the lists of what had not seen the day: the parent, or a first version before it was
        trained on the day; empty without either.
      has_baseline: whether these are a parent's, which the version is compared with.
      after: this version's lists, for users held out.
      other_baselines: lists of further baselines, by evaluation set and name.
      ks: list lengths.
    """

    evaluation_sets: Mapping[str, EvaluationSet]
    before: Mapping[str, RankedLists]
    has_baseline: bool
    after: Mapping[str, RankedLists]
    other_baselines: Mapping[str, Mapping[str, RankedLists]]
    ks: Sequence[int]

    @classmethod
    def of(
        cls,
        day: DayData,
        parent: ParentEvaluation,
        version: VersionEvaluation,
        other_baselines: Mapping[str, Mapping[str, RankedLists]],
        ks: Sequence[int],
        *,
        has_baseline: bool,
    ) -> "_Quality":
        """Cuts the lists, which are longer than those measured.

        What stands behind the largest k would count in the mean reciprocal rank.
        """
        return cls(
            evaluation_sets=day.evaluation_sets,
            before={name: ranked.first(max(ks)) for name, ranked in parent.lists.items()},
            has_baseline=has_baseline,
            after={name: ranked.first(max(ks)) for name, ranked in version.lists.items()},
            other_baselines=other_baselines,
            ks=ks,
        )

    def of_parent(self, name: str) -> MeasuresDict | None:
        """Measures of the lists of what had not seen the day; None without them."""
        if name not in self.before:
            return None
        return evaluate_ranked(self.evaluation_sets[name], self.before[name], self.ks)

    def of_both(self, name: str) -> dict[str, Any]:
        """Measures of this version's lists and of its parent's, and how the two differ."""
        evaluation_set = self.evaluation_sets[name]
        ranked = self.after[name]
        change = None
        baseline = None
        if self.has_baseline:
            baseline = self.of_parent(name)
            seen = evaluation_set.exclude_seen
            before = self.before[name].counted(seen)
            change = compare(evaluation_set, ranked.counted(seen), before, self.ks)
        return {
            "users": evaluation_set.users,
            "days": evaluation_set.days,
            "candidate": evaluate_ranked(evaluation_set, ranked, self.ks),
            "baseline": baseline,
            "change": change,
        }

    def of_baselines(self, name: str) -> dict[str, MeasuresDict]:
        """Measures of the lists that need no model, by name."""
        measured = evaluate_baselines(self.evaluation_sets[name], self.ks)
        for baseline, ranked in self.other_baselines.get(name, {}).items():
            measured[baseline] = evaluate_ranked(self.evaluation_sets[name], ranked, self.ks)
        return measured


def _measure_lift(ctx: StageContext, day: DayData, version: VersionEvaluation) -> Lift | None:
    held_out = day.evaluation_sets[HELD_OUT]
    # Counted over the users that the version was trained on: both lists know the same of the day.
    today = popular_today(held_out, day.corpus, day.trained_events.column("_item"))
    return measure_lift(ctx, held_out, version.lists[HELD_OUT], today)
