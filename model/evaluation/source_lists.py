"""Lists of the candidate sources that need no towers, and of the fusion of all sources.

U queries, L places of a list. Items are positions in the corpus; -1 is none.
"""

from collections.abc import Iterator

import numpy as np

from model.evaluation.evaluation_set import EvaluationSet
from model.evaluation.ranked_lists import RankedLists
from twinspire_core.fusion.fuse import DEPTH, Fusion, fuse_sources
from twinspire_core.metrics.ranking import first_distinct
from twinspire_core.sources.candidate_sources import CO_OCCURRENCE, CandidateSources

_CHUNK = 2048
"""Queries answered at a time."""


def co_occurrence_candidates(
    sources: CandidateSources, evaluation_set: EvaluationSet, k: int
) -> RankedLists:
    """What co-occurrence retrieves, and no more: lists may end early.

    The neighbours are looked up once for both kinds of lists, with and without seen items.

    Args:
      sources: of the corpus.
      evaluation_set: the queries.
      k: length of the lists.
    """
    shape = (evaluation_set.past.rows, k)
    kept = np.full(shape, -1, np.int64)
    excluded = np.full(shape, -1, np.int64)
    for chunk in _chunks(evaluation_set.past.rows):
        past = evaluation_set.past.part(chunk.start, chunk.stop)
        # Seen items can take no more places than there are of them.
        depth = k + int(past.lengths.max(initial=0))
        retrieved = sources.retrieve([CO_OCCURRENCE], past, depth)[CO_OCCURRENCE]
        kept[chunk] = retrieved[:, :k]
        excluded[chunk] = first_distinct(retrieved, k, exclude=past)
    return RankedLists(kept, excluded)


def rank_co_occurrence(
    sources: CandidateSources, evaluation_set: EvaluationSet, k: int, candidates: RankedLists
) -> RankedLists:
    """The lists of co-occurrence alone, filled up with the most popular items.

    Args:
      sources: of the corpus.
      evaluation_set: the queries.
      k: length of the lists.
      candidates: from `co_occurrence_candidates`, at least k long.
    """
    kept, excluded = candidates.first(k)
    assert excluded is not None, "co_occurrence_candidates gives both kinds"
    return RankedLists(
        sources.filled(kept, k),
        sources.filled(excluded, k, exclude=evaluation_set.past),
    )


def rank_fusion(
    fusion: Fusion,
    sources: CandidateSources,
    evaluation_set: EvaluationSet,
    two_tower: RankedLists,
    k: int,
    *,
    co_occurrence: RankedLists | None = None,
) -> RankedLists:
    """The lists of a fusion.

    Args:
      fusion: its sources and weights.
      sources: of the corpus.
      evaluation_set: the queries.
      two_tower: lists of the two towers, at least `DEPTH` long.
      k: length of the lists.
      co_occurrence: from `co_occurrence_candidates`, at least `DEPTH` and k long; retrieved here if
        not given.
    """
    if co_occurrence is None:
        co_occurrence = co_occurrence_candidates(sources, evaluation_set, max(k, DEPTH))
    kept = _fused(
        fusion, sources, evaluation_set, two_tower.kept, co_occurrence.kept, k, exclude_seen=False
    )
    # Without lists of unseen items from every source, there is nothing to fuse for them.
    if two_tower.excluded is None or co_occurrence.excluded is None:
        return RankedLists(kept, None)
    excluded = _fused(
        fusion,
        sources,
        evaluation_set,
        two_tower.excluded,
        co_occurrence.excluded,
        k,
        exclude_seen=True,
    )
    return RankedLists(kept, excluded)


def _fused(
    fusion: Fusion,
    sources: CandidateSources,
    evaluation_set: EvaluationSet,
    two_tower: np.ndarray,
    co_occurrence: np.ndarray,
    k: int,
    *,
    exclude_seen: bool,
) -> np.ndarray:
    """[U, k] int64."""
    ranked = np.full((len(two_tower), k), -1, np.int64)
    for chunk in _chunks(evaluation_set.past.rows):
        past = evaluation_set.past.part(chunk.start, chunk.stop)
        ranked[chunk], _ = fuse_sources(
            fusion,
            sources,
            past,
            evaluation_set.past_events[chunk],
            k,
            two_tower=two_tower[chunk],
            near=co_occurrence[chunk],
            exclude=past if exclude_seen else None,
        )
    return ranked


def _chunks(rows: int) -> Iterator[slice]:
    for start in range(0, rows, _CHUNK):
        yield slice(start, min(start + _CHUNK, rows))
