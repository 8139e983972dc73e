"""Lists by a ranker for the queries of an evaluation set: the twin of what is done with a fixed order in
model/evaluation/source_lists.py.

U queries, L places of a list.
"""

from collections.abc import Iterator

import numpy as np

from model.evaluation.evaluation_set import EvaluationSet
from model.evaluation.ranked_lists import RankedLists
from model.evaluation.source_lists import SourceLists, queries_with
from twinspire_core.ranking.pairs import Vectors
from twinspire_core.ranking.ranker import Ranker, rank_candidates
from twinspire_core.ranking.registry import RankingFeatures
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.source import Queries

_CHUNK = 512
"""Queries whose features are in memory at a time: some 300 candidates of each."""


def rank_queries(
    ranker: Ranker,
    sources: CandidateSources,
    evaluation_set: EvaluationSet,
    vectors: Vectors,
    known: SourceLists,
    k: int,
) -> RankedLists:
    """The lists of a ranker; without seen items where such lists count.

    Args:
      ranker: the trees.
      sources: of the corpus.
      evaluation_set: the queries.
      vectors: of these and of the corpus.
      known: lists of the two-tower, and of other sources that are known already, at least `DEPTH`
        and k long.
      k: length of the lists.
    """
    features = RankingFeatures.of(sources.tables)
    queries = queries_with(evaluation_set, known)
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
    """Some queries at a time, with their vectors, if there are any."""
    for start in range(0, len(queries), _CHUNK):
        chunk = slice(start, min(start + _CHUNK, len(queries)))
        of_part = vectors
        if vectors is not None:
            of_part = Vectors(queries=vectors.queries[chunk], items=vectors.items)
        yield chunk, queries.part(chunk.start, chunk.stop), of_part
