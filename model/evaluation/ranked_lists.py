"""Lists of items for the queries of an evaluation set: by exact search, by baselines that need no
model, and in the part of a corpus that passes a filter.

U queries, D dimensions, C items of the corpus, of which P pass the filter. Positions are numbers
from 0; -1 is none.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from model.evaluation.evaluation_set import EvaluationSet
from twinspire_core.metrics.ranking import first_distinct, top_k
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources import baselines


class RankedLists(NamedTuple):
    """Lists of one make for each query of a split, [U, L] positions, best first, -1 behind the end.

    Attributes:
      kept: items that the user had before may be listed.
      excluded: they are not; None where that would be another list.
    """

    kept: np.ndarray
    excluded: np.ndarray | None

    def first(self, k: int) -> "RankedLists":
        """The first k of each list."""
        return RankedLists(
            self.kept[:, :k], self.excluded[:, :k] if self.excluded is not None else None
        )

    def of(self, queries: np.ndarray) -> "RankedLists":
        """The lists of some queries: [U] bool, or their places."""
        return RankedLists(
            self.kept[queries], self.excluded[queries] if self.excluded is not None else None
        )


def rank(split: EvaluationSet, queries: np.ndarray, items: np.ndarray, k: int) -> RankedLists:
    """The lists of two towers, by exact search of the whole corpus.

    Args:
      split: from `prepare`.
      queries: [U, D] float32, a vector per query.
      items: [C, D] float32, a vector per item of the corpus.
      k: length of the lists.
    """
    return with_and_without(nearest(queries, items, k, split.past.lengths), split.past, k)


def nearest(queries: np.ndarray, items: np.ndarray, k: int, more: np.ndarray) -> np.ndarray:
    """So many of each query's best items that k are left whatever is excluded: one search for both
    kinds of lists.

    Args:
      queries: [U, D] float32.
      items: [C, D] float32.
      k: length of the lists to come.
      more: [U] int64, the most items that are excluded for each query.

    Returns: [U, L] int64, best first, -1 behind the end.
    """
    found = np.full((len(queries), k + int(more.max(initial=0))), -1, np.int64)
    # Most have had little, few more than a whole list
    size = np.searchsorted([k // 8, k // 2, k], more)
    for some in (np.flatnonzero(size == number) for number in range(4)):
        length = k + int(more[some].max(initial=0))
        found[some, :length] = top_k(queries[some], items, length)
    return found


def with_and_without(found: np.ndarray, past: Ragged, k: int) -> RankedLists:
    """Lists of k items out of `nearest`, [U, L], and the same without what each user had before."""
    return RankedLists(found[:, :k], first_distinct(found, k, exclude=past))


def rank_baselines(split: EvaluationSet, k: int) -> dict[str, RankedLists]:
    """The lists that need no model, by name. `past` without seen items would be `most_popular`:
    left out.
    """
    ranked = {}
    for name, order in (
        (baselines.MOST_POPULAR, split.popular),
        (baselines.POPULAR_LATELY, split.lately),
    ):
        kept, fresh = (
            baselines.same_for_all(order, split.truth.rows, k, exclude=x)
            for x in (None, split.past)
        )
        ranked[name] = RankedLists(kept, fresh)
    return {
        **ranked,
        baselines.PAST: RankedLists(baselines.past_then(split.past, split.popular, k), None),
    }


class FilteredCorpus:
    """Takes lists and queries from the whole catalogue to a part of it, and back.

    Attributes:
      passing: [C] bool, whether an item is in it.
      rows: [P] int64, the part's positions in the whole.
    """

    def __init__(self, passing: np.ndarray) -> None:
        """The part that passes, [C] bool."""
        self.passing = passing
        self.rows = np.flatnonzero(passing)
        self._place = np.full(len(passing) + 1, -1, np.int64)  # of -1, too: none
        self._place[self.rows] = np.arange(len(self.rows))

    def split(self, split: EvaluationSet) -> EvaluationSet:
        """The same queries against the part alone. What users had of the rest still tells them
        apart in slices.
        """
        return replace(
            split,
            truth=self._inside(split.truth),
            past=self._inside(split.past),
            popular=self._order(split.popular),
            lately=self._order(split.lately),
            hot=split.hot[self.rows],
            events=split.events[self.rows],
        )

    def inside(self, ranked: RankedLists) -> RankedLists:
        """Lists in positions of the whole, in positions of the part."""
        return RankedLists(
            self._place[ranked.kept],
            self._place[ranked.excluded] if ranked.excluded is not None else None,
        )

    def outside(self, ranked: RankedLists) -> RankedLists:
        """Lists in positions of the part, in positions of the whole."""
        back = np.append(self.rows, -1)
        return RankedLists(
            back[ranked.kept], back[ranked.excluded] if ranked.excluded is not None else None
        )

    def _inside(self, lists: Ragged) -> Ragged:
        return lists._replace(values=self._place[lists.values])

    def _order(self, order: np.ndarray) -> np.ndarray:
        found = self._place[order]
        listed: np.ndarray = found[found >= 0]
        return listed
