"""Lists for the queries of an evaluation set, by all that makes lists: two towers by exact search, lists
that need no model, candidate sources, the fixed order of these, and a ranker; and all lists of a day, of
which those of versions are made of the vectors that the train stage left.

U queries, L places of a list, D dimensions, C items of the corpus. Items are positions in the corpus; -1 is
none.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from model.evaluation.day_queries import HELD_OUT, NEXT_DAY
from model.evaluation.evaluation_set import DayData, EvaluationSet
from twinspire_core.config.source_registry import MOST_POPULAR, POPULAR_LATELY, PURCHASE_HISTORY
from twinspire_core.contracts import feature_schema, trained_day
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.contracts.trained_day import Encoded, TrainedDay
from twinspire_core.fusion.rank_fusion import DEPTH, FixedOrder
from twinspire_core.metrics.list_metrics import top_k
from twinspire_core.ranking.pairs import Vectors
from twinspire_core.ranking.ranker import Ranker, RankingFeatures, rank_candidates
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.candidate_sources import CandidateSources, fits_of
from twinspire_core.sources.popular_and_history import past_then, same_for_all
from twinspire_core.sources.source import POPULAR_HALF_LIFE, Queries, ScoredLists
from twinspire_core.storage import parquet_files

# Queries that sources answer at a time, so that intermediate results fit in memory.
_ASKED_AT_ONCE = 2048
# Queries whose features are in memory at a time, with some 300 candidates each.
_RANKED_AT_ONCE = 512


class RankedLists(NamedTuple):
    """Two lists per query, [U, L] int64 each, best first, -1 after the end.

    Attributes:
      kept: lists that may contain seen items.
      excluded: lists without seen items; None if there is no such list.
      kept_scores: [U, L] float32, -infinity after the end; None if scores are not known.
      excluded_scores: likewise.
    """

    kept: np.ndarray
    excluded: np.ndarray | None
    kept_scores: np.ndarray | None = None
    excluded_scores: np.ndarray | None = None

    def counted(self, exclude_seen: bool) -> np.ndarray:
        """The main kind of lists: without seen items if `EvaluationSet.exclude_seen`, else with them.

        Raises:
          ValueError: there are no lists of this kind.
        """
        if not exclude_seen:
            return self.kept
        if self.excluded is None:
            raise ValueError("lists without seen items count, and there are none")
        return self.excluded

    def first(self, k: int) -> "RankedLists":
        """The first k of each list."""
        return self._each(lambda part: part[:, :k])

    def of(self, queries: np.ndarray) -> "RankedLists":
        """The lists of some queries, given as [U] bool or as positions."""
        return self._each(lambda part: part[queries])

    def _each(self, change: Callable[[np.ndarray], np.ndarray]) -> "RankedLists":
        return RankedLists._make(part if part is None else change(part) for part in self)

    def scored(self, *, exclude_seen: bool = False) -> ScoredLists:
        """One kind of the lists in the form of sources. If scores are not known, places count as scores."""
        items = self.excluded if exclude_seen else self.kept
        scores = self.excluded_scores if exclude_seen else self.kept_scores
        assert items is not None, "called only if there are such lists"
        return ScoredLists.by_place(items) if scores is None else ScoredLists(items, scores)


def rank(
    evaluation_set: EvaluationSet, queries: np.ndarray, items: np.ndarray, k: int
) -> RankedLists:
    """Lists of k items by the vectors of queries, [U, D], and of the whole corpus, [C, D] float32."""
    seen = evaluation_set.seen
    return with_and_without_seen(nearest(queries, items, k, seen.lengths), seen, k)


def nearest(queries: np.ndarray, items: np.ndarray, k: int, excluded: np.ndarray) -> ScoredLists:
    """The nearest items of each query: k, and as many more as may be excluded.

    Args:
      queries: [U, D] float32.
      items: [C, D] float32.
      excluded: [U] int64, the most items that may be excluded for each query.
    """
    # Longer lists, so that one search serves both kinds of lists, with and without seen items.
    ranked = ScoredLists.empty(len(queries), k + int(excluded.max(initial=0)))
    # Few users have seen more items than a list has. In groups by the number of seen items, most users
    # get a shallow search, and only these few a deep one.
    group = np.searchsorted([k // 8, k // 2, k], excluded)
    for number in range(4):
        rows = np.flatnonzero(group == number)
        depth = k + int(excluded[rows].max(initial=0))
        best, scores = top_k(queries[rows], items, depth)
        ranked.items[rows, :depth] = best
        ranked.scores[rows, :depth] = scores
    return ranked


def with_and_without_seen(ranked: ScoredLists, seen: Ragged, k: int) -> RankedLists:
    """Lists of k items, with and without seen items, from longer lists."""
    kept = ranked.first(k)
    excluded = ranked.without(seen, k)
    return RankedLists(kept.items, excluded.items, kept.scores, excluded.scores)


def rank_baselines(evaluation_set: EvaluationSet, k: int) -> dict[str, RankedLists]:
    """The lists that need no model, by name."""
    orders = {MOST_POPULAR: evaluation_set.popular, POPULAR_LATELY: evaluation_set.lately}
    queries = evaluation_set.truth.rows
    ranked = {
        name: RankedLists(
            same_for_all(order, queries, k),
            same_for_all(order, queries, k, exclude=evaluation_set.seen),
        )
        for name, order in orders.items()
    }
    # Without seen items, nothing is left of a purchase history but `most_popular`. Such a list exists only
    # where lists without seen items are the main ones, since then every source needs one.
    ranked[PURCHASE_HISTORY] = RankedLists(
        past_then(evaluation_set.past, evaluation_set.popular, k),
        ranked[MOST_POPULAR].excluded if evaluation_set.exclude_seen else None,
    )
    return ranked


SourceLists = Mapping[str, RankedLists]
"""Lists by the name of the source."""


def costly_lists(
    sources: CandidateSources, evaluation_set: EvaluationSet, k: int
) -> dict[str, RankedLists]:
    """Lists of the sources that are too costly to ask several times, by name."""
    return {name: retrieve(name, sources, evaluation_set, k) for name in sources.costly}


def retrieve(
    name: str, sources: CandidateSources, evaluation_set: EvaluationSet, k: int
) -> RankedLists:
    """Lists of one source that needs no towers. They are not filled up to k items."""
    queries = evaluation_set.source_queries
    kept = ScoredLists.empty(len(queries), k)
    excluded = ScoredLists.empty(len(queries), k)
    for chunk in _chunks(len(queries), _ASKED_AT_ONCE):
        part = queries.part(chunk.start, chunk.stop)
        # So long that k unseen items remain: one call serves the lists with and without seen items.
        depth = k + int(part.seen.lengths.max(initial=0))
        ranked = sources.retrieve([name], part, depth)[name]
        kept.items[chunk], kept.scores[chunk] = ranked.first(k)
        excluded.items[chunk], excluded.scores[chunk] = ranked.without(part.seen, k)
    return RankedLists(kept.items, excluded.items, kept.scores, excluded.scores)


def rank_each(
    sources: CandidateSources, evaluation_set: EvaluationSet, ready: SourceLists, k: int
) -> dict[str, RankedLists]:
    """`rank_alone` for each source that needs no model. `ready` lists are not made again."""
    return {
        name: rank_alone(
            sources,
            evaluation_set,
            k,
            ready.get(name) or retrieve(name, sources, evaluation_set, k),
        )
        for name in sources.without_model
    }


def rank_alone(
    sources: CandidateSources, evaluation_set: EvaluationSet, k: int, lists: RankedLists
) -> RankedLists:
    """The lists of one source, from `retrieve`, filled up to k with the most popular items."""
    kept = sources.filled(lists.kept[:, :k], k)
    excluded = lists.excluded
    if excluded is not None:
        excluded = sources.filled(excluded[:, :k], k, exclude=evaluation_set.seen)
    return RankedLists(kept, excluded)


def rank_fixed(
    order: FixedOrder,
    sources: CandidateSources,
    evaluation_set: EvaluationSet,
    ready: SourceLists,
    k: int,
) -> RankedLists:
    """Lists in a fixed order of sources.

    Args:
      order: weights of the sources.
      sources: for the corpus of the evaluation set.
      ready: lists of the two-tower and of other sources that exist already, with at least `DEPTH` and k
        items.
      k: length of the lists.
    """

    def in_order(exclude_seen: bool) -> np.ndarray:
        queries = queries_with(evaluation_set, ready, exclude_seen=exclude_seen)
        ranked = np.full((len(queries), k), -1, np.int64)
        for chunk in _chunks(len(queries), _ASKED_AT_ONCE):
            part = queries.part(chunk.start, chunk.stop)
            exclude = part.seen if exclude_seen else None
            ranked[chunk], _ = order.answer(sources, part, k, exclude=exclude)
        return ranked

    # Lists without seen items need such lists from every source.
    is_whole = all(lists.excluded is not None for lists in ready.values())
    return RankedLists(in_order(False), in_order(True) if is_whole else None)


def rank_queries(
    ranker: Ranker,
    sources: CandidateSources,
    evaluation_set: EvaluationSet,
    vectors: Vectors,
    ready: SourceLists,
    k: int,
) -> RankedLists:
    """Lists of a ranker. Those without seen items are made only if they are the main kind.

    Args:
      sources: for the corpus of the evaluation set.
      vectors: [U, D] of the queries and [C, D] of the corpus, by one version's towers.
      ready: lists of the two-tower and of other sources that exist already, with at least `DEPTH` and k
        items.
      k: length of the lists.
    """
    features = RankingFeatures.of(sources.tables)
    queries = queries_with(evaluation_set, ready)
    kept = np.full((len(queries), k), -1, np.int64)
    excluded = kept.copy() if evaluation_set.exclude_seen else None
    for chunk, part, vectors_of_part in chunks(queries, vectors):
        ranked = rank_candidates(ranker, features, sources, part, k, vectors=vectors_of_part)
        kept[chunk] = sources.filled(ranked.items(ranked.best(k)), k)
        if excluded is not None:
            unseen = ranked.items(ranked.best(k, part.seen))
            excluded[chunk] = sources.filled(unseen, k, exclude=part.seen)
    return RankedLists(kept, excluded)


def chunks(
    queries: Queries, vectors: Vectors | None
) -> Iterator[tuple[slice, Queries, Vectors | None]]:
    """Yields some queries at a time, so that their candidates fit in memory, with their vectors."""
    for chunk in _chunks(len(queries), _RANKED_AT_ONCE):
        of_part = vectors and Vectors(queries=vectors.queries[chunk], items=vectors.items)
        yield chunk, queries.part(chunk.start, chunk.stop), of_part


def queries_with(
    evaluation_set: EvaluationSet, lists: SourceLists, *, exclude_seen: bool = False
) -> Queries:
    """The queries of an evaluation set as sources read them, with lists that exist already."""
    given = {name: ranked.scored(exclude_seen=exclude_seen) for name, ranked in lists.items()}
    return evaluation_set.source_queries.with_given(given)


def _chunks(rows: int, size: int) -> Iterator[slice]:
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


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
        k = max(ctx.pipeline.evaluation.ks)
        # Not for a set with users of earlier days: sources as of the start of the day have counted what
        # these users took, so they know the answers.
        return {
            name: rank_each(self.sources, day.evaluation_sets[name], costly, k)
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

    def lists_of(name: str, k: int, missing: Sequence[str] = ()) -> VersionLists | None:
        encoded = Encoded.find(train, name)
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
