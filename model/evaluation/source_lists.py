"""Lists of the candidate sources that need no towers, and of the fixed order of all sources.

U queries, L places of a list. Items are positions in the corpus; -1 is none.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from model.evaluation.evaluation_set import EvaluationSet
from model.evaluation.ranked_lists import RankedLists, with_and_without_seen
from twinspire_core.fusion.fixed_order import FixedOrder
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.source import Queries, ScoredLists

_CHUNK = 2048
"""Queries answered at a time."""

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
    """What one source lists, and no more: lists may end early.

    It is asked once for both kinds of lists, with and without seen items.

    Args:
      name: of a source that needs no towers.
      sources: of the corpus.
      evaluation_set: the queries.
      k: length of the lists.
    """
    queries = evaluation_set.source_queries
    kept = ScoredLists.empty(len(queries), k)
    excluded = ScoredLists.empty(len(queries), k)
    for chunk in _chunks(len(queries)):
        part = queries.part(chunk.start, chunk.stop)
        # Seen items can take no more places than there are of them.
        seen = part.seen
        depth = k + int(seen.lengths.max(initial=0))
        found = sources.retrieve([name], part, depth)[name]
        ranked = with_and_without_seen(found, seen, k)
        kept.items[chunk], kept.scores[chunk] = ranked.scored()
        excluded.items[chunk], excluded.scores[chunk] = ranked.scored(exclude_seen=True)
    return RankedLists(kept.items, excluded.items, kept.scores, excluded.scores)


def rank_alone(
    sources: CandidateSources, evaluation_set: EvaluationSet, k: int, lists: RankedLists
) -> RankedLists:
    """The lists of one source, filled up with the most popular items.

    Args:
      sources: of the corpus.
      evaluation_set: the queries.
      k: length of the lists.
      lists: from `retrieve`, at least k long.
    """
    kept = sources.filled(lists.kept[:, :k], k)
    if lists.excluded is None:
        return RankedLists(kept, None)
    seen = evaluation_set.seen
    return RankedLists(kept, sources.filled(lists.excluded[:, :k], k, exclude=seen))


def rank_fixed(
    order: FixedOrder,
    sources: CandidateSources,
    evaluation_set: EvaluationSet,
    known: SourceLists,
    k: int,
) -> RankedLists:
    """The lists of a fixed order.

    Args:
      order: its sources and weights.
      sources: of the corpus.
      evaluation_set: the queries.
      known: lists of the two-tower, and of other sources that are known already, at least `DEPTH`
        and k long.
      k: length of the lists.
    """
    kept = _in_order(order, sources, queries_with(evaluation_set, known), k)
    # Without lists of unseen items from every source, there is nothing to order for them.
    if any(lists.excluded is None for lists in known.values()):
        return RankedLists(kept, None)
    queries = queries_with(evaluation_set, known, exclude_seen=True)
    return RankedLists(kept, _in_order(order, sources, queries, k, exclude_seen=True))


def queries_with(
    evaluation_set: EvaluationSet, lists: SourceLists, *, exclude_seen: bool = False
) -> Queries:
    """The queries of an evaluation set, with lists that are known, by source."""
    given = {name: ranked.scored(exclude_seen=exclude_seen) for name, ranked in lists.items()}
    return evaluation_set.source_queries.with_given(given)


def _in_order(
    order: FixedOrder,
    sources: CandidateSources,
    queries: Queries,
    k: int,
    *,
    exclude_seen: bool = False,
) -> np.ndarray:
    """[U, k] int64."""
    ranked = np.full((len(queries), k), -1, np.int64)
    for chunk in _chunks(len(queries)):
        part = queries.part(chunk.start, chunk.stop)
        exclude = part.seen if exclude_seen else None
        ranked[chunk], _ = order.answer(sources, part, k, exclude=exclude)
    return ranked


def _chunks(rows: int) -> Iterator[slice]:
    for start in range(0, rows, _CHUNK):
        yield slice(start, min(start + _CHUNK, rows))
