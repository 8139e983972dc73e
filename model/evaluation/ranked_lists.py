"""Lists of items for the queries of an evaluation set: by exact search, by baselines that need no
model, and in the part of a corpus that passes a filter.

U queries, L places of a list, D dimensions, C items of the corpus, of which P pass the filter.
Items are positions in the corpus; -1 is none.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from model.evaluation.evaluation_set import EvaluationSet
from twinspire_core.config.source_names import MOST_POPULAR, POPULAR_LATELY, PURCHASE_HISTORY
from twinspire_core.metrics.list_metrics import top_k_scored
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.history import past_then
from twinspire_core.sources.personal_counts import PersonalCounts
from twinspire_core.sources.popular import same_for_all
from twinspire_core.sources.source import ScoredLists


class RankedLists(NamedTuple):
    """Two lists per query, [U, L] int64 each, best first, -1 behind the end.

    Attributes:
      kept: items that the user has seen may be listed.
      excluded: they are not listed; None where that would be another kind of list.
      kept_scores: [U, L] float32, -infinity behind the end; None where nobody asked for scores.
      excluded_scores: likewise.
    """

    kept: np.ndarray
    excluded: np.ndarray | None
    kept_scores: np.ndarray | None = None
    excluded_scores: np.ndarray | None = None

    def counted(self, exclude_seen: bool) -> np.ndarray:
        """The kind of lists that counts.

        Args:
          exclude_seen: whether those without seen items do (`EvaluationSet.exclude_seen`).

        Raises:
          ValueError: these do, and there are none.
        """
        if not exclude_seen:
            return self.kept
        if self.excluded is None:
            raise ValueError("lists without seen items count, and there are none")
        return self.excluded

    def first(self, k: int) -> "RankedLists":
        """The first k of each list."""
        return self._each(lambda part: part[:, :k])

    def of(self, queries: np.ndarray) -> "RankedLists":
        """The lists of some queries, given as [U] bool or as positions."""
        return self._each(lambda part: part[queries])

    def _each(self, change: Callable[[np.ndarray], np.ndarray]) -> "RankedLists":
        def changed(part: np.ndarray | None) -> np.ndarray | None:
            return None if part is None else change(part)

        return RankedLists(
            change(self.kept),
            changed(self.excluded),
            changed(self.kept_scores),
            changed(self.excluded_scores),
        )

    def scored(self, *, exclude_seen: bool = False) -> ScoredLists:
        """One kind of the lists, as sources give them; by place where scores are not known."""
        items = self.excluded if exclude_seen else self.kept
        scores = self.excluded_scores if exclude_seen else self.kept_scores
        assert items is not None, "asked for where there are such lists"
        return ScoredLists.by_place(items) if scores is None else ScoredLists(items, scores)


def rank(
    evaluation_set: EvaluationSet, queries: np.ndarray, items: np.ndarray, k: int
) -> RankedLists:
    """The lists of two towers, by exact search of the whole corpus.

    Args:
      evaluation_set: from `prepare`.
      queries: [U, D] float32, a vector per query.
      items: [C, D] float32, a vector per item of the corpus.
      k: length of the lists.
    """
    seen = evaluation_set.seen
    return with_and_without_seen(nearest(queries, items, k, seen.lengths), seen, k)


def nearest(queries: np.ndarray, items: np.ndarray, k: int, excluded: np.ndarray) -> ScoredLists:
    """Each query's best items, enough of them that k are left whatever is excluded: one search
    serves both kinds of lists.

    Args:
      queries: [U, D] float32.
      items: [C, D] float32.
      k: length of the lists to come.
      excluded: [U] int64, the most items that are excluded for each query.

    Returns: lists of as many places as the longest needs.
    """
    ranked = ScoredLists.empty(len(queries), k + int(excluded.max(initial=0)))
    # Few users have seen more than a whole list. Grouped by how much they have seen, the others
    # need not be searched as deep as for those few.
    group = np.searchsorted([k // 8, k // 2, k], excluded)
    for number in range(4):
        rows = np.flatnonzero(group == number)
        depth = k + int(excluded[rows].max(initial=0))
        found, scores = top_k_scored(queries[rows], items, depth)
        ranked.items[rows, :depth] = found
        ranked.scores[rows, :depth] = scores
    return ranked


def with_and_without_seen(ranked: ScoredLists, seen: Ragged, k: int) -> RankedLists:
    """Lists of k items out of longer ones, with and without seen items."""
    kept = ranked.first(k)
    excluded = ranked.without(seen, k)
    return RankedLists(kept.items, excluded.items, kept.scores, excluded.scores)


def rank_baselines(evaluation_set: EvaluationSet, k: int) -> dict[str, RankedLists]:
    """The lists that need no model, by name.

    Without seen items, `purchase_history` is the list of `most_popular`. That is told only where such lists
    count, and every source is to have one.
    """
    orders = {
        MOST_POPULAR: evaluation_set.popular,
        POPULAR_LATELY: evaluation_set.lately,
    }
    queries = evaluation_set.truth.rows
    seen = evaluation_set.seen
    ranked = {}
    for name, order in orders.items():
        ranked[name] = RankedLists(
            same_for_all(order, queries, k),
            same_for_all(order, queries, k, exclude=seen),
        )
    past_first = past_then(evaluation_set.past, evaluation_set.popular, k)
    nothing_of_the_past = None
    if evaluation_set.exclude_seen:
        nothing_of_the_past = ranked[MOST_POPULAR].excluded
    ranked[PURCHASE_HISTORY] = RankedLists(past_first, nothing_of_the_past)
    return ranked


class FilteredCorpus:
    """Takes lists and queries from the whole corpus to the part that passes a filter, and back.

    Attributes:
      passing: [C] bool, whether an item passes.
      rows: [P] int64, positions in the corpus of the items that pass.
    """

    def __init__(self, passing: np.ndarray) -> None:
        """The part that passes, [C] bool."""
        self.passing = passing
        self.rows = np.flatnonzero(passing)
        # One place more than items: the position -1, no item, reads the last one and stays -1.
        self._place = np.full(len(passing) + 1, -1, np.int64)
        self._place[self.rows] = np.arange(len(self.rows))

    def narrow(self, evaluation_set: EvaluationSet) -> EvaluationSet:
        """The same queries against the part alone.

        Slices of users still count what they had of the whole corpus.
        """
        return replace(
            evaluation_set,
            truth=self._narrow_lists(evaluation_set.truth),
            past=self._narrow_lists(evaluation_set.past),
            personal=self._narrow_counts(evaluation_set.personal),
            popular=self._narrow_order(evaluation_set.popular),
            lately=self._narrow_order(evaluation_set.lately),
            hot=None if evaluation_set.hot is None else evaluation_set.hot[self.rows],
            events=evaluation_set.events[self.rows],
        )

    def to_part(self, ranked: RankedLists) -> RankedLists:
        """Lists in positions of the corpus to positions of the part."""
        return _renumbered(ranked, self._place)

    def to_corpus(self, ranked: RankedLists) -> RankedLists:
        """Lists in positions of the part to positions of the corpus."""
        return _renumbered(ranked, np.append(self.rows, -1))

    def _narrow_lists(self, lists: Ragged) -> Ragged:
        return lists._replace(values=self._place[lists.values])

    def _narrow_counts(self, counts: PersonalCounts | None) -> PersonalCounts | None:
        return replace(counts, item=self._place[counts.item]) if counts else None

    def _narrow_order(self, order: np.ndarray) -> np.ndarray:
        places = self._place[order]
        passing: np.ndarray = places[places >= 0]
        return passing


def _renumbered(ranked: RankedLists, numbers: np.ndarray) -> RankedLists:
    """The same items by other numbers; `numbers` ends with what stands for -1."""
    excluded = None if ranked.excluded is None else numbers[ranked.excluded]
    return ranked._replace(kept=numbers[ranked.kept], excluded=excluded)
