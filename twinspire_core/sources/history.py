"""The source `history`: what the user took before, where older events weigh less.

    score(item) = sum over the user's events of it of 0.5 ^ (age / half-life)

over the longer of `window.history_days` and `window.personal_days`: a household buys some things every
other month. After the counts are made, all of a user's scores decay by the same factor, so their order
stays. The history that a request brings has no times: each event counts 1.
"""

from collections.abc import Iterator

import numpy as np

from twinspire_core.config import source_registry
from twinspire_core.metrics.list_metrics import first_distinct
from twinspire_core.search.ragged import Ragged, list_offsets
from twinspire_core.search.top_k import best_entries
from twinspire_core.sources.sequences import HALF_LIFE
from twinspire_core.sources.source import Queries, ScoredLists, Source

_CHUNK = 4096
_NO_ITEMS = np.zeros(0, np.int64)


class History(Source):
    """Scores are the decayed counts with `HALF_LIFE`."""

    name = source_registry.HISTORY

    def lists(
        self,
        queries: Queries,
        depth: int,
        *,
        exclude: Ragged | None = None,
        passing: np.ndarray | None = None,
    ) -> ScoredLists:
        """The items of the highest counts; for queries without counts, their histories."""
        personal = queries.personal
        if personal is None:
            return past_lists(queries.past, depth, exclude=exclude, passing=passing)
        entries = personal.entries
        item = personal.item[entries.values]
        is_listed = item >= 0
        if passing is not None:
            is_listed &= passing[item]
        entries = entries.where(is_listed)
        counts = personal.counts[HALF_LIFE][entries.values]
        most = depth
        if exclude is not None:
            most += int(exclude.lengths.max(initial=0))
        # Of equal counts the first entry is listed first. -1, which is no entry, reads what is appended.
        chosen = best_entries(list_offsets(entries.lengths), counts, most)
        ranked = ScoredLists(
            np.append(item[is_listed], -1)[chosen], np.append(counts, np.float32(-np.inf))[chosen]
        )
        return ranked.first(depth) if exclude is None else ranked.without(exclude, depth)


def past_lists(
    past: Ragged, depth: int, *, exclude: Ragged | None = None, passing: np.ndarray | None = None
) -> ScoredLists:
    """Histories as lists, of items in the corpus only; arguments as those of `Source.lists`."""
    if passing is not None:
        past = past.where((past.values >= 0) & passing[past.values])
    return ScoredLists.by_place(past_then(past, _NO_ITEMS, depth, exclude=exclude))


def past_then(
    past: Ragged, order: np.ndarray, k: int, *, exclude: Ragged | None = None
) -> np.ndarray:
    """Each user's own items that are in the corpus, filled up from one order for all users:
    [U, k] int64, -1 behind the end.

    Args:
      past: U lists of positions, -1 outside the corpus.
      order: int64, positions that follow a user's own; it may be empty.
      k: length of the lists.
      exclude: U lists of positions that must not be listed.
    """
    ranked = np.full((past.rows, k), -1, np.int64)
    # Each own or excluded item may be one of the common order that cannot be listed again.
    used = past.lengths
    if exclude is not None:
        used = used + exclude.lengths
    for rows in _blocks(used, k):
        # Own items first, then the common order: the first k distinct ones of both.
        own = past.take(rows).padded()
        common = order[: k + int(used[rows].max())]
        common = np.broadcast_to(common, (len(rows), len(common)))
        ranked[rows] = first_distinct(
            np.concatenate([own, common], axis=1),
            k,
            exclude=exclude.take(rows) if exclude is not None else None,
        )
    return ranked


def _blocks(used: np.ndarray, k: int) -> Iterator[np.ndarray]:
    """Rows in blocks of users who use up about equally many items of the common order.

    A block is as wide as its widest row needs; most users use up few items, some more than a list.
    """
    size = np.searchsorted([0, k // 8, k // 2, k], used)
    for number in range(5):
        rows = np.flatnonzero(size == number)
        for start in range(0, len(rows), _CHUNK):
            yield rows[start : start + _CHUNK]


def most_frequent_first(histories: Ragged) -> Ragged:
    """Purchase histories, oldest first, as distinct items: the most frequent first, then the most recent.
    -1 is left out.
    """
    inside = histories.where(histories.values >= 0)
    (row, item), pair_of, events = np.unique(
        np.stack([inside.row, inside.values]), axis=1, return_inverse=True, return_counts=True
    )
    last_place = np.zeros(len(events), np.int64)
    np.maximum.at(last_place, pair_of.ravel(), np.arange(len(inside.values)))
    order = np.lexsort((-last_place, -events, row))
    return Ragged(item[order], row[order], histories.rows)
