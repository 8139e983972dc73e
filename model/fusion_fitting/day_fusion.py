"""The day's mix: measured as it was before the day, then fitted anew for the days to come.

    day D     the parent's mix is measured on D's queries: neither its towers nor its weights saw D. Then weights are
              fitted on what the parent's towers and the other sources listed for D, without the
              users held out of D's training. The version of D carries them
    held out  that mix and the parent's are compared on D's held-out users, which neither saw
    day D+1   the version of D is the parent

A first version has no parent to list anything for its day. Its weights are fitted on what its own
towers list for D's held-out users. They are then no test of them: nothing is measured of that mix
before D+1.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.evaluate import Measures, compare, evaluate_ranked
from model.evaluation.evaluation_set import DAY, HELD, EvaluationSet, prepare_as_configured
from model.evaluation.ranked_lists import RankedLists
from model.fusion_fitting.fusion_weights import MOST_USERS, fit_weights
from model.fusion_fitting.source_lists import rank_fusion
from twinspire_core.contracts.day_metrics import FusionMeasures, HeldOutMeasures
from twinspire_core.contracts.fusion_file import FittedOn
from twinspire_core.contracts.stage_context import StageContext
from twinspire_core.fusion.fuse import DEPTH, Fusion, pool_sources
from twinspire_core.metrics import measure_names
from twinspire_core.metrics.slices import slice_of
from twinspire_core.sources.candidate_sources import CandidateSources

PROGRESSIVE, HELD_OUT = "progressive", "held_out"
"""What weights were fitted on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayFusion:
    """What a day's mix is fitted and measured on.

    Attributes:
      ctx: pipeline, day and parent.
      corpus: the catalogue as of the start of the day, which the exams were prepared for.
      nominators: of the catalogue, as of the start of the day.
      asked: the exams of the day.
      before: the parent's lists by exam, at least `DEPTH` long; none without a parent.
      after: this version's lists of those held out.
      inherited: the parent's mix, if it has one.
      near: what co-occurrence says, by exam, at least `DEPTH` long; worked out where it is not
        given.
    """

    ctx: StageContext
    corpus: pa.Table
    nominators: CandidateSources
    asked: Mapping[str, EvaluationSet]
    before: Mapping[str, RankedLists]
    after: Mapping[str, RankedLists]
    inherited: Fusion | None
    near: Mapping[str, RankedLists] = field(default_factory=dict)

    def fit(self) -> Fusion | None:
        """The mix that the day's version carries: with too few users to fit on the parent's, if its
        sources are these.

        None where there is none; the two-tower is then served alone.
        """
        settings, bounds = self.ctx.pipeline.mix, self.ctx.pipeline.evaluation.slices
        name, lists = (DAY, self.before[DAY]) if self.before else (HELD, self.after[HELD])
        exam_of = self.asked[name]
        chosen = _by_slice(self._told(), exam_of.past_events, bounds)
        if not settings.sources or sum(map(len, chosen)) < settings.min_users:
            old = self.inherited
            return old if old and (old.sources, old.bounds) == (settings.sources, bounds) else None
        enough = [len(rows) >= settings.min_users for rows in chosen]
        asked = [rows for rows, own in zip(chosen, enough, strict=True) if own]
        # The weights of small slices
        asked += [np.sort(np.concatenate(chosen))] if not all(enough) else []
        found = [self._weights(name, lists.kept, rows) for rows in asked]
        own_weights = iter(found)
        weights = [next(own_weights) if own else found[-1] for own in enough]
        names = measure_names.names(bounds)
        fitted = FittedOn(
            on=PROGRESSIVE if self.before else HELD_OUT,
            day=str(self.ctx.day),
            two_tower=self.ctx.parent.version if self.ctx.parent else None,
            metric=f"recall@{self._ks()[0]}",
            users={name: len(rows) for name, rows in zip(names, chosen, strict=True)},
            own_weights=[name for name, own in zip(names, enough, strict=True) if own],
        )
        return Fusion(
            sources=settings.sources,
            bounds=bounds,
            weights=np.stack(weights).round(6),
            fitted=fitted,
        )

    def figures(self, mix: Fusion | None) -> FusionMeasures:
        """What metrics.json tells of mixes.

        Args:
          mix: what `fit` returned.
        """
        ks, today, rows = self.ctx.pipeline.evaluation.ks, self._today(), self._is_today()
        day = self._ranked(
            self.inherited, self.asked[DAY], self.before.get(DAY), self.near.get(DAY)
        )
        new = (
            None
            if mix and mix.fitted.on == HELD_OUT and mix.fitted.day == str(self.ctx.day)
            else mix
        )
        candidate, baseline = (
            self._ranked(
                which,
                today,
                *(x[HELD].of(rows) if HELD in x else None for x in (lists, self.near)),
            )
            for which, lists in ((new, self.after), (self.inherited, self.before))
        )

        def measures(exam_of: EvaluationSet, ranked: RankedLists | None) -> Measures | None:
            return evaluate_ranked(exam_of, ranked, ks) if ranked else None

        change = None
        if candidate and baseline:
            change = compare(today, candidate.kept, baseline.kept, ks)
        return FusionMeasures(
            progressive=measures(self.asked[DAY], day),
            holdout=HeldOutMeasures(
                users=today.users,
                candidate=measures(today, candidate),
                baseline=measures(today, baseline),
                change=change,
            ),
            fitted=mix.fitted if mix else None,
        )

    def _told(self) -> np.ndarray:
        """Which queries weights may be fitted on, [U] bool."""
        return (
            ~self.asked[DAY].queries.column("_holdout").to_numpy()
            if self.before
            else self._is_today()
        )

    def _is_today(self) -> np.ndarray:
        """Which held-out queries are of the day, [U] bool. What earlier ones look for is in the
        day's tables.
        """
        days = self.asked[HELD].queries.column("_day")
        today: np.ndarray = pc.equal(days, pa.scalar(self.ctx.day, pa.date32())).to_numpy()
        return today

    def _today(self) -> EvaluationSet:
        rows = self.asked[HELD].queries.filter(pa.array(self._is_today()))
        return prepare_as_configured(rows, self.corpus, self.ctx.pipeline.evaluation)

    def _ranked(
        self,
        mix: Fusion | None,
        split: EvaluationSet,
        two_tower: RankedLists | None,
        near: RankedLists | None,
    ) -> RankedLists | None:
        k = max(self.ctx.pipeline.evaluation.ks)
        return (
            rank_fusion(mix, self.nominators, split, two_tower, k, near=near)
            if mix and two_tower
            else None
        )

    def _ks(self) -> list[int]:
        ks = sorted(self.ctx.pipeline.evaluation.ks)
        return [ks[len(ks) // 2], ks[0]]

    def _weights(self, name: str, two_tower: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Weights fitted on the queries of an exam at these places, ascending."""
        rows, split, sources = _some(rows), self.asked[name], self.ctx.pipeline.mix.sources
        near = self.near[name].kept[rows] if name in self.near else None
        pooled = pool_sources(
            sources,
            self.nominators,
            split.past.take(rows),
            DEPTH,
            two_tower=two_tower[rows],
            near=near,
        )
        return fit_weights(pooled, split.truth.take(rows), self._ks())


def _by_slice(told: np.ndarray, events: np.ndarray, bounds: tuple[int, ...]) -> list[np.ndarray]:
    """Places of the queries to fit on, by slice."""
    of = slice_of(events, bounds)
    return [_some(np.flatnonzero(told & (of == number))) for number in range(len(bounds) + 1)]


def _some(rows: np.ndarray) -> np.ndarray:
    chosen: np.ndarray = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_USERS)).astype(int)]
    return chosen
