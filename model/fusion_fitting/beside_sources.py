"""Fused lists beside those of each source alone: what the gate asks of what is served.

A fusion is fitted on days before, so that on the day nothing keeps it from finding less than one of
its own sources would. The lists of a source alone are what would be served if it were the only one:
followed by the most popular items where it knows too few.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from model.evaluation.evaluation_set import EvaluationSet
from model.evaluation.ranked_lists import RankedLists
from model.evaluation.source_lists import SourceLists, rank_fusion
from model.evaluation.version_line import paired_differences
from twinspire_core.contracts.measures import PairedDifferences
from twinspire_core.fusion.fuse import Fusion
from twinspire_core.sources.candidate_sources import CandidateSources


def measure_beside_sources(
    fusion: Fusion,
    sources: CandidateSources,
    evaluation_set: EvaluationSet,
    two_tower: RankedLists,
    fused: RankedLists,
    ks: Sequence[int],
    *,
    known: SourceLists | None = None,
) -> dict[str, PairedDifferences]:
    """How fused lists differ from those of each of their sources, of all users and of slices.

    Args:
      fusion: that made them.
      sources: of the corpus.
      evaluation_set: one query per user.
      two_tower: lists of the two towers, as `rank_fusion` takes them.
      fused: the lists compared.
      ks: list lengths.
      known: as `rank_fusion` takes it.

    Returns: by source.
    """
    beside = {}
    for name in fusion.sources:
        alone = rank_fusion(
            source_alone(fusion, name),
            sources,
            evaluation_set,
            two_tower,
            max(ks),
            known=known,
        )
        beside[name] = paired_differences(evaluation_set, fused, alone, ks, slices=True)
    return beside


def source_alone(fusion: Fusion, name: str) -> Fusion:
    """The fusion that serves one source of another and no other."""
    weights = np.ones((len(fusion.bounds) + 1, 1))
    return replace(fusion, sources=(name,), weights=weights)
