"""Publishes a refresh: the trained towers of an earlier version with a later corpus.

Corpus, popularity, co-occurrence and users are as of the end of the refresh's day. Towers, their measures and
the weights of the fixed order are those of the earlier version. The day of the version stays the day of that
version.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from index_builder.gate.verdict import JudgedRefresh, judge_refresh
from index_builder.publish_stage import assemble, publish
from index_builder.registry.registry import Registry
from twinspire_core.config.source_registry import FIXED_ORDER, RANKED
from twinspire_core.contracts import attempts, ranker_files, version_manifest
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.contracts.features_report import FeatureSkew
from twinspire_core.contracts.gate_verdict import GateVerdict
from twinspire_core.contracts.ranker_files import RankerFile, RankerFormat
from twinspire_core.contracts.version_manifest import IndexFigures, Manifest
from twinspire_core.fusion.rank_fusion import FixedOrder
from twinspire_core.ranking.ranker import Ranker, RankingFeatures
from twinspire_core.sources.candidate_sources import CandidateSources, read_tables
from twinspire_core.storage.parquet_files import read_file


def run(
    ctx: StageContext,
    *,
    before: Manifest,
    trained: str,
    live: str,
    skew: Sequence[FeatureSkew] = (),
    unasked: bool = False,
) -> dict[str, Any]:
    """Publishes a refresh. It goes live if the gate accepts it, and `ctx.promote` and the dates allow it.

    Args:
      ctx: `inputs` are the folders of the refresh's own steps; `train` and `measure` are the files of the
        version `before`.
      before: the version that gives the towers, and the corpus to compare the new one with.
      trained: the version that these towers were trained for: `before`, unless that is a refresh
        itself.
      live: the trained version whose towers were live when the refresh began.
      skew: how far the served features are from those that the towers were trained on.
      unasked: whether it follows a refused day automatically.

    Returns:
      The summary: the published version, and how many items are `new` and `withdrawn`. `refused` lists
      the gate's reasons, if any.

    Raises:
      TryAgain: other towers went live meanwhile.
    """
    registry = Registry(ctx.pipeline.registry.root, ctx.pipeline.name)
    with tempfile.TemporaryDirectory(prefix="twinspire-refresh-") as scratch:
        staged = Path(scratch)
        assemble(ctx, staged)
        items_file = registry.place(before.version, version_manifest.ITEMS)
        measured = _measured(
            ctx,
            staged,
            read_file(items_file, ["_item"])["_item"],
            trained=trained,
            skew=skew,
            unasked=unasked,
        )
        verdict = judge_refresh(measured, before.quality, ctx.pipeline.gate, ctx.pipeline.index)
        # The training files belong to the towers, and are kept as long as this version
        refresh_sources = {
            stage: attempts.name(ctx.pipeline, uri)
            for stage, uri in ctx.inputs.items()
            if stage not in ("train", "measure")
        }
        published = publish(
            ctx,
            registry,
            staged,
            verdict,
            reason=f"catalogue of {ctx.day}: {verdict.reason}",
            # A day that was published meanwhile has newer towers and must stay live.
            while_live=live,
            day=before.date,
            parent=before.parent,
            refreshes=trained,
            corpus_date=ctx.day,
            sources={**before.sources, **refresh_sources},
        )
    return {"new": measured.new, "withdrawn": measured.withdrawn, **published}


def _measured(
    ctx: StageContext, staged: Path, before: pa.ChunkedArray, **of_refresh: Any
) -> JudgedRefresh:
    """What the gate judges of the staged version. A ranker that cannot be used is deleted from it.

    Args:
      before: ids of the items of the version that is refreshed.
      of_refresh: fields of `JudgedRefresh` that are known already.
    """
    items = pq.read_table(staged / version_manifest.ITEMS)
    sources = CandidateSources.of(items, read_tables(staged))
    lacking = _missing_for_ranker(staged, sources)
    if lacking:
        (staged / RankerFile.FILE).unlink()
        (staged / ranker_files.MODEL).unlink()
    # The gate decided this when the towers were trained; it changes only if the ranker is left out now
    judged_before = GateVerdict.find(ctx.inputs["measure"])
    serves = judged_before.serves if judged_before else None
    order = FixedOrder.find(staged)
    figures = IndexFigures.read(staged)
    stayed = pc.sum(pc.is_in(items["_item"], value_set=before.combine_chunks())).as_py()
    return JudgedRefresh(
        index_recall=figures.recall,
        items=figures.items,
        before=len(before),
        new=len(items) - stayed,
        withdrawn=len(before) - stayed,
        serves=FIXED_ORDER if lacking and serves == RANKED else serves,
        lacking=lacking,
        # `sources.use` of the pipeline file may have changed, so that tables of these sources were not made.
        silent=[name for name in order.sources if name not in sources] if order else [],
        **of_refresh,
    )


def _missing_for_ranker(staged: Path, sources: CandidateSources) -> list[str]:
    """Features of the ranker and lists of sources that the catalogue cannot give. None without a ranker, or
    if the ranker has another format.
    """
    # They are missing if `sources.use` or `corpus.attributes` of the pipeline file has changed
    ranker_file = staged / RankerFile.FILE
    if not ranker_file.exists() or RankerFormat.read(staged).format != ranker_files.FORMAT:
        return []
    ranker = Ranker.parse((staged / ranker_files.MODEL).read_bytes(), ranker_file.read_bytes())
    return ranker.lacking(RankingFeatures.of(sources.tables), sources)
