"""Fits what orders candidates on the days to come, on what was listed for the day before anything was
trained on it: the fixed order and the ranker. Each is measured as it was before, too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from model.evaluation.day_data import NEXT_DAY, DayData, read_table
from model.evaluation.source_lists import SourceLists
from model.evaluation.version_evaluation import ParentEvaluation, VersionEvaluation
from model.ranking import ranking_rows
from model.ranking.day_orders import DayOrders
from model.ranking.day_ranker import DayRanker
from model.ranking.kind_of_log import choose_half_life, kind_of_log
from model.ranking.ranking_rows import RankingRows, listed_by
from model.ranking.replay import rows_before
from twinspire_core import storage
from twinspire_core.contracts import feature_schema, ranker_file
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.contracts.day_metrics import FixedOrderMeasures, RankerMeasures
from twinspire_core.contracts.ranker_file import RankerFile, RankerFormat
from twinspire_core.fusion.fixed_order import FixedOrder
from twinspire_core.ranking.ranker import Ranker
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.registry import fits_of
from twinspire_core.sources.source import HALF_LIFE


def fit_day(
    ctx: StageContext,
    features: Path,
    day: DayData,
    sources: CandidateSources,
    costly: Mapping[str, SourceLists],
    parent: ParentEvaluation,
    version: VersionEvaluation,
    out: Path,
) -> tuple[FixedOrderMeasures, RankerMeasures | None]:
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

    Returns: measures of the parent's and the day's fixed order, and of rankers; None without
      several sources.
    """
    day_ranker = DayRanker(
        ctx=ctx,
        day=day,
        sources=sources,
        parent=parent,
        stored=rows_before(ctx, features, sources.tables.half_life),
        known=costly[NEXT_DAY],
    )
    rows = day_ranker.rows_to_fit_on()
    ranking_rows.write(out, rows)
    order = _choose_order(ctx, rows)
    order.write(out)
    ranker = day_ranker.fit(rows) if ctx.pipeline.sources.several else None
    if ranker:
        (out / RankerFile.FILE).write_bytes(ranker.described.dump())
        (out / ranker_file.MODEL).write_text(ranker.model)
    orders = DayOrders(
        ctx=ctx,
        day=day,
        sources=sources,
        costly=costly,
        parent=parent,
        version=version,
        order_before=inherited_order(ctx),
        order=order,
        ranker_before=inherited_ranker(ctx),
        ranker=ranker,
    )
    of_ranker = orders.of_ranker() if ctx.pipeline.sources.several else None
    return orders.of_fixed_order(), of_ranker


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
        for name in fits_of(ctx.pipeline.sources.use)
    }
    before = inherited_order(ctx)
    return CandidateSources.of(day.corpus, tables, before.half_life if before else HALF_LIFE)


def inherited_order(ctx: StageContext) -> FixedOrder | None:
    """The parent's fixed order."""
    return FixedOrder.find(ctx.parent.home) if ctx.parent else None


def _choose_order(ctx: StageContext, rows: Sequence[RankingRows]) -> FixedOrder:
    """The fixed order that the day's version carries; without rows, for what the parent took the log
    to be.
    """
    sources = ctx.pipeline.sources.use
    before = inherited_order(ctx)
    if before and not rows:
        return FixedOrder.of(sources, before.kind, before.half_life)
    kind = kind_of_log(rows, exclude_seen=ctx.pipeline.serving.exclude_seen)
    return FixedOrder.of(sources, kind, choose_half_life(rows))


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
    return ranker if listed_by(ranker.sources, ctx.pipeline.sources.use) else None
