"""Lists for the queries of an evaluation set, by all that makes lists: two towers by exact search,
lists that need no model, candidate sources, the fixed order of these, and a ranker.

U queries, L places of a list, D dimensions, C items of the corpus. Items are positions in the
corpus; -1 is none.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from model.evaluation.evaluation_set import EvaluationSet
from twinspire_core.config.source_registry import MOST_POPULAR, POPULAR_LATELY, PURCHASE_HISTORY
from twinspire_core.fusion.rank_fusion import FixedOrder
from twinspire_core.metrics.list_metrics import top_k_scored
from twinspire_core.ranking.pairs import Vectors
from twinspire_core.ranking.ranker import Ranker, rank_candidates
from twinspire_core.ranking.ranking_features import RankingFeatures
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.popular_and_history import past_then, same_for_all
from twinspire_core.sources.source import Queries, ScoredLists

_ASKED_AT_ONCE = 2048
"""Queries that sources answer at a time."""
_RANKED_AT_ONCE = 512
"""Queries whose features are in memory at a time: some 300 candidates of each."""


class RankedLists(NamedTuple):
    """Two lists per query, [U, L] int64 each, best first, -1 behind the end.

    Attributes:
      kept: items that the user has seen may be listed.
      excluded: they are not listed; None where that would be another kind of list.
      kept_scores: [U, L] float32, -infinity behind the end; None where nobody asked for scores.
      excluded_scores: likewise.
    """

    kept: np.ndarray
    excluded: np.ndarray | None
    kept_scores: np.ndarray | None = None
    excluded_scores: np.ndarray | None = None

    def counted(self, exclude_seen: bool) -> np.ndarray:
        """The lists without seen items if these count (`EvaluationSet.exclude_seen`), else the others.

        Raises:
          ValueError: the lists that count are not there.
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
        def changed(part: np.ndarray | None) -> np.ndarray | None:
            return None if part is None else change(part)

        return RankedLists(
            change(self.kept),
            changed(self.excluded),
            changed(self.kept_scores),
            changed(self.excluded_scores),
        )

    def scored(self, *, exclude_seen: bool = False) -> ScoredLists:
        """One kind of the lists, as sources give them; by place where scores are not known."""
        items = self.excluded if exclude_seen else self.kept
        scores = self.excluded_scores if exclude_seen else self.kept_scores
        assert items is not None, "asked for where there are such lists"
        return ScoredLists.by_place(items) if scores is None else ScoredLists(items, scores)


def rank(
    evaluation_set: EvaluationSet, queries: np.ndarray, items: np.ndarray, k: int
) -> RankedLists:
    """The lists of two towers, k long, by exact search of the whole corpus.

    Args:
      evaluation_set: says what each query has seen.
      queries: [U, D] float32, a vector per query.
      items: [C, D] float32, a vector per item of the corpus.
    """
    seen = evaluation_set.seen
    return with_and_without_seen(nearest(queries, items, k, seen.lengths), seen, k)


def nearest(queries: np.ndarray, items: np.ndarray, k: int, excluded: np.ndarray) -> ScoredLists:
    """Each query's best items, enough of them that k are left whatever is excluded: one search
    serves both kinds of lists. Queries are [U, D] float32, items [C, D] float32, and `excluded` is
    [U] int64, the most items that are excluded for each query.

    Returns: lists of as many places as the longest needs.
    """
    ranked = ScoredLists.empty(len(queries), k + int(excluded.max(initial=0)))
    # Few users have seen more than a whole list. Grouped by how much they have seen, the others
    # need not be searched as deep as for those few.
    group = np.searchsorted([k // 8, k // 2, k], excluded)
    for number in range(4):
        rows = np.flatnonzero(group == number)
        depth = k + int(excluded[rows].max(initial=0))
        best, scores = top_k_scored(queries[rows], items, depth)
        ranked.items[rows, :depth] = best
        ranked.scores[rows, :depth] = scores
    return ranked


def with_and_without_seen(ranked: ScoredLists, seen: Ragged, k: int) -> RankedLists:
    """Lists of k items out of longer ones, with and without seen items."""
    kept = ranked.first(k)
    excluded = ranked.without(seen, k)
    return RankedLists(kept.items, excluded.items, kept.scores, excluded.scores)


def rank_baselines(evaluation_set: EvaluationSet, k: int) -> dict[str, RankedLists]:
    """The lists that need no model, by name.

    Without seen items, `purchase_history` is the list of `most_popular`. It is there only where such
    lists count, since then every source needs one.
    """
    orders = {MOST_POPULAR: evaluation_set.popular, POPULAR_LATELY: evaluation_set.lately}
    queries = evaluation_set.truth.rows
    ranked = {
        name: RankedLists(
            same_for_all(order, queries, k),
            same_for_all(order, queries, k, exclude=evaluation_set.seen),
        )
        for name, order in orders.items()
    }
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
    """The lists of the sources that are too costly to be asked again and again, by name."""
    return {name: retrieve(name, sources, evaluation_set, k) for name in sources.costly}


def retrieve(
    name: str, sources: CandidateSources, evaluation_set: EvaluationSet, k: int
) -> RankedLists:
    """What one source that needs no towers lists, and no more: lists of k items may end early.

    It is asked once for both kinds of lists, with and without seen items.
    """
    queries = evaluation_set.source_queries
    kept = ScoredLists.empty(len(queries), k)
    excluded = ScoredLists.empty(len(queries), k)
    for chunk in _chunks(len(queries), _ASKED_AT_ONCE):
        part = queries.part(chunk.start, chunk.stop)
        # Seen items can take no more places than there are of them.
        depth = k + int(part.seen.lengths.max(initial=0))
        ranked = sources.retrieve([name], part, depth)[name]
        kept.items[chunk], kept.scores[chunk] = ranked.first(k)
        excluded.items[chunk], excluded.scores[chunk] = ranked.without(part.seen, k)
    return RankedLists(kept.items, excluded.items, kept.scores, excluded.scores)


def rank_each(
    sources: CandidateSources, evaluation_set: EvaluationSet, ready: SourceLists, k: int
) -> dict[str, RankedLists]:
    """`rank_alone` of each source that needs no model; `ready` lists are not asked for again."""
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
    """The lists of a fixed order of sources.

    Args:
      order: weights of the sources.
      sources: of the corpus of the evaluation set.
      evaluation_set: says who asks, and what each has seen.
      ready: lists of the two-tower, and of other sources that have been asked, at least `DEPTH`
        and k long.
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

    # Without lists of unseen items from every source, there is nothing to order for them.
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
    """The lists of a ranker; those without seen items only where they count.

    Args:
      ranker: orders the candidates of its sources.
      sources: of the corpus of the evaluation set.
      evaluation_set: says who asks, and what each has seen.
      vectors: [U, D] of the queries and [C, D] of the corpus, by one version's towers.
      ready: lists of the two-tower, and of other sources that have been asked, at least `DEPTH`
        and k long.
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
    """Some queries at a time, whose candidates fit in memory; with their vectors, if there are any."""
    for chunk in _chunks(len(queries), _RANKED_AT_ONCE):
        of_part = vectors and Vectors(queries=vectors.queries[chunk], items=vectors.items)
        yield chunk, queries.part(chunk.start, chunk.stop), of_part


def queries_with(
    evaluation_set: EvaluationSet, lists: SourceLists, *, exclude_seen: bool = False
) -> Queries:
    """What sources are asked for the queries of an evaluation set, with lists that are there already."""
    given = {name: ranked.scored(exclude_seen=exclude_seen) for name, ranked in lists.items()}
    return evaluation_set.source_queries.with_given(given)


def _chunks(rows: int, size: int) -> Iterator[slice]:
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))
