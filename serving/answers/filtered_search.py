"""Nearest neighbours without excluded items, items that the user had before, and items that do not pass a
filter.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from serving.requests.request_model import EXCLUDE, SEEN
from serving.version.loaded_version import Version
from serving.version.user_store import STORED_PAST
from twinspire_core.config.source_registry import TWO_TOWER
from twinspire_core.search.index import NONE, ExactIndex, Index
from twinspire_core.search.index_settings import Settings
from twinspire_core.search.ragged import Ragged, list_lengths, list_rows
from twinspire_core.sources import user_histories

_SPARE = 32  # candidates besides k at first: most users have seen few of their nearest items
_FEW = 20_000  # items; comparing these exactly is as fast as to search among all
# To search for more than one in this many items costs more than to compare those that pass.
_WIDEST = 8


class Seen(NamedTuple):
    """Pairs of a query and a row of the corpus that must not be listed for it, [S] int64 each."""

    query: np.ndarray
    row: np.ndarray

    def of(self, queries: np.ndarray) -> "Seen":
        """The pairs of some queries, ascending, which are numbered from 0 again."""
        theirs = np.isin(self.query, queries)
        return Seen(np.searchsorted(queries, self.query[theirs]), self.row[theirs])

    def of_first(self, items: int) -> "Seen":
        """The pairs with one of the first `items` rows."""
        first = self.row < items
        return self if first.all() else Seen(self.query[first], self.row[first])

    def by_query(self, queries: int) -> Ragged:
        """The rows of each query as a list, in the order in which they were given."""
        order = np.argsort(self.query, kind="stable")
        return Ragged(self.row[order].astype(np.int64), self.query[order].astype(np.int64), queries)


NOTHING_SEEN = Seen(np.zeros(0, np.int64), np.zeros(0, np.int64))


def items_to_leave_out(version: Version, table: pa.Table, exclude_seen: bool) -> Seen:
    """What must not be listed: the ids under `exclude`, and with `exclude_seen` what users had.

    Args:
      table: [B] rows of `serving.requests.query_rows.complete`.
    """
    excluded = _listed_in(version, table, [EXCLUDE])
    if not exclude_seen:
        return excluded
    had = items_had(version, table)
    return Seen(*(np.concatenate(pair) for pair in zip(excluded, had, strict=True)))


def items_had(version: Version, table: pa.Table) -> Seen:
    """All items that users are known to have had, also before the days of their histories. Offline
    evaluation leaves out the same (`twinspire_core.sources.source.Queries.seen`).
    """
    history = version.pipeline.history_name
    return _listed_in(version, table, [SEEN, history, STORED_PAST, user_histories.ITEMS])


def _listed_in(version: Version, table: pa.Table, columns: Iterable[str | None]) -> Seen:
    """The items in the given columns of item ids, without those outside the corpus."""
    queries = [np.zeros(0, np.int64)]
    rows = [np.zeros(0, np.int64)]
    for name in columns:
        if name not in table.column_names or table[name].null_count == len(table):
            continue
        lists = table[name].combine_chunks()
        row = version.rows(lists.flatten())
        in_corpus = row != NONE
        queries.append(list_rows(list_lengths(lists))[in_corpus])
        rows.append(row[in_corpus].astype(np.int64))
    return Seen(np.concatenate(queries), np.concatenate(rows))


class Retrieved(NamedTuple):
    """Lists for B queries. K is the number of items asked for, at most the size of the catalogue.

    Attributes:
      rows: [B, K] int32, rows of the corpus, best first, `NONE` after the end.
      scores: [B, K] float32, NaN after the end: cosines of the two-tower, scores of the fixed order or the
        ranker, and 1 / (1 + place / CONSTANT) for other sources, whose own scores have no common scale.
      widened: [B] bool, whether the two-tower's first search found too few items.
      names: S sources.
      shares: [B, K, S] float32, the part of each source in the score; in the ranker's lists, how near to
        the top of each source's list the item is. None if all items are from the two-tower.
      values: [B, K, F] float32, features that the ranker reads, NaN for items that fill up a list. None
        if no explanation is asked for.
    """

    rows: np.ndarray
    scores: np.ndarray
    widened: np.ndarray
    names: tuple[str, ...] = (TWO_TOWER,)
    shares: np.ndarray | None = None
    values: np.ndarray | None = None

    @classmethod
    def of_none(cls, queries: int, k: int) -> "Retrieved":
        """Empty lists, to be filled in."""
        rows = np.full((queries, k), NONE, np.int32)
        return cls(rows, np.full((queries, k), np.nan, np.float32), np.zeros(queries, bool))

    @classmethod
    def ended(
        cls,
        rows: np.ndarray,
        scores: np.ndarray,
        widened: np.ndarray,
        names: Sequence[str],
        shares: np.ndarray,
        values: np.ndarray | None = None,
    ) -> "Retrieved":
        """Lists with `NONE` and NaN where `rows` is negative."""
        there = rows >= 0
        return cls(
            np.where(there, rows, NONE).astype(np.int32),
            np.where(there, scores, np.nan).astype(np.float32),
            widened,
            tuple(names),
            shares.astype(np.float32),
            values,
        )


def search_without(
    index: Index, vectors: np.ndarray, k: int, seen: Seen, passing: np.ndarray | None = None
) -> Retrieved:
    """The k best items of each query that it has not seen and that pass, best first.

    The search is widened for queries with fewer than k items, as long as more items pass. The search
    is exact if few items pass. It also becomes exact if it grows too wide.

    Args:
      index: nearest neighbours among N items.
      vectors: [B, D] float32, of the queries.
      passing: [N] bool, items that may be listed; by default all.

    Returns: lists of min(k, N) places.
    """
    items = len(index)
    k = min(k, items)
    passes = items if passing is None else int(np.count_nonzero(passing))
    if passing is not None and passes <= max(_FEW, _WIDEST * k) and passes < items:
        return _compare(index, vectors, k, seen, passing)
    if passes == items and not len(seen.query):
        return Retrieved(*index.search(vectors, k), np.zeros(len(vectors), bool))
    return _search_widening(index, vectors, k, seen, passing, passes)


def _search_widening(
    index: Index,
    vectors: np.ndarray,
    k: int,
    seen: Seen,
    passing: np.ndarray | None,
    passes: int,
) -> Retrieved:
    """Searches for more and more items, for the queries that have too few of them."""
    items = len(index)
    # A pair as one integer: a binary search says whether it was seen.
    seen_pairs = np.unique(seen.query * items + seen.row)
    seen_of_query = np.bincount(seen_pairs // items, minlength=len(vectors))
    # This many nearest items of a query certainly hold k that may be listed.
    enough = np.minimum(items, k + items - passes + seen_of_query)
    nearest = Retrieved.of_none(len(vectors), k)
    open_queries = np.arange(len(vectors))
    reach = min((k + _SPARE) * items // passes, int(enough.max(initial=0)))
    while len(open_queries):
        if passing is not None and reach * _WIDEST > items:
            rest = _compare(index, vectors[open_queries], k, seen.of(open_queries), passing)
            nearest.rows[open_queries] = rest.rows
            nearest.scores[open_queries] = rest.scores
            break
        rows, scores = index.search(vectors[open_queries], reach)
        kept = ~_contains(seen_pairs, open_queries[:, None] * items + rows)
        if passing is not None:
            kept &= passing[rows]
        done = (kept.sum(1) >= k) | (reach >= enough[open_queries])
        best_rows, best_scores = _first(kept[done], rows[done], scores[done], k)
        nearest.rows[open_queries[done]] = best_rows
        nearest.scores[open_queries[done]] = best_scores
        open_queries = open_queries[~done]
        nearest.widened[open_queries] = True
        # Doubling bounds the work at twice that of the last search.
        reach = min(2 * reach, int(enough.max()))
    return nearest


def _compare(
    index: Index, vectors: np.ndarray, k: int, seen: Seen, passing: np.ndarray
) -> Retrieved:
    """Exact search of the items that pass."""
    candidates = np.flatnonzero(passing)
    nearest = Retrieved.of_none(len(vectors), k)
    if not len(candidates):
        return nearest
    among_passing = ExactIndex(index.vectors[candidates], Settings(kind="exact", k=k))
    # Seen rows become numbers among the candidates; those that do not pass are dropped.
    position = np.searchsorted(candidates, seen.row)
    passed = candidates[np.minimum(position, len(candidates) - 1)] == seen.row
    best = search_without(among_passing, vectors, k, Seen(seen.query[passed], position[passed]))
    width = best.rows.shape[1]
    nearest.rows[:, :width] = np.where(best.rows == NONE, NONE, candidates[best.rows])
    nearest.scores[:, :width] = best.scores
    nearest.widened[:] = best.widened
    return nearest


def _contains(ascending: np.ndarray, values: np.ndarray) -> np.ndarray:
    if not len(ascending):
        return np.zeros(values.shape, bool)
    position = np.searchsorted(ascending, values)
    return ascending[np.minimum(position, len(ascending) - 1)] == values


def _first(
    may_be_listed: np.ndarray, rows: np.ndarray, scores: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first k kept entries of each line, in their order, filled up with `NONE` and NaN."""
    # A stable sort by "not kept" leaves what is kept in its order, which is by score.
    order = np.argsort(~may_be_listed, axis=1, kind="stable")[:, :k]
    may_be_listed = np.take_along_axis(may_be_listed, order, 1)
    rows = np.where(may_be_listed, np.take_along_axis(rows, order, 1), NONE)
    scores = np.where(may_be_listed, np.take_along_axis(scores, order, 1), np.nan)
    missing = ((0, 0), (0, k - order.shape[1]))
    return (
        np.pad(rows, missing, constant_values=NONE),
        np.pad(scores, missing, constant_values=np.nan),
    )
