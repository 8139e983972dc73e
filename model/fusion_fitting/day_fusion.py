"""The day's fusion: measured as it was before the day, then fitted anew for the days to come.

    day D      The parent's fusion is measured on D's queries: neither its towers nor its weights
               have seen D. Then weights are fitted on what the parent's towers and the other
               sources listed for D, without the users held out of D's training. The version of D
               carries these weights.
    held out   The new weights and the parent's are compared on D's held-out users, whom neither has
               seen.
    day D + 1  The version of D is the parent.

A first version has no parent to list anything for its day. Its weights are fitted on what its own
towers list for D's held-out users. These users are then no test of the weights, so nothing is
measured of that fusion before D + 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.day_data import HELD_OUT, NEXT_DAY, DayData
from model.evaluation.evaluate import Measures, compare, evaluate_ranked
from model.evaluation.evaluation_set import EvaluationSet, prepare_as_configured
from model.evaluation.ranked_lists import RankedLists
from model.evaluation.source_lists import rank_fusion
from model.fusion_fitting.fusion_weights import MAX_QUERIES, fit_weights
from twinspire_core.contracts.day_metrics import FusionMeasures, HeldOutMeasures
from twinspire_core.contracts.fusion_file import FittedOn
from twinspire_core.contracts.stage_context import StageContext
from twinspire_core.fusion.fuse import DEPTH, Fusion, pool_sources
from twinspire_core.metrics import measure_names
from twinspire_core.metrics.slices import slice_of
from twinspire_core.sources.candidate_sources import CandidateSources

FITTED_ON_DAY = "progressive"
"""Weights were fitted on the day's users, with the parent's lists."""
FITTED_ON_HELD_OUT = "held_out"
"""Weights were fitted on users held out of training, with the version's own lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayFusion:
    """What a day's fusion is fitted and measured on.

    Attributes:
      ctx: pipeline, day and parent.
      day: the corpus as of the start of the day, and the evaluation sets.
      sources: of that corpus.
      parent_lists: the parent's lists by evaluation set, at least `DEPTH` long; empty without a
        parent.
      lists: this version's lists for users held out, likewise.
      inherited: the parent's fusion, if it has one.
      co_occurrence: from `co_occurrence_candidates` by evaluation set, at least `DEPTH` long; sets
        that are not there are retrieved when they are needed.
    """

    ctx: StageContext
    day: DayData
    sources: CandidateSources
    parent_lists: Mapping[str, RankedLists]
    lists: Mapping[str, RankedLists]
    inherited: Fusion | None
    co_occurrence: Mapping[str, RankedLists] = field(default_factory=dict)

    def fit(self) -> Fusion | None:
        """The fusion that the day's version carries.

        With too few users to fit on it is the parent's, if that has the same sources and slices.
        None if there is none; the two-tower is then served alone.
        """
        settings = self.ctx.pipeline.mix
        bounds = self.ctx.pipeline.evaluation.slices
        name, lists = (NEXT_DAY, self.parent_lists) if self.parent_lists else (HELD_OUT, self.lists)
        queries_by_slice = self._queries_by_slice(name)
        users = [len(rows) for rows in queries_by_slice]
        if not settings.sources or sum(users) < settings.min_users:
            return self._inherited_if_alike()
        enough = [number >= settings.min_users for number in users]
        # Slices with too few users share weights that are fitted on everybody.
        if not all(enough):
            every = np.sort(np.concatenate(queries_by_slice))
            shared_weights = self._fit_weights(name, lists[name].kept, every)
        weights = []
        for rows, has_own in zip(queries_by_slice, enough, strict=True):
            if has_own:
                weights.append(self._fit_weights(name, lists[name].kept, rows))
            else:
                weights.append(shared_weights)
        return Fusion(
            sources=settings.sources,
            bounds=bounds,
            weights=np.stack(weights).round(6),
            fitted=self._fitted(users, enough),
        )

    def figures(self, fusion: Fusion | None) -> FusionMeasures:
        """What metrics.json says of fusions.

        Args:
          fusion: what `fit` returned.
        """
        ks = self.ctx.pipeline.evaluation.ks
        next_day = self.day.evaluation_sets[NEXT_DAY]
        # Held-out users of earlier days fill up other measures; of fused lists they are no test.
        of_today = self._held_out_of_today()
        today = prepare_as_configured(
            self.day.evaluation_sets[HELD_OUT].queries.filter(pa.array(of_today)),
            self.day.corpus,
            self.ctx.pipeline.evaluation,
        )
        progressive = self._rank(
            self.inherited,
            next_day,
            self.parent_lists.get(NEXT_DAY),
            self.co_occurrence.get(NEXT_DAY),
        )
        co_occurrence = _lists_of(self.co_occurrence, of_today)
        candidate = None
        if not self._was_fitted_on_held_out(fusion):
            candidate = self._rank(fusion, today, _lists_of(self.lists, of_today), co_occurrence)
        baseline = self._rank(
            self.inherited, today, _lists_of(self.parent_lists, of_today), co_occurrence
        )
        change = None
        if candidate and baseline:
            change = compare(today, candidate.kept, baseline.kept, ks)
        return FusionMeasures(
            progressive=_measure(next_day, progressive, ks),
            holdout=HeldOutMeasures(
                users=today.users,
                candidate=_measure(today, candidate, ks),
                baseline=_measure(today, baseline, ks),
                change=change,
            ),
            fitted=fusion.fitted if fusion else None,
        )

    def _queries_by_slice(self, name: str) -> list[np.ndarray]:
        """Positions of the queries of an evaluation set to fit on, ascending, by slice of users."""
        evaluation_set = self.day.evaluation_sets[name]
        if name == NEXT_DAY:
            # Those held out are to judge the weights, here and in the gate.
            usable = ~evaluation_set.queries.column("_holdout").to_numpy()
        else:
            usable = self._held_out_of_today()
        bounds = self.ctx.pipeline.evaluation.slices
        user_slice = slice_of(evaluation_set.past_events, bounds)
        return [
            _at_most(np.flatnonzero(usable & (user_slice == number)))
            for number in range(len(bounds) + 1)
        ]

    def _held_out_of_today(self) -> np.ndarray:
        """Which held-out queries are of the day itself, [U] bool.

        What users of earlier days took has been counted since: the day's tables of popularity and
        co-occurrence know their answers.
        """
        days = self.day.evaluation_sets[HELD_OUT].queries.column("_day")
        is_today: np.ndarray = pc.equal(days, pa.scalar(self.ctx.day, pa.date32())).to_numpy()
        return is_today

    def _inherited_if_alike(self) -> Fusion | None:
        inherited = self.inherited
        if inherited is None or inherited.sources != self.ctx.pipeline.mix.sources:
            return None
        return inherited if inherited.bounds == self.ctx.pipeline.evaluation.slices else None

    def _fitted(self, users: Sequence[int], enough: Sequence[bool]) -> FittedOn:
        """What the fusion's file says of the fit."""
        names = measure_names.names(self.ctx.pipeline.evaluation.slices)
        return FittedOn(
            on=FITTED_ON_DAY if self.parent_lists else FITTED_ON_HELD_OUT,
            day=str(self.ctx.day),
            two_tower=self.ctx.parent.version if self.ctx.parent else None,
            metric=f"recall@{self._ks()[0]}",
            users=dict(zip(names, users, strict=True)),
            own_weights=[name for name, own in zip(names, enough, strict=True) if own],
        )

    def _was_fitted_on_held_out(self, fusion: Fusion | None) -> bool:
        """Whether today's held-out users are those that the weights were fitted on."""
        if fusion is None:
            return False
        fitted = fusion.fitted
        return fitted.on == FITTED_ON_HELD_OUT and fitted.day == str(self.ctx.day)

    def _rank(
        self,
        fusion: Fusion | None,
        evaluation_set: EvaluationSet,
        two_tower: RankedLists | None,
        co_occurrence: RankedLists | None,
    ) -> RankedLists | None:
        if fusion is None or two_tower is None:
            return None
        k = max(self.ctx.pipeline.evaluation.ks)
        return rank_fusion(
            fusion, self.sources, evaluation_set, two_tower, k, co_occurrence=co_occurrence
        )

    def _ks(self) -> list[int]:
        """The lengths of lists that weights are fitted for, the more important first."""
        ks = sorted(self.ctx.pipeline.evaluation.ks)
        return [ks[len(ks) // 2], ks[0]]

    def _fit_weights(self, name: str, two_tower: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """[S] weights fitted on the queries of an evaluation set at these positions, ascending."""
        rows = _at_most(rows)
        evaluation_set = self.day.evaluation_sets[name]
        co_occurrence = None
        if name in self.co_occurrence:
            co_occurrence = self.co_occurrence[name].kept[rows]
        pool = pool_sources(
            self.ctx.pipeline.mix.sources,
            self.sources,
            evaluation_set.past.take(rows),
            DEPTH,
            two_tower=two_tower[rows],
            near=co_occurrence,
        )
        return fit_weights(pool, evaluation_set.truth.take(rows), self._ks())


def _measure(
    evaluation_set: EvaluationSet, ranked: RankedLists | None, ks: Sequence[int]
) -> Measures | None:
    return evaluate_ranked(evaluation_set, ranked, ks) if ranked else None


def _lists_of(lists: Mapping[str, RankedLists], queries: np.ndarray) -> RankedLists | None:
    """The lists of some held-out queries, [U] bool; None without lists for held-out users."""
    return lists[HELD_OUT].of(queries) if HELD_OUT in lists else None


def _at_most(rows: np.ndarray) -> np.ndarray:
    """At most `MAX_QUERIES` of the rows, evenly out of all."""
    places = np.linspace(0, len(rows) - 1, min(len(rows), MAX_QUERIES)).astype(int)
    chosen: np.ndarray = rows[places]
    return chosen
