"""Lists of a mix, and of co-occurrence alone, for the queries of a split."""

import numpy as np

from model.evaluation.evaluation_set import EvaluationSet
from model.evaluation.ranked_lists import RankedLists
from twinspire_core.fusion.fuse import DEPTH, Fusion, fuse_sources
from twinspire_core.metrics.ranking import first_distinct
from twinspire_core.sources.candidate_sources import CO_OCCURRENCE, CandidateSources

_CHUNK = 2048


def rank_near(nominators: CandidateSources, split: EvaluationSet, k: int) -> RankedLists:
    """What co-occurrence says, and no more: one look at the neighbours for lists with seen items
    and without.

    Args:
      nominators: of the catalogue.
      split: the queries.
      k: length of the lists.
    """
    kept, fresh = (np.full((split.past.rows, k), -1, np.int64) for _ in range(2))
    for part in _parts(split):
        past = split.past.part(part.start, part.stop)
        # What is excluded cannot use up more than its own number of places.
        most = k + int(past.lengths.max(initial=0))
        found = nominators.retrieve([CO_OCCURRENCE], past, most)[CO_OCCURRENCE]
        kept[part], fresh[part] = found[:, :k], first_distinct(found, k, exclude=past)
    return RankedLists(kept, fresh)


def rank_fusion(
    mix: Fusion,
    nominators: CandidateSources,
    split: EvaluationSet,
    two_tower: RankedLists,
    k: int,
    *,
    near: RankedLists | None = None,
) -> RankedLists:
    """The lists of a mix.

    Args:
      mix: its weights.
      nominators: of the catalogue.
      split: the queries.
      two_tower: [U, L] its lists, at least `DEPTH` long.
      k: length of the lists.
      near: from `rank_near`, at least `DEPTH` and k long, where somebody has it already.
    """
    near = near or rank_near(nominators, split, max(k, DEPTH))
    kept = _fused(mix, nominators, split, two_tower.kept, near.kept, k, exclude=False)
    if two_tower.excluded is None or near.excluded is None:
        return RankedLists(kept, None)
    return RankedLists(
        kept, _fused(mix, nominators, split, two_tower.excluded, near.excluded, k, exclude=True)
    )


def rank_co_occurrence(
    nominators: CandidateSources, split: EvaluationSet, k: int, near: RankedLists
) -> RankedLists:
    """The lists of co-occurrence alone, followed by the most popular items.

    Args:
      nominators: of the catalogue.
      split: the queries.
      k: length of the lists.
      near: from `rank_near`, at least k long.
    """
    kept, fresh = near.first(k)
    assert fresh is not None, "of `rank_near`"
    return RankedLists(nominators.filled(kept, k), nominators.filled(fresh, k, exclude=split.past))


def _fused(
    mix: Fusion,
    nominators: CandidateSources,
    split: EvaluationSet,
    two_tower: np.ndarray,
    near: np.ndarray,
    k: int,
    *,
    exclude: bool,
) -> np.ndarray:
    ranked = np.full((len(two_tower), k), -1, np.int64)
    for part in _parts(split):
        past = split.past.part(part.start, part.stop)
        ranked[part], _ = fuse_sources(
            mix,
            nominators,
            past,
            split.past_events[part],
            k,
            two_tower=two_tower[part],
            near=near[part],
            exclude=past if exclude else None,
        )
    return ranked


def _parts(split: EvaluationSet) -> list[slice]:
    rows = split.past.rows
    return [slice(start, min(start + _CHUNK, rows)) for start in range(0, rows, _CHUNK)]
