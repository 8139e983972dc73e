"""Lists of baselines that are measured only on sets of the day itself: candidate sources."""

from collections.abc import Mapping

from model.evaluation.day_data import HELD_OUT, NEXT_DAY, DayData
from model.evaluation.ranked_lists import RankedLists
from model.evaluation.source_lists import SourceLists, rank_alone, retrieve
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.sources.candidate_sources import CandidateSources


def other_baselines(
    ctx: StageContext,
    day: DayData,
    sources: CandidateSources,
    costly: Mapping[str, SourceLists],
) -> dict[str, dict[str, RankedLists]]:
    """Lists of further baselines, by evaluation set and name.

    Args:
      ctx: pipeline and day.
      day: what is measured on.
      sources: of the day's corpus.
      costly: by evaluation set, from `costly_lists`.
    """
    k = max(ctx.pipeline.evaluation.ks)
    baselines: dict[str, dict[str, RankedLists]] = {NEXT_DAY: {}, HELD_OUT: {}}
    for name, known in costly.items():
        evaluation_set = day.evaluation_sets[name]
        # What users of earlier days took has been counted since: sources as of the start of the
        # day know their answers.
        if not set(evaluation_set.queries["_day"].to_pylist()) <= {ctx.day}:
            continue
        for source in sources.without_model:
            lists = known.get(source) or retrieve(source, sources, evaluation_set, k)
            baselines[name][source] = rank_alone(sources, evaluation_set, k, lists)
    return baselines
