"""What is measured of a day: its parent before the day was trained on, and the day's version on
users who were held out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from model.evaluation import als_baseline
from model.evaluation.day_data import (
    HELD_OUT,
    HELD_OUT_CLICKS,
    NEXT_CLICK,
    NEXT_DAY,
    DayData,
    read_table,
)
from model.evaluation.diagnostics import report_figures
from model.evaluation.evaluate import Measures, compare, evaluate_baselines, evaluate_ranked
from model.evaluation.evaluation_set import EvaluationSet
from model.evaluation.popularity_lift import Lift, lifts_after, measure_lift, popular_today
from model.evaluation.queries import shares_after
from model.evaluation.ranked_lists import MEASURED_ANYWAY, RankedLists
from model.evaluation.source_lists import SourceLists, costly_lists, rank_alone, retrieve
from model.evaluation.tower_lists import labelled_clicks
from model.evaluation.version_evaluation import (
    EarlierVersions,
    ParentEvaluation,
    VersionEvaluation,
)
from model.evaluation.version_line import compare_with_best, line_after, remember_day
from model.fusion_fitting import stored_lists
from model.fusion_fitting.day_fusion import DayFusion, alike_with_new_constants
from model.fusion_fitting.fusion_measures import measure_fusions
from model.fusion_fitting.source_constants import ConstantsFit, constants_before
from model.ranking import ranking_rows
from model.ranking.day_ranker import DayRanker
from model.towers.auxiliary_head import measure_head
from model.training.train import Trained
from twinspire_core import storage
from twinspire_core.contracts import feature_schema, ranker_file
from twinspire_core.contracts.day_metrics import (
    AuxiliaryFigures,
    DayMetrics,
    FusionMeasures,
    HeldOutMeasures,
    NextClickMeasures,
)
from twinspire_core.contracts.fusion_file import FusionFile
from twinspire_core.contracts.ranker_file import RankerFile, RankerFormat
from twinspire_core.contracts.ranker_measures import RankerMeasures
from twinspire_core.contracts.source_constants import SourceConstants
from twinspire_core.contracts.stage_context import StageContext
from twinspire_core.fusion.fuse import DEPTH, Fusion
from twinspire_core.ranking.ranker import Ranker
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.registry import tables_of


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
    """Measures the parent and the day's version, and fits the day's fusion.

    Args:
      ctx: pipeline, day and parent.
      features: local folder of the features attempt.
      day: what is measured on.
      before: what the parent and the best accepted version list for the day; of a first version, what
        it listed itself before it was trained on the day.
      trained: what was trained.
      version: what the trained version lists for users held out.
      out: local folder that the fusion is written to, if there is one, and the lists behind it.
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
        other_baselines(ctx, features, day, sources, costly),
        ctx.pipeline.evaluation.ks,
        has_baseline=ctx.parent is not None,
    )
    lift = _measure_lift(ctx, day, version)
    constants = _fit_constants(ctx, day, sources)
    if constants.sources:
        (out / SourceConstants.FILE).write_bytes(constants.dump())
    fusion = DayFusion(
        ctx=ctx,
        day=day,
        sources=sources,
        fitted_sources=sources.with_constants(constants.choices),
        parent_lists=parent.lists,
        lists=version.lists,
        inherited=_inherited_fusion(ctx),
        stored=stored_lists.read(ctx.parent.train) if ctx.parent else [],
        costly=costly,
    )
    fitted, mix = _fit_fusion(fusion, out)
    ranker = None
    if ctx.pipeline.ranking.enabled:
        ranker = _fit_ranker(_day_ranker(fusion, fitted, parent, version), out)
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

    def of_parent(self, name: str) -> Measures | None:
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

    def of_baselines(self, name: str) -> dict[str, Measures]:
        """Measures of the lists that need no model, by name."""
        measured = evaluate_baselines(self.evaluation_sets[name], self.ks)
        for baseline, ranked in self.other_baselines.get(name, {}).items():
            measured[baseline] = evaluate_ranked(self.evaluation_sets[name], ranked, self.ks)
        return measured


def candidate_sources(ctx: StageContext, features: Path, day: DayData) -> CandidateSources:
    """The sources that need no towers, as of the start of the day: none has seen what is to be
    found.

    Args:
      ctx: the pipeline.
      features: local folder of the features attempt.
      day: its corpus.
    """
    tables = {
        name: read_table(features / name / feature_schema.AT_START)
        for name in tables_of(ctx.pipeline.mix.sources)
    }
    constants = constants_before(_inherited_constants(ctx), ctx.pipeline.mix.sources)
    return CandidateSources.of(day.corpus, tables, constants)


def _inherited_constants(ctx: StageContext) -> SourceConstants:
    if ctx.parent is None:
        return SourceConstants()
    place = storage.join(ctx.parent.home, SourceConstants.FILE)
    if not storage.exists(place):
        return SourceConstants()
    return SourceConstants.parse(storage.read_bytes(place))


def _fit_constants(ctx: StageContext, day: DayData, sources: CandidateSources) -> SourceConstants:
    ks = sorted(ctx.pipeline.evaluation.ks)
    fit = ConstantsFit(
        sources=sources,
        names=ctx.pipeline.mix.sources,
        inherited=_inherited_constants(ctx),
        day=ctx.day,
        k=ks[len(ks) // 2],
        min_users=ctx.pipeline.mix.min_users,
    )
    return fit.fit(day.evaluation_sets[NEXT_DAY])


def other_baselines(
    ctx: StageContext,
    features: Path,
    day: DayData,
    sources: CandidateSources,
    costly: Mapping[str, SourceLists],
) -> dict[str, dict[str, RankedLists]]:
    """Lists of further baselines, by evaluation set and name.

    Args:
      ctx: pipeline and day.
      features: local folder of the features attempt.
      day: what is measured on.
      sources: of the day's corpus.
      costly: by evaluation set, from `costly_lists`.
    """
    k = max(ctx.pipeline.evaluation.ks)
    baselines: dict[str, dict[str, RankedLists]] = {NEXT_DAY: {}, HELD_OUT: {}}
    if ctx.pipeline.evaluation.als:
        baselines[NEXT_DAY][als_baseline.ALS] = _rank_als(ctx, features, day, k)
    others = [name for name in sources.without_model if name not in MEASURED_ANYWAY]
    for name, known in costly.items():
        evaluation_set = day.evaluation_sets[name]
        # What users of earlier days took has been counted since: sources as of the start of the
        # day know their answers.
        if not set(evaluation_set.queries["_day"].to_pylist()) <= {ctx.day}:
            continue
        for source in others:
            lists = known.get(source) or retrieve(source, sources, evaluation_set, k)
            baselines[name][source] = rank_alone(sources, evaluation_set, k, lists)
    return baselines


def _rank_als(ctx: StageContext, features: Path, day: DayData, k: int) -> RankedLists:
    interaction_counts = read_table(features / feature_schema.INTERACTION_COUNTS)
    users = f"{interaction_counts.num_rows:,}"
    Console(stderr=True).print(f"Factorising what {users} users had before the day")
    evaluation_set = day.evaluation_sets[NEXT_DAY]
    return als_baseline.rank_als(
        interaction_counts,
        evaluation_set,
        evaluation_set.queries.column("_user"),
        day.corpus.column("_item"),
        k,
        ctx.pipeline.train.dimension,
    )


def _measure_lift(ctx: StageContext, day: DayData, version: VersionEvaluation) -> Lift | None:
    held_out = day.evaluation_sets[HELD_OUT]
    # Counted over the users that the version was trained on: both lists know the same of the day.
    today = popular_today(held_out, day.corpus, day.trained_events.column("_item"))
    return measure_lift(ctx, held_out, version.lists[HELD_OUT], today)


def _inherited_fusion(ctx: StageContext) -> Fusion | None:
    if ctx.parent is None:
        return None
    place = storage.join(ctx.parent.home, FusionFile.FILE)
    return Fusion.parse(storage.read_bytes(place)) if storage.exists(place) else None


def _fit_fusion(day_fusion: DayFusion, out: Path) -> tuple[Fusion | None, FusionMeasures]:
    """Writes the day's fusion, if there is one, and the lists that it was fitted on; returns it with
    its measures and its parent's.
    """
    days = day_fusion.lists_to_fit_on()
    if day_fusion.parent_lists:
        stored_lists.write(out, days)
    fusion = day_fusion.fit(days)
    if fusion:
        (out / FusionFile.FILE).write_bytes(fusion.dump())
    return fusion, measure_fusions(day_fusion, fusion)


def _day_ranker(
    of: DayFusion, fusion: Fusion | None, parent: ParentEvaluation, version: VersionEvaluation
) -> DayRanker:
    """The ranker of a day whose fusion was fitted."""
    known = of.costly[NEXT_DAY]
    return DayRanker(
        ctx=of.ctx,
        day=of.day,
        sources=of.sources,
        fitted_sources=of.fitted_sources,
        parent=parent,
        version=version,
        inherited=inherited_ranker(of.ctx),
        inherited_fusion=of.inherited,
        fusion=fusion,
        stored=ranking_rows.read(of.ctx.parent.train) if of.ctx.parent else [],
        known=known,
        known_of_fit=alike_with_new_constants(known, of.sources, of.fitted_sources),
    )


def inherited_ranker(ctx: StageContext) -> Ranker | None:
    """The parent's ranker; None where it was fitted on candidates of other sources, or its files are
    of another format: the day goes without it.

    Args:
      ctx: parent, and the sources of the pipeline file.
    """
    described = storage.join(ctx.parent.home, RankerFile.FILE) if ctx.parent else None
    if ctx.parent is None or described is None or not storage.exists(described):
        return None
    content = storage.read_bytes(described)
    if RankerFormat.parse(content).format != ranker_file.FORMAT:
        return None
    model = storage.read_bytes(storage.join(ctx.parent.home, ranker_file.MODEL))
    ranker = Ranker.parse(model, content)
    return ranker if ranker.sources == tuple(ctx.pipeline.mix.sources) else None


def _fit_ranker(day_ranker: DayRanker, out: Path) -> RankerMeasures:
    """Writes the day's ranker, if there is one, and the rows that it was fitted on; returns its
    measures and its parent's.
    """
    days = day_ranker.rows_to_fit_on()
    ranking_rows.write(out, days)
    ranker = day_ranker.fit(days)
    if ranker:
        (out / RankerFile.FILE).write_bytes(ranker.described.dump())
        (out / ranker_file.MODEL).write_text(ranker.model)
    return day_ranker.figures(ranker)


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
