"""What is measured of a day: its parent before the day was trained on, and the day's version on
users who were held out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.evaluation.day_data import HELD_OUT, HELD_OUT_CLICKS, NEXT_CLICK, NEXT_DAY, DayData
from model.evaluation.diagnostics import report_figures
from model.evaluation.evaluate import MeasuresDict, compare, evaluate_baselines, evaluate_ranked
from model.evaluation.evaluation_set import EvaluationSet
from model.evaluation.other_baselines import other_baselines
from model.evaluation.popularity_lift import Lift, lifts_after, measure_lift, popular_today
from model.evaluation.queries import shares_after
from model.evaluation.ranked_lists import RankedLists
from model.evaluation.source_lists import costly_lists
from model.evaluation.tower_lists import labelled_clicks
from model.evaluation.version_evaluation import EarlierVersions, ParentEvaluation, VersionEvaluation
from model.evaluation.version_line import compare_with_best, line_after, remember_day
from model.fit_day import candidate_sources, fit_day
from model.towers.auxiliary_head import measure_head
from model.training.train import Trained
from twinspire_core.contracts.day_metrics import (
    AuxiliaryFigures,
    DayMetrics,
    HeldOutMeasures,
    NextClickMeasures,
)
from twinspire_core.contracts.stage_context import StageContext
from twinspire_core.fusion.fuse import DEPTH


def list_depth(ctx: StageContext) -> int:
    """Length of the lists that are searched for: enough to be measured, and to be fused."""
    return max(*ctx.pipeline.evaluation.ks, DEPTH)


def measure_day(
    ctx: StageContext,
    features: Path,
    day: DayData,
    before: EarlierVersions,
    trained: Trained,
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
      trained: what was trained.
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
    mix, ranker = fit_day(ctx, day, sources, costly, parent, version, out)
    popularity, frequency = report_figures(
        ctx.pipeline,
        day.evaluation_sets[HELD_OUT],
        (version.encoded.queries(HELD_OUT), version.encoded.items),
        version.lists[HELD_OUT].counted(day.evaluation_sets[HELD_OUT].exclude_seen),
        day,
        trained.frequency,
    )
    return DayMetrics(
        progressive=quality.of_parent(NEXT_DAY),
        baselines=quality.of_baselines(NEXT_DAY),
        holdout=HeldOutMeasures(
            **quality.of_both(HELD_OUT), baselines=quality.of_baselines(HELD_OUT), lead=lift
        ),
        next_click=NextClickMeasures(
            progressive=quality.of_parent(NEXT_CLICK),
            baselines=quality.of_baselines(NEXT_CLICK),
            holdout=HeldOutMeasures(**quality.of_both(HELD_OUT_CLICKS)),
        ),
        train=trained.figures(),
        leads=lifts_after(ctx, lift),
        best=compare_with_best(ctx, day, before.best, version),
        line=line_after(ctx, remember_day(ctx, day, before, version, mix, ranker)),
        mix=mix,
        ranker=ranker,
        parent_unread=parent.missing_columns,
        held_out_shares=shares_after(ctx, trained.days),
        gaps=[gap.describe(ctx.pipeline.name) for gap in ctx.gaps],
        auxiliary=_measure_heads(day, parent, trained, version),
        popularity=popularity,
        frequency=frequency,
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


def _measure_heads(
    day: DayData, parent: ParentEvaluation, trained: Trained, version: VersionEvaluation
) -> AuxiliaryFigures | None:
    """How well the auxiliary heads of the parent and of this version predict labels; None without
    a head.
    """
    head = trained.model.head
    training = trained.auxiliary()
    if head is None or training is None:
        return None
    progressive = None
    if trained.inherited_head and parent.clicks:
        progressive = measure_head(trained.inherited_head, parent.clicks)
    clicks = labelled_clicks(day.evaluation_sets[HELD_OUT_CLICKS], HELD_OUT_CLICKS, version.encoded)
    holdout = measure_head(head, clicks)
    return AuxiliaryFigures(**training, progressive=progressive, holdout=holdout)
