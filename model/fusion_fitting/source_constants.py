"""Constants of candidate sources, such as half-lives: of a few choices, the one that finds most.

    day D      Each choice makes lists as of the start of D for users of D who are not held out of
               training, and what these find is noted beside what the days before noted. The
               version of D carries the choice that found most over all these days, at most 28.
    day D + 1  It is measured with that choice, which has seen nothing of D + 1.

What each day's choices found is in the file, so that no earlier day has to be read again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np

from model.evaluation.evaluation_set import EvaluationSet
from twinspire_core.contracts.source_constants import ChoiceDay, FittedChoice, SourceConstants
from twinspire_core.metrics.ranking import by_user
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.registry import SOURCES

DAYS = 28
"""The most days that a choice is fitted on: the day, and those before it."""
MAX_QUERIES = 3_000
"""The most queries of a day, evenly out of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstantsFit:
    """What constants are fitted on.

    Attributes:
      sources: as of the start of the day.
      names: of the sources that are mixed.
      inherited: what the parent carries.
      day: the day.
      k: length of the lists.
      min_users: users over all days from whom a choice is taken; with fewer it stays as it was.
    """

    sources: CandidateSources
    names: Sequence[str]
    inherited: SourceConstants
    day: date
    k: int
    min_users: int

    def fit(self, evaluation_set: EvaluationSet) -> SourceConstants:
        """The constants that the version of the day carries.

        Args:
          evaluation_set: queries as of the start of the day, a query per user. Those held out are
            not looked at.
        """
        held_out = evaluation_set.queries.column("_holdout").to_numpy()
        rows = np.flatnonzero(~held_out)
        places = np.linspace(0, len(rows) - 1, min(len(rows), MAX_QUERIES)).astype(int)
        rows = rows[places]
        fitted = {
            name: self._fit(name, evaluation_set, rows)
            for name in self.names
            if SOURCES[name].choices and name in self.sources
        }
        return SourceConstants(format=1, sources=fitted)

    def _fit(self, name: str, evaluation_set: EvaluationSet, rows: np.ndarray) -> FittedChoice:
        metric = f"recall@{self.k}"
        if evaluation_set.exclude_seen:
            metric += ", seen items left out"
        before = self.inherited.sources.get(name)
        days = [*before.days] if before and before.metric == metric else []
        first = str(self.day - timedelta(days=DAYS - 1))
        # ISO dates sort as days do. A day that is run again is noted once.
        days = [one for one in days if first <= one.day < str(self.day)]
        if len(rows):
            days.append(self._found(name, evaluation_set, rows))
        if sum(one.users for one in days) < self.min_users:
            choice = before.choice if before else SOURCES[name].default
        else:
            choice = _best(days, SOURCES[name].choices, SOURCES[name].default)
        return FittedChoice(choice=choice, metric=metric, days=days)

    def _found(self, name: str, evaluation_set: EvaluationSet, rows: np.ndarray) -> ChoiceDay:
        queries = evaluation_set.source_queries.take(rows)
        truth = evaluation_set.truth.take(rows)
        exclude = queries.seen if evaluation_set.exclude_seen else None
        found = {}
        for choice in SOURCES[name].choices:
            tables = replace(self.sources.tables, constants={name: choice})
            source = SOURCES[name].of(tables)
            assert source is not None, "it is made of the same tables with any choice"
            lists = source.lists(queries, self.k, exclude=exclude)
            recall = by_user(lists.items, truth, [self.k])[f"recall@{self.k}"]
            found[choice] = round(float(np.nanmean(recall)), 6)
        return ChoiceDay(day=str(self.day), users=len(rows), found=found)


def constants_before(inherited: SourceConstants, names: Sequence[str]) -> dict[str, str]:
    """The choices that count before the day is looked at: the parent's, else the defaults."""
    found = {name: SOURCES[name].default for name in names if SOURCES[name].choices}
    return {name: inherited.choices.get(name, default) for name, default in found.items()}


def _best(days: Sequence[ChoiceDay], choices: Sequence[str], default: str) -> str:
    """The choice of the highest mean over the users of all days; of equal ones the default, then
    the first.
    """
    sums = dict.fromkeys(choices, 0.0)
    for one in days:
        for choice in choices:
            sums[choice] += one.users * one.found.get(choice, 0.0)
    return max(choices, key=lambda choice: (sums[choice], choice == default))
