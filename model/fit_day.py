"""Fits what orders candidates on the days to come, on what was listed for the day before anything was
trained on it: constants of sources, the fusion, the ranker. Each is measured as it was before, too.
"""

from collections.abc import Mapping
from pathlib import Path

from model.evaluation.day_data import NEXT_DAY, DayData, read_table
from model.evaluation.source_lists import SourceLists
from model.evaluation.version_evaluation import ParentEvaluation, VersionEvaluation
from model.fusion_fitting import stored_lists
from model.fusion_fitting.day_fusion import LEAST_USERS, DayFusion, alike_with_new_constants
from model.fusion_fitting.fusion_measures import measure_fusions
from model.fusion_fitting.source_constants import ConstantsFit, constants_before
from model.ranking import ranking_rows
from model.ranking.day_ranker import DayRanker
from model.ranking.ranking_rows import listed_by
from model.ranking.replay import rows_before
from twinspire_core import storage
from twinspire_core.contracts import feature_schema, ranker_file
from twinspire_core.contracts.day_metrics import FusionMeasures, RankerMeasures
from twinspire_core.contracts.fusion_file import FusionFile
from twinspire_core.contracts.ranker_file import RankerFile, RankerFormat
from twinspire_core.contracts.source_constants import SourceConstants
from twinspire_core.contracts.stage_context import StageContext
from twinspire_core.fusion.fuse import Fusion
from twinspire_core.ranking.ranker import Ranker
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.registry import tables_of


def fit_day(
    ctx: StageContext,
    features: Path,
    day: DayData,
    sources: CandidateSources,
    costly: Mapping[str, SourceLists],
    parent: ParentEvaluation,
    version: VersionEvaluation,
    out: Path,
) -> tuple[FusionMeasures, RankerMeasures | None]:
    """Fits all of it, and writes it with what it was fitted on.

    Args:
      ctx: pipeline, day and parent.
      features: local folder of the features attempt.
      day: the evaluation sets.
      sources: from `candidate_sources`.
      costly: by evaluation set, from `costly_lists`.
      parent: what the parent makes of the day, or a first version before it was trained on it.
      version: what the trained version lists for users held out.
      out: local folder.

    Returns: measures of the parent's and the day's fusion, and of rankers; None without
      `ranking.enabled`.
    """
    constants = _fit_constants(ctx, day, sources)
    if constants.sources:
        (out / SourceConstants.FILE).write_bytes(constants.dump())
    day_fusion = DayFusion(
        ctx=ctx,
        day=day,
        sources=sources,
        fitted_sources=sources.with_constants(constants.choices),
        parent_lists=parent.lists,
        lists=version.lists,
        inherited=_inherited_fusion(ctx),
        stored=stored_lists.read(ctx.parent.measure) if ctx.parent else [],
        costly=costly,
    )
    fusion, mix = _fit_fusion(day_fusion, out)
    ranker = None
    if ctx.pipeline.ranking.enabled:
        ranker = _fit_ranker(_day_ranker(features, day_fusion, fusion, parent, version), out)
    return mix, ranker


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
        min_users=LEAST_USERS,
    )
    return fit.fit(day.evaluation_sets[NEXT_DAY])


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
    features: Path,
    day_fusion: DayFusion,
    fusion: Fusion | None,
    parent: ParentEvaluation,
    version: VersionEvaluation,
) -> DayRanker:
    """The ranker of a day whose fusion was fitted."""
    known = day_fusion.costly[NEXT_DAY]
    return DayRanker(
        ctx=day_fusion.ctx,
        day=day_fusion.day,
        sources=day_fusion.sources,
        fitted_sources=day_fusion.fitted_sources,
        parent=parent,
        version=version,
        inherited=inherited_ranker(day_fusion.ctx),
        inherited_fusion=day_fusion.inherited,
        fusion=fusion,
        stored=rows_before(day_fusion.ctx, features, day_fusion.fitted_sources.tables.constants),
        known=known,
        known_of_fit=alike_with_new_constants(known, day_fusion.sources, day_fusion.fitted_sources),
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
    return ranker if listed_by(ranker.sources, ctx.pipeline.mix.sources) else None


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
