"""The source `personal`: what the user had before, where an event weighs the less the older it is.

    score(item) = sum over the user's events of it of .5 ^ (age / half-life)

over `window.personal_days`, which may be far longer than the history that the towers see: a
household buys some things every other month.
Between the end of the day, which counts are as of, and a request all of a user's scores fall alike:
their order stays.
"""

from typing import Self

import numpy as np

from twinspire_core.config import source_names
from twinspire_core.search.ragged import Ragged
from twinspire_core.search.top_k import best_of
from twinspire_core.sources.past import past_lists
from twinspire_core.sources.queries import Queries, ScoredLists
from twinspire_core.sources.source import Source, SourceTables
from twinspire_core.sources.weighted_items import HALF_LIFE


class Personal(Source):
    """Scores are the decayed counts with `HALF_LIFE`."""

    name = source_names.PERSONAL

    @classmethod
    def of(cls, tables: SourceTables) -> Self:
        """It is made of no table: a query brings its counts."""
        return cls()

    def lists(
        self,
        queries: Queries,
        depth: int,
        *,
        exclude: Ragged | None = None,
        passing: np.ndarray | None = None,
    ) -> ScoredLists:
        """The items of the highest counts; of queries without counts, the past."""
        personal = queries.personal
        if personal is None:
            return past_lists(queries.past, depth, exclude=exclude, passing=passing)
        entries = personal.entries
        item = personal.item[entries.values]
        is_listed = item >= 0
        if passing is not None:
            is_listed &= passing[item]
        entries = entries.where(is_listed)
        items = Ragged(item[is_listed], entries.row, entries.rows).padded()
        counts = personal.counts[HALF_LIFE][entries.values]
        scores: np.ndarray = np.full(items.shape, -np.inf, np.float32)
        scores[items >= 0] = counts
        most = depth
        if exclude is not None:
            most += int(exclude.lengths.max(initial=0))
        # Of equal counts the first entry: those of the highest counts with 60 days come first.
        column = best_of(scores, min(most, scores.shape[1]))
        ranked = ScoredLists.empty(len(queries), most)
        width = column.shape[1]
        is_item = column >= 0
        ranked.items[:, :width] = np.where(is_item, np.take_along_axis(items, column, axis=1), -1)
        best = np.where(is_item, np.take_along_axis(scores, column, axis=1), -np.inf)
        ranked.scores[:, :width] = best
        return ranked.first(depth) if exclude is None else ranked.without(exclude, depth)
