"""Makes the lists of a day: of the parent and of the best accepted version, which have not seen the day; of
the day's version, for held-out users; and of the candidate sources that need no towers. Lists of versions
come from the vectors that the train stage wrote.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from model.evaluation.day_queries import HELD_OUT, NEXT_DAY
from model.evaluation.evaluation_set import DayData, EvaluationSet
from model.evaluation.ranked_lists import (
    RankedLists,
    SourceLists,
    costly_lists,
    nearest,
    rank_each,
    with_and_without_seen,
)
from twinspire_core.contracts import feature_schema, trained_day
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.contracts.trained_day import Encoded, TrainedDay
from twinspire_core.fusion.rank_fusion import DEPTH, FixedOrder
from twinspire_core.ranking.pairs import Vectors
from twinspire_core.sources.candidate_sources import CandidateSources, fits_of
from twinspire_core.sources.source import POPULAR_HALF_LIFE
from twinspire_core.storage import parquet_files


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionLists:
    """Lists of one version; empty if there is no such version.

    Attributes:
      ranked: its lists, by evaluation set.
      missing_columns: columns that it reads but the day does not have, each with the reason.
      encoded: the vectors behind the lists; None without lists.
    """

    ranked: Mapping[str, RankedLists] = field(default_factory=dict)
    missing_columns: Sequence[str] = ()
    encoded: Encoded | None = None

    def vectors(self, name: str) -> Vectors:
        """Vectors of the corpus and of the queries of an evaluation set that has lists."""
        assert self.encoded is not None, "called only with lists"
        return Vectors(queries=self.encoded.queries(name), items=self.encoded.items)


@dataclass(frozen=True, slots=True, kw_only=True)
class DayLists:
    """All lists of a day.

    Attributes:
      before: lists of the parent, or of a first version before its last day; empty without either.
      best: lists of the best accepted version for held-out users; None if that is the parent.
      version: lists of the day's version for held-out users.
      sources: sources that need no towers, as of the start of the day, before anything to predict.
      costly: lists of the costly sources, for `NEXT_DAY` and `HELD_OUT`.
    """

    before: VersionLists
    best: VersionLists | None
    version: VersionLists
    sources: CandidateSources
    costly: Mapping[str, SourceLists]

    def of_sources(self, ctx: StageContext, day: DayData) -> dict[str, dict[str, RankedLists]]:
        """Lists of each source alone, by evaluation set and source."""
        # Not for a set with users of earlier days: sources as of the start of the day have counted what
        # these users took, so they know the answers.
        return {
            name: rank_each(
                self.sources, day.evaluation_sets[name], costly, max(ctx.pipeline.evaluation.ks)
            )
            for name, costly in self.costly.items()
            if set(day.evaluation_sets[name].queries["_day"].to_pylist()) <= {ctx.day}
        }


def list_day(ctx: StageContext, trained: TrainedDay, features: Path, day: DayData) -> DayLists:
    """Makes all lists of a day.

    Args:
      trained: facts that the train stage wrote.
      features: local folder of the features attempt.
      day: the queries to make lists for.
    """
    ks = ctx.pipeline.evaluation.ks
    # Long enough to be measured, and to be merged with the lists of other sources.
    depth = max(*ks, DEPTH)
    train = ctx.inputs["train"]

    def lists_of(which: str, k: int, missing: Sequence[str] = ()) -> VersionLists | None:
        encoded = Encoded.find(train, which)
        if encoded is None:
            return None
        ranked = rank_encoded(encoded, day.evaluation_sets, k)
        return VersionLists(ranked=ranked, missing_columns=missing, encoded=encoded)

    version = lists_of(trained_day.VERSION, depth)
    assert version is not None, "every train attempt has it"
    best = None
    if trained.best and (listed := lists_of(trained_day.BEST, max(ks), trained.best.unread)):
        # Its vectors are not needed any more, so memory need not hold them.
        best = replace(listed, encoded=None)
    sources = _candidate_sources(ctx, features, day)
    return DayLists(
        before=lists_of(trained_day.BEFORE, depth, trained.parent_unread) or VersionLists(),
        best=best,
        version=version,
        sources=sources,
        # Made once: the measures of each source, the fixed order and the ranker's rows need these lists.
        costly={
            name: costly_lists(sources, day.evaluation_sets[name], depth)
            for name in (NEXT_DAY, HELD_OUT)
        },
    )


def rank_encoded(
    encoded: Encoded, evaluation_sets: Mapping[str, EvaluationSet], k: int
) -> dict[str, RankedLists]:
    """Lists of k items, for the evaluation sets that have vectors."""
    # Equal queries of two sets may exclude different items. The search must be long enough for the one
    # that excludes most.
    excluded = np.zeros(len(encoded.distinct), np.int64)
    seen = {name: evaluation_sets[name].seen for name in encoded.place}
    for name, distinct in encoded.place.items():
        np.maximum.at(excluded, distinct, seen[name].lengths)
    ranked = nearest(encoded.distinct, encoded.items, k, excluded)
    return {
        # The list of a distinct query serves all queries that are equal to it.
        name: with_and_without_seen(ranked.take(distinct), seen[name], k)
        for name, distinct in encoded.place.items()
    }


def inherited_order(ctx: StageContext) -> FixedOrder | None:
    """The parent's fixed order."""
    return FixedOrder.find(ctx.parent.home) if ctx.parent else None


def _candidate_sources(ctx: StageContext, features: Path, day: DayData) -> CandidateSources:
    """The sources that need no towers, as of the start of the day, with the parent's half-life."""
    tables = {
        name: parquet_files.read_folder(str(features / name / feature_schema.AT_START))
        for name in fits_of(ctx.pipeline.sources.use)
    }
    before = inherited_order(ctx)
    return CandidateSources.of(
        day.corpus, tables, before.half_life if before else POPULAR_HALF_LIFE
    )
