"""What fusions are worth on a day: the parent's on all its users, and the day's own beside the
parent's on users held out.

U queries of an evaluation set.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from model.evaluation.day_data import HELD_OUT, NEXT_DAY
from model.evaluation.evaluate import Measures, compare, evaluate_ranked
from model.evaluation.evaluation_set import EvaluationSet, prepare_as_configured
from model.evaluation.ranked_lists import RankedLists
from model.evaluation.source_lists import SourceLists, rank_fusion
from model.evaluation.version_line import paired_differences
from model.fusion_fitting.beside_sources import measure_beside_sources
from model.fusion_fitting.day_fusion import DayFusion
from twinspire_core.contracts.day_metrics import FusionMeasures, HeldOutMeasures
from twinspire_core.contracts.fusion_file import HELD_OUT_USERS
from twinspire_core.contracts.paired_differences import PairedDifferences
from twinspire_core.fusion.fuse import Fusion
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.registry import SOURCES


def measure_fusions(of: DayFusion, fusion: Fusion | None) -> FusionMeasures:
    """What metrics.json says of fusions.

    Args:
      of: the day.
      fusion: what `DayFusion.fit` returned.
    """
    ks = of.ctx.pipeline.evaluation.ks
    next_day = of.day.evaluation_sets[NEXT_DAY]
    # Held-out users of earlier days fill up other measures; of fused lists they are no test.
    of_today = of.held_out_of_today()
    today = prepare_as_configured(
        of.day.evaluation_sets[HELD_OUT].queries.filter(pa.array(of_today)),
        of.day.corpus,
        of.ctx.pipeline.evaluation,
        exclude_seen=next_day.exclude_seen,
    )
    progressive = _rank(
        of,
        of.inherited,
        of.sources,
        next_day,
        of.parent_lists.get(NEXT_DAY),
        of.costly.get(NEXT_DAY),
    )
    known = None
    if HELD_OUT in of.costly:
        known = {name: lists.of(of_today) for name, lists in of.costly[HELD_OUT].items()}
    ours = _lists_of(of.lists, of_today)
    parents = _lists_of(of.parent_lists, of_today)
    candidate = None
    if not _was_fitted_on_held_out(of, fusion):
        fitted = of.fitted_sources
        candidate = _rank(of, fusion, fitted, today, ours, _without_constants(known))
    baseline = _rank(of, of.inherited, of.sources, today, parents, known)
    # What a version without a mix serves is its two-tower's lists
    served = candidate if fusion else _cut(ours, ks)
    served_before = baseline if of.inherited else _cut(parents, ks)
    if of.ctx.parent is None:
        served_before = None  # a first version's own lists of before its last day
    has_mix = fusion is not None or of.inherited is not None
    beside_parent = None
    if has_mix and served and served_before:
        beside_parent = paired_differences(today, served, served_before, ks)
    exchanged = None
    if (fusion is None) != (of.inherited is None) and served and served_before:
        exchanged = _compare(today, served, served_before, ks)
    return FusionMeasures(
        progressive=_measure(next_day, progressive, ks),
        holdout=_compare(today, candidate, baseline, ks),
        exchanged=exchanged,
        served=beside_parent,
        beside_sources=_beside_sources(
            of,
            of.inherited,
            of.sources,
            next_day,
            progressive,
            of.parent_lists.get(NEXT_DAY),
            of.costly.get(NEXT_DAY),
        ),
        own_beside_sources=_beside_sources(
            of, fusion, of.fitted_sources, today, candidate, ours, _without_constants(known)
        ),
        fitted=fusion.fitted if fusion else None,
        keeps_weights=_weigh_alike(fusion, of.inherited),
    )


def _beside_sources(
    of: DayFusion,
    fusion: Fusion | None,
    sources: CandidateSources,
    evaluation_set: EvaluationSet,
    fused: RankedLists | None,
    two_tower: RankedLists | None,
    known: SourceLists | None,
) -> dict[str, PairedDifferences]:
    """How a fusion's lists differ from those of its sources alone; nothing without lists."""
    if fusion is None or fused is None or two_tower is None:
        return {}
    return measure_beside_sources(
        fusion,
        sources,
        evaluation_set,
        two_tower,
        fused,
        of.ctx.pipeline.evaluation.ks,
        known=known,
    )


def _was_fitted_on_held_out(of: DayFusion, fusion: Fusion | None) -> bool:
    """Whether today's held-out users are those that the weights were fitted on."""
    if fusion is None:
        return False
    fitted = fusion.fitted
    return fitted.on == HELD_OUT_USERS and fitted.day == str(of.ctx.day)


def _rank(
    of: DayFusion,
    fusion: Fusion | None,
    sources: CandidateSources,
    evaluation_set: EvaluationSet,
    two_tower: RankedLists | None,
    known: SourceLists | None,
) -> RankedLists | None:
    if fusion is None or two_tower is None:
        return None
    k = max(of.ctx.pipeline.evaluation.ks)
    return rank_fusion(fusion, sources, evaluation_set, two_tower, k, known=known)


def _weigh_alike(fusion: Fusion | None, other: Fusion | None) -> bool:
    """Whether two fusions give the same sources the same weights."""
    if fusion is None or other is None:
        return False
    if (fusion.sources, fusion.bounds) != (other.sources, other.bounds):
        return False
    return np.array_equal(fusion.weights, other.weights)


def _cut(ranked: RankedLists | None, ks: Sequence[int]) -> RankedLists | None:
    """The part of lists that is measured."""
    return ranked.first(max(ks)) if ranked else None


def _compare(
    evaluation_set: EvaluationSet,
    candidate: RankedLists | None,
    baseline: RankedLists | None,
    ks: Sequence[int],
) -> HeldOutMeasures:
    change = None
    if candidate and baseline:
        seen = evaluation_set.exclude_seen
        change = compare(evaluation_set, candidate.counted(seen), baseline.counted(seen), ks)
    return HeldOutMeasures(
        users=evaluation_set.users,
        candidate=_measure(evaluation_set, candidate, ks),
        baseline=_measure(evaluation_set, baseline, ks),
        change=change,
    )


def _measure(
    evaluation_set: EvaluationSet, ranked: RankedLists | None, ks: Sequence[int]
) -> Measures | None:
    return evaluate_ranked(evaluation_set, ranked, ks) if ranked else None


def _lists_of(lists: Mapping[str, RankedLists], queries: np.ndarray) -> RankedLists | None:
    """The lists of some held-out queries, [U] bool; None without lists for held-out users."""
    return lists[HELD_OUT].of(queries) if HELD_OUT in lists else None


def _without_constants(lists: SourceLists | None) -> SourceLists | None:
    """The lists of sources without a constant, which are the same whatever was fitted."""
    if lists is None or any(SOURCES[name].choices for name in lists):
        return None
    return lists
