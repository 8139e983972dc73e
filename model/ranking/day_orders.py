"""What the fixed order and the ranker are worth on a day, on the same candidates.

day D      The parent's two are measured on D's queries: neither the trees nor the towers have
seen D, nor was the kind of log told by it.
held out   The fixed order of D's version is measured on D's held-out users; its trees are compared
with the parent's on these, by the parent's vectors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from model.evaluation.day_data import HELD_OUT, NEXT_DAY, DayData
from model.evaluation.evaluate import compare, evaluate_ranked
from model.evaluation.evaluation_set import EvaluationSet, prepare_whole
from model.evaluation.ranked_lists import RankedLists
from model.evaluation.source_lists import SourceLists, rank_fixed
from model.evaluation.version_evaluation import ParentEvaluation, VersionEvaluation
from model.evaluation.version_line import beside_simple_lists
from model.ranking.ranked_queries import rank_queries
from twinspire_core.config.source_names import TWO_TOWER
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.contracts.day_metrics import (
    FixedOrderMeasures,
    HeldOutMeasures,
    RankerMeasures,
)
from twinspire_core.fusion.fixed_order import FixedOrder
from twinspire_core.ranking.pairs import Vectors
from twinspire_core.ranking.ranker import Ranker
from twinspire_core.ranking.registry import RankingFeatures
from twinspire_core.sources.candidate_sources import CandidateSources


@dataclass(frozen=True, kw_only=True)
class DayOrders:
    """What is measured.

    Attributes:
      ctx: pipeline, day and parent.
      day: the corpus as of the start of the day, and the evaluation sets.
      sources: of that corpus, with the parent's half-life.
      costly: lists of costly sources, by evaluation set.
      parent: what the parent makes of the day, or a first version before it was trained on it.
      version: what the day's version makes of users held out.
      order_before: the parent's fixed order; None without a parent.
      order: the fixed order of the day's version.
      ranker_before: the parent's ranker, if it has one for today's sources.
      ranker: that of the day's version; None without.
    """

    ctx: StageContext
    day: DayData
    sources: CandidateSources
    costly: Mapping[str, SourceLists]
    parent: ParentEvaluation
    version: VersionEvaluation
    order_before: FixedOrder | None
    order: FixedOrder
    ranker_before: Ranker | None
    ranker: Ranker | None

    def of_fixed_order(self) -> FixedOrderMeasures:
        """What metrics.json says of lists in the fixed order."""
        ks = self.ctx.pipeline.evaluation.ks
        day, today = self.day.evaluation_sets[NEXT_DAY], self.today
        on_day, own = self.day_in_order, self._own_in_order
        own_measures = evaluate_ranked(today, own, ks)
        return FixedOrderMeasures(
            progressive=evaluate_ranked(day, on_day, ks) if on_day else None,
            holdout=HeldOutMeasures(users=today.users, candidate=own_measures),
            beside_simple=beside_simple_lists(day, on_day, ks),
            own_beside_simple=beside_simple_lists(today, own, ks),
        )

    def of_ranker(self) -> RankerMeasures:
        """What metrics.json says of rankers."""
        ks = self.ctx.pipeline.evaluation.ks
        day = self.day.evaluation_sets[NEXT_DAY]
        ranked = self.day_ranked()
        return RankerMeasures(
            progressive=evaluate_ranked(day, ranked, ks) if ranked else None,
            beside_simple=beside_simple_lists(day, ranked, ks),
            holdout=self._beside_trees_before(),
            fitted=self.ranker.described.fitted if self.ranker else None,
        )

    @cached_property
    def today(self) -> EvaluationSet:
        """Users held out of the day itself. What users of earlier days took has been counted since:
        of sources as of the day's start they are no test.
        """
        of_today = self.day.held_out_of(self.ctx.day)
        return prepare_whole(
            self.day.evaluation_sets[HELD_OUT].queries.filter(pa.array(of_today)),
            self.day.corpus,
            exclude_seen=self.day.evaluation_sets[NEXT_DAY].exclude_seen,
        )

    @property
    def _own_sources(self) -> CandidateSources:
        return self.sources.with_half_life(self.order.half_life)

    @cached_property
    def day_in_order(self) -> RankedLists | None:
        """The parent's fixed order on the day; None without a parent."""
        if self.order_before is None or NEXT_DAY not in self.parent.lists:
            return None
        known = {**self.costly[NEXT_DAY], TWO_TOWER: self.parent.lists[NEXT_DAY]}
        day = self.day.evaluation_sets[NEXT_DAY]
        return rank_fixed(self.order_before, self.sources, day, known, self._longest)

    @cached_property
    def _own_in_order(self) -> RankedLists:
        """This version's fixed order for users held out of the day itself."""
        known = self._known_of_today(self.version.lists[HELD_OUT])
        return rank_fixed(self.order, self._own_sources, self.today, known, self._longest)

    @property
    def _longest(self) -> int:
        return max(self.ctx.pipeline.evaluation.ks)

    def _known_of_today(self, two_tower: RankedLists) -> SourceLists:
        of_today = self.day.held_out_of(self.ctx.day)
        known = {**self.costly[HELD_OUT], TWO_TOWER: two_tower}
        return {name: lists.of(of_today) for name, lists in known.items()}

    def day_ranked(self) -> RankedLists | None:
        """The lists of the parent's trees on the day; None without them."""
        if self.ranker_before is None or NEXT_DAY not in self.parent.lists:
            return None
        known = {**self.costly[NEXT_DAY], TWO_TOWER: self.parent.lists[NEXT_DAY]}
        everybody = np.ones(len(self.parent.lists[NEXT_DAY].kept), bool)
        return self._ranked(self.ranker_before, NEXT_DAY, everybody, known)

    def _beside_trees_before(self) -> HeldOutMeasures:
        """This version's trees and the parent's on the same candidates of users held out of the day:
        by the parent's vectors, which have not seen it.
        """
        if self.ranker is None:
            return HeldOutMeasures()
        ks, today = self.ctx.pipeline.evaluation.ks, self.today
        own, before = self.ranked_today(self.ranker), self.ranked_today(self.ranker_before)
        change = None
        if own and before:
            seen = today.exclude_seen
            change = compare(today, own.counted(seen), before.counted(seen), ks)
        return HeldOutMeasures(
            users=today.users,
            candidate=evaluate_ranked(today, own, ks) if own else None,
            baseline=evaluate_ranked(today, before, ks) if before else None,
            change=change,
        )

    def ranked_today(self, ranker: Ranker | None) -> RankedLists | None:
        """The lists of trees for users held out of the day, as the parent would have had them."""
        if ranker is None or HELD_OUT not in self.parent.lists:
            return None
        of_today = self.day.held_out_of(self.ctx.day)
        known = self._known_of_today(self.parent.lists[HELD_OUT])
        return self._ranked(ranker, HELD_OUT, of_today, known)

    def _ranked(
        self, ranker: Ranker, name: str, chosen: np.ndarray, known: SourceLists
    ) -> RankedLists | None:
        """The lists of trees by the parent's vectors; None where a feature can no longer be made.

        Args:
          ranker: the trees.
          name: of an evaluation set.
          chosen: [U] bool, the queries of it that are asked.
          known: lists for these.
        """
        encoded = self.parent.encoded
        assert encoded is not None, "asked for where there are lists"
        made = RankingFeatures.of(self.sources.tables).names(ranker.sources)
        if not set(ranker.names) <= set(made):
            # It uses an attribute that is no longer declared, say: it was served with that.
            return None
        vectors = Vectors(queries=encoded.queries(name)[chosen], items=encoded.items)
        asked = self.today if name == HELD_OUT else self.day.evaluation_sets[name]
        return rank_queries(ranker, self.sources, asked, vectors, known, self._longest)
