"""The day's ranker: trees are fitted on candidates of day D, and of up to 28 days that end with it,
without the users held out of each. The version of D carries them. What they are worth is measured in
model/ranking/day_orders.py.

After a gap the parent's towers list as towers do that are days old: no rows are made of that day.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.evaluation.day_data import BY_HISTORY, NEXT_DAY, DayData
from model.evaluation.evaluation_set import EvaluationSet
from model.evaluation.source_lists import SourceLists
from model.evaluation.version_evaluation import ParentEvaluation
from model.ranking.day_rows import Asked, rows_of_day, trained_users
from model.ranking.fit import fit_ranker, sources_to_rank
from model.ranking.ranking_rows import RankingRows, keep_needed
from twinspire_core.config.source_names import TWO_TOWER
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.ranking.pairs import Vectors
from twinspire_core.ranking.ranker import Ranker
from twinspire_core.ranking.registry import RankingFeatures
from twinspire_core.sources.candidate_sources import CandidateSources

MAX_GAP = 1
"""Days with logs between the parent and the day after which the parent's lists are still such as it
will be asked for.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayRanker:
    """What a day's ranker is fitted on.

    Attributes:
      ctx: pipeline, day and parent.
      day: the corpus as of the start of the day, and the evaluation sets.
      sources: of that corpus.
      parent: what the parent makes of the day, or a first version before it was trained on it.
      stored: rows of days before, from the parent's attempt.
      known: lists of costly sources for the day's users.
    """

    ctx: StageContext
    day: DayData
    sources: CandidateSources
    parent: ParentEvaluation
    stored: Sequence[RankingRows]
    known: SourceLists

    def rows_to_fit_on(self) -> list[RankingRows]:
        """Candidates of the newest days, today's first."""
        days = list(self.stored)
        if self.parent.encoded and not comes_after_gap(self.ctx):
            days.append(self._rows_of_day())
        return keep_needed(days, self.ctx.day, sources=self.ctx.pipeline.sources.use)

    def fit(self, days: Sequence[RankingRows]) -> Ranker | None:
        """The ranker that the day's version carries; None with too few users.

        Args:
          days: what `rows_to_fit_on` returned.
        """
        pipeline = self.ctx.pipeline
        ks = sorted(pipeline.evaluation.ks)
        k = ks[len(ks) // 2]
        sources = sources_to_rank(days, pipeline.sources.use)
        names = RankingFeatures.of(self.sources.tables).among(sources).names(sources)
        return fit_ranker(
            days,
            sources,
            names,
            metric=f"recall@{k}",
            k=k,
            seed=pipeline.train.seed,
        )

    @property
    def _next_day(self) -> EvaluationSet:
        return self.day.evaluation_sets[NEXT_DAY]

    def _rows_of_day(self) -> RankingRows:
        """Candidates of the day's users who were not held out, with what they took."""
        asked = []
        # Without stored users nobody is known but by the history that a request brings.
        if self.ctx.pipeline.serving.user_store or BY_HISTORY not in self.day.evaluation_sets:
            asked.append(self._asked(NEXT_DAY, trained_users(self._next_day, self.ctx.day)))
        if BY_HISTORY in self.day.evaluation_sets:
            everybody = np.arange(len(self.day.evaluation_sets[BY_HISTORY].queries))
            asked.append(self._asked(BY_HISTORY, everybody))
        return rows_of_day(self.ctx.day, self.ctx.pipeline.sources.use, self.sources, asked)

    def _asked(self, name: str, usable: np.ndarray) -> Asked:
        encoded = self.parent.encoded
        assert encoded is not None, "asked for where there are vectors"
        by_history = name == BY_HISTORY
        known = {} if by_history else self.known
        return Asked(
            evaluation_set=self.day.evaluation_sets[name],
            usable=usable,
            known={**known, TWO_TOWER: self.parent.lists[name]},
            vectors=Vectors(queries=encoded.queries(name), items=encoded.items),
            by_history=by_history,
        )


def comes_after_gap(ctx: StageContext) -> bool:
    """Whether the parent is so old that its lists for the day are not those of a fresh one."""
    if ctx.parent and ctx.mode == "full":
        # From scratch no day is missing in what is trained on, so that no gap is told.
        missing = (ctx.day - ctx.parent.day).days - 1
    else:
        missing = sum((gap.last - gap.first).days + 1 for gap in ctx.gaps)
    return missing > MAX_GAP
