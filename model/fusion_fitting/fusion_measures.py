"""What fusions are worth on a day: the parent's on all its users, and the day's own beside the
parent's on users held out.

U queries of an evaluation set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa

from model.evaluation.day_data import HELD_OUT, NEXT_DAY
from model.evaluation.evaluate import MeasuresDict, compare, evaluate_ranked
from model.evaluation.evaluation_set import EvaluationSet, prepare_whole
from model.evaluation.ranked_lists import RankedLists
from model.evaluation.source_lists import SourceLists, rank_fusion
from model.evaluation.version_line import beside_simple_lists, paired_differences
from model.fusion_fitting.beside_sources import measure_beside_sources
from model.fusion_fitting.day_fusion import DayFusion
from twinspire_core.contracts.day_metrics import FusionMeasures, HeldOutMeasures
from twinspire_core.contracts.fusion_file import HELD_OUT_USERS
from twinspire_core.contracts.measures import PairedDifferences
from twinspire_core.fusion.fuse import Fusion
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.registry import SOURCES


@dataclass(frozen=True, kw_only=True)
class _Contender:
    """A version's fusion, and what it is measured on.

    Attributes:
      fusion: None where the version serves its two-tower alone.
      sources: with the constants that the version carries.
      evaluation_set: the queries.
      two_tower: lists of the version's towers for them, at least `DEPTH` long; None without such.
      known: lists of other sources, as `rank_fusion` takes them.
      ks: list lengths.
    """

    fusion: Fusion | None
    sources: CandidateSources
    evaluation_set: EvaluationSet
    two_tower: RankedLists | None
    known: SourceLists | None
    ks: Sequence[int]

    @cached_property
    def fused(self) -> RankedLists | None:
        """Its fused lists; None without a fusion, or without lists to fuse."""
        if self.fusion is None or self.two_tower is None:
            return None
        return rank_fusion(
            self.fusion,
            self.sources,
            self.evaluation_set,
            self.two_tower,
            max(self.ks),
            known=self.known,
        )

    @property
    def served(self) -> RankedLists | None:
        """What the version serves: without a fusion, the lists of its two-tower."""
        if self.fusion:
            return self.fused
        return self.two_tower.first(max(self.ks)) if self.two_tower else None

    def measures(self) -> MeasuresDict | None:
        """Measures of the fused lists."""
        return _measure(self.evaluation_set, self.fused, self.ks)

    def beside_sources(self) -> dict[str, PairedDifferences]:
        """How the fused lists differ from those of each source alone; nothing without them."""
        if self.fusion is None or self.two_tower is None or self.fused is None:
            return {}
        return measure_beside_sources(
            self.fusion,
            self.sources,
            self.evaluation_set,
            self.two_tower,
            self.fused,
            self.ks,
            known=self.known,
        )

    def beside_simple(self) -> dict[str, PairedDifferences]:
        """How what the version serves differs from each simple list."""
        return beside_simple_lists(self.evaluation_set, self.served, self.ks)


def measure_fusions(day_fusion: DayFusion, fusion: Fusion | None) -> FusionMeasures:
    """What metrics.json says of fusions.

    Args:
      day_fusion: the day.
      fusion: what `DayFusion.fit` returned.
    """
    ks = day_fusion.ctx.pipeline.evaluation.ks
    parent_next_day = _Contender(
        fusion=day_fusion.inherited,
        sources=day_fusion.sources,
        evaluation_set=day_fusion.day.evaluation_sets[NEXT_DAY],
        two_tower=day_fusion.parent_lists.get(NEXT_DAY),
        known=day_fusion.costly.get(NEXT_DAY),
        ks=ks,
    )
    own, parent = _on_held_out_users(day_fusion, fusion)
    today = own.evaluation_set
    served = own.served
    # Without a parent they are the version's own lists of before its last day, which nobody served.
    served_before = parent.served if day_fusion.ctx.parent else None
    beside_parent = None
    exchanged = None
    if served and served_before:
        if fusion is not None or day_fusion.inherited is not None:
            beside_parent = paired_differences(today, served, served_before, ks)
        if (fusion is None) != (day_fusion.inherited is None):
            exchanged = _compare(today, served, served_before, ks)
    return FusionMeasures(
        progressive=parent_next_day.measures(),
        holdout=_compare(today, own.fused, parent.fused, ks),
        exchanged=exchanged,
        served=beside_parent,
        beside_sources=parent_next_day.beside_sources(),
        own_beside_sources=own.beside_sources(),
        beside_simple=parent_next_day.beside_simple(),
        own_beside_simple=own.beside_simple(),
        fitted=fusion.fitted if fusion else None,
        keeps_weights=_weigh_alike(fusion, day_fusion.inherited),
    )


def _on_held_out_users(
    day_fusion: DayFusion, fusion: Fusion | None
) -> tuple[_Contender, _Contender]:
    """The day's own fusion and the parent's, on users held out of today.

    Held-out users of earlier days fill up other measures; of fused lists they are no test.
    """
    of_today = day_fusion.held_out_of_today()
    today = prepare_whole(
        day_fusion.day.evaluation_sets[HELD_OUT].queries.filter(pa.array(of_today)),
        day_fusion.day.corpus,
        exclude_seen=day_fusion.day.evaluation_sets[NEXT_DAY].exclude_seen,
    )
    known = None
    if HELD_OUT in day_fusion.costly:
        known = {name: lists.of(of_today) for name, lists in day_fusion.costly[HELD_OUT].items()}
    own = _Contender(
        fusion=fusion,
        sources=day_fusion.fitted_sources,
        evaluation_set=today,
        # Weights are not measured on the users that they were fitted on.
        two_tower=None
        if _was_fitted_on_held_out(day_fusion, fusion)
        else _lists_of(day_fusion.lists, of_today),
        known=_without_constants(known),
        ks=day_fusion.ctx.pipeline.evaluation.ks,
    )
    parent = replace(
        own,
        fusion=day_fusion.inherited,
        sources=day_fusion.sources,
        two_tower=_lists_of(day_fusion.parent_lists, of_today),
        known=known,
    )
    return own, parent


def _was_fitted_on_held_out(day_fusion: DayFusion, fusion: Fusion | None) -> bool:
    """Whether today's held-out users are those that the weights were fitted on."""
    if fusion is None:
        return False
    fitted = fusion.fitted
    return fitted.on == HELD_OUT_USERS and fitted.day == str(day_fusion.ctx.day)


def _weigh_alike(fusion: Fusion | None, other: Fusion | None) -> bool:
    """Whether two fusions give the same sources the same weights."""
    if fusion is None or other is None:
        return False
    if (fusion.sources, fusion.bounds) != (other.sources, other.bounds):
        return False
    return np.array_equal(fusion.weights, other.weights)


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
) -> MeasuresDict | None:
    return evaluate_ranked(evaluation_set, ranked, ks) if ranked else None


def _lists_of(lists: Mapping[str, RankedLists], queries: np.ndarray) -> RankedLists | None:
    """The lists of some held-out queries, [U] bool; None without lists for held-out users."""
    return lists[HELD_OUT].of(queries) if HELD_OUT in lists else None


def _without_constants(lists: SourceLists | None) -> SourceLists | None:
    """The lists of sources without a constant, which are the same whatever was fitted."""
    if lists is None or any(SOURCES[name].choices for name in lists):
        return None
    return lists
