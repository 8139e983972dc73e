"""What is listed for a day: by its parent and the best accepted version, before the day is trained on;
by the version that is trained on it, for users held out; and by the candidate sources that need no
towers. Lists of versions are made of the vectors that the train stage left.
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
    """What one version lists; empty where there is no such version.

    Attributes:
      ranked: its lists, by evaluation set.
      missing_columns: columns that it reads and the day does not have, each with the reason.
      encoded: the vectors behind the lists; None without lists.
    """

    ranked: Mapping[str, RankedLists] = field(default_factory=dict)
    missing_columns: Sequence[str] = ()
    encoded: Encoded | None = None

    def vectors(self, name: str) -> Vectors:
        """Vectors of the queries of an evaluation set that it has lists for, and of the corpus."""
        assert self.encoded is not None, "asked for where there are lists"
        return Vectors(queries=self.encoded.queries(name), items=self.encoded.items)


@dataclass(frozen=True, slots=True, kw_only=True)
class DayLists:
    """All that is listed for a day.

    Attributes:
      before: by what had not seen the day: the parent, or a first version before it was trained on
        the day; empty without either.
      best: by the best accepted version, for users held out; None where that is the parent.
      version: by the day's version, for users held out.
      sources: those that need no towers, as of the start of the day: none of them has seen what is
        to be found.
      costly: lists of the costly ones of these, for `NEXT_DAY` and `HELD_OUT`.
    """

    before: VersionLists
    best: VersionLists | None
    version: VersionLists
    sources: CandidateSources
    costly: Mapping[str, SourceLists]

    def of_sources(self, ctx: StageContext, day: DayData) -> dict[str, dict[str, RankedLists]]:
        """Lists of each source alone, by evaluation set and source.

        Not of a set with users of earlier days: what these took has been counted since, so that
        sources as of the start of the day know their answers.
        """
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
      ctx: says which train attempt left the vectors, and how long the lists are.
      trained: what that attempt says of the versions.
      features: local folder of the features attempt.
      day: whose queries are answered.
    """
    ks = ctx.pipeline.evaluation.ks
    # Long enough to be measured, and to be put in order with lists of other sources.
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
        # Nothing else is made of its vectors: memory need not hold them.
        best = replace(listed, encoded=None)
    sources = _candidate_sources(ctx, features, day)
    return DayLists(
        before=lists_of(trained_day.BEFORE, depth, trained.parent_unread) or VersionLists(),
        best=best,
        version=version,
        sources=sources,
        # Asked once: measuring each source, the fixed order and the rows all need these lists.
        costly={
            name: costly_lists(sources, day.evaluation_sets[name], depth)
            for name in (NEXT_DAY, HELD_OUT)
        },
    )


def rank_encoded(
    encoded: Encoded, evaluation_sets: Mapping[str, EvaluationSet], k: int
) -> dict[str, RankedLists]:
    """Lists of k items, for the evaluation sets that have vectors."""
    # Equal queries of two sets may have seen different items: a query's search must be long enough
    # for whichever excludes most.
    excluded = np.zeros(len(encoded.distinct), np.int64)
    seen = {name: evaluation_sets[name].seen for name in encoded.place}
    for name, distinct in encoded.place.items():
        np.maximum.at(excluded, distinct, seen[name].lengths)
    ranked = nearest(encoded.distinct, encoded.items, k, excluded)
    return {
        # A list of each distinct query serves all queries that are equal to it.
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
