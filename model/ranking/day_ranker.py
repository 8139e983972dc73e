"""The day's ranker: measured as it was before the day, then fitted anew for the days to come, as the
day's fusion is (model/fusion_fitting/day_fusion.py).

    day D      The parent's ranker is measured on D's queries beside the parent's mix and beside each
               source alone: neither its trees nor the towers have seen D. Then trees are fitted on
               candidates of D, and of up to 28 days that end with it, without the users held out of
               each. The version of D carries these.
    held out   The new ranker and the new mix are compared on D's held-out users.

After a gap the parent's towers list as towers do that are days old: no rows are made of that day.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from model.evaluation.day_data import BY_HISTORY, HELD_OUT, NEXT_DAY, DayData
from model.evaluation.evaluate import evaluate_ranked
from model.evaluation.evaluation_set import EvaluationSet, prepare_whole
from model.evaluation.source_lists import SourceLists, rank_fusion, retrieve
from model.evaluation.version_evaluation import ParentEvaluation, VersionEvaluation
from model.evaluation.version_line import beside_simple_lists, paired_differences
from model.fusion_fitting.beside_sources import measure_beside_sources
from model.fusion_fitting.day_fusion import comes_after_gap
from model.ranking.day_rows import Asked, rows_of_day, trained_users
from model.ranking.fit import fit_ranker, sources_to_rank
from model.ranking.ranked_queries import rank_queries
from model.ranking.ranking_rows import RankingRows, keep_needed
from twinspire_core.config.source_names import TWO_TOWER
from twinspire_core.contracts.day_metrics import RankerMeasures
from twinspire_core.contracts.measures import PairedDifferences
from twinspire_core.contracts.stage_context import StageContext
from twinspire_core.fusion.fuse import DEPTH, Fusion
from twinspire_core.ranking.pairs import Vectors
from twinspire_core.ranking.ranker import Ranker
from twinspire_core.ranking.registry import RankingFeatures
from twinspire_core.sources.candidate_sources import CandidateSources


@dataclass(frozen=True, slots=True, kw_only=True)
class DayRanker:
    """What a day's ranker is fitted and measured on.

    Attributes:
      ctx: pipeline, day and parent.
      day: the corpus as of the start of the day, and the evaluation sets.
      sources: of that corpus, with the parent's constants.
      fitted_sources: the same with the constants of the day's version.
      parent: what the parent makes of the day, or a first version before it was trained on it.
      version: what the day's version makes of users held out.
      inherited: the parent's ranker, if it has one for today's sources.
      inherited_fusion: the parent's fusion.
      fusion: the fusion of the day's version.
      stored: rows of days before, from the parent's attempt.
      known: lists of costly sources for the day's users, with the parent's constants.
      known_of_fit: those of them that are the same with the day's constants.
    """

    ctx: StageContext
    day: DayData
    sources: CandidateSources
    fitted_sources: CandidateSources
    parent: ParentEvaluation
    version: VersionEvaluation
    inherited: Ranker | None
    inherited_fusion: Fusion | None
    fusion: Fusion | None
    stored: Sequence[RankingRows]
    known: SourceLists
    known_of_fit: SourceLists

    def rows_to_fit_on(self) -> list[RankingRows]:
        """Candidates of the newest days, today's first."""
        days = list(self.stored)
        if self.parent.encoded and not comes_after_gap(self.ctx):
            days.append(self._rows_of_day())
        return keep_needed(days, self.ctx.day, sources=self.ctx.pipeline.mix.sources)

    def fit(self, days: Sequence[RankingRows]) -> Ranker | None:
        """The ranker that the day's version carries; None with too few users.

        Args:
          days: what `rows_to_fit_on` returned.
        """
        pipeline = self.ctx.pipeline
        ks = sorted(pipeline.evaluation.ks)
        k = ks[len(ks) // 2]
        sources = sources_to_rank(days, pipeline.mix.sources)
        names = RankingFeatures.of(self.fitted_sources.tables).among(sources).names(sources)
        return fit_ranker(
            days,
            sources,
            names,
            metric=f"recall@{k}",
            k=k,
            seed=pipeline.train.seed,
        )

    def figures(self, ranker: Ranker | None) -> RankerMeasures:
        """What metrics.json says of rankers.

        Args:
          ranker: what `fit` returned.
        """
        return RankerMeasures(
            own_beside_mix=self._own_beside_mix(ranker),
            fitted=ranker.described.fitted if ranker else None,
            **self._progressive(),
        )

    def _progressive(self) -> dict[str, Any]:
        """The parent's ranker on all users of the day, beside the mix and beside each source."""
        encoded = self.parent.encoded
        if self.inherited is None or self.inherited_fusion is None or encoded is None:
            return {}
        made = RankingFeatures.of(self.sources.tables).names(self.inherited.sources)
        if not set(self.inherited.names) <= set(made):
            # It goes by an attribute that is no longer declared, say: it was served with that.
            return {}
        ks = self.ctx.pipeline.evaluation.ks
        asked = self._next_day
        two_tower = self.parent.lists[NEXT_DAY]
        vectors = Vectors(queries=encoded.queries(NEXT_DAY), items=encoded.items)
        with_towers = {**self.known, TWO_TOWER: two_tower}
        ranked = rank_queries(self.inherited, self.sources, asked, vectors, with_towers, max(ks))
        fusion = self.inherited_fusion
        mix = rank_fusion(fusion, self.sources, asked, two_tower, max(ks), known=self.known)
        return {
            "progressive": evaluate_ranked(asked, ranked, ks),
            "beside_mix": paired_differences(asked, ranked, mix, ks, slices=True),
            "beside_simple": beside_simple_lists(asked, ranked, ks),
            "beside_sources": measure_beside_sources(
                fusion, self.sources, asked, two_tower, ranked, ks, known=self.known
            ),
        }

    @property
    def _next_day(self) -> EvaluationSet:
        return self.day.evaluation_sets[NEXT_DAY]

    def _rows_of_day(self) -> RankingRows:
        """Candidates of the day's users who were not held out, with what they took.

        Sources have the constants that the day's version carries, as its trees will meet them.
        """
        asked = []
        # Without stored users nobody is known but by the history that a request brings.
        if self.ctx.pipeline.serving.user_store or BY_HISTORY not in self.day.evaluation_sets:
            asked.append(self._asked(NEXT_DAY, trained_users(self._next_day, self.ctx.day)))
        if BY_HISTORY in self.day.evaluation_sets:
            everybody = np.arange(len(self.day.evaluation_sets[BY_HISTORY].queries))
            asked.append(self._asked(BY_HISTORY, everybody))
        return rows_of_day(self.ctx.day, self.ctx.pipeline.mix.sources, self.fitted_sources, asked)

    def _asked(self, name: str, usable: np.ndarray) -> Asked:
        encoded = self.parent.encoded
        assert encoded is not None, "asked for where there are vectors"
        by_history = name == BY_HISTORY
        known = {} if by_history else self.known_of_fit
        return Asked(
            evaluation_set=self.day.evaluation_sets[name],
            usable=usable,
            known={**known, TWO_TOWER: self.parent.lists[name]},
            vectors=Vectors(queries=encoded.queries(name), items=encoded.items),
            by_history=by_history,
        )

    def _own_beside_mix(self, ranker: Ranker | None) -> PairedDifferences | None:
        """How this version's ranker differs from its mix, on users held out of the day itself."""
        if ranker is None or self.fusion is None:
            return None
        evaluation = self.ctx.pipeline.evaluation
        k = max(evaluation.ks)
        # What users of earlier days took has been counted since.
        of_today = self.day.held_out_of(self.ctx.day)
        asked = prepare_whole(
            self.day.evaluation_sets[HELD_OUT].queries.filter(pa.array(of_today)),
            self.day.corpus,
            exclude_seen=self._next_day.exclude_seen,
        )
        two_tower = self.version.lists[HELD_OUT].of(of_today)
        known = {
            name: retrieve(name, self.fitted_sources, asked, max(k, DEPTH))
            for name in self.fitted_sources.costly
            if name in ranker.sources
        }
        encoded = self.version.encoded
        vectors = Vectors(queries=encoded.queries(HELD_OUT)[of_today], items=encoded.items)
        with_towers = {**known, TWO_TOWER: two_tower}
        ranked = rank_queries(ranker, self.fitted_sources, asked, vectors, with_towers, k)
        mix = rank_fusion(self.fusion, self.fitted_sources, asked, two_tower, k, known=known)
        return paired_differences(asked, ranked, mix, evaluation.ks)
