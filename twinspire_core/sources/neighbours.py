"""The source `neighbours`: what users took who took the same.

A list is what a user took, decayed, as a vector of length 1. With v the vector of a list, and q that of
the query,

    sim(q, n) = q . v_n                          of the lists n that are looked at
    score(item) = (1 - own) sum over the nearest n of sim(q, n) v_n / sum of sim   +   own q

For each item of q, the newest lists with this item are compared. Each list is of a single user, without the
id: a version has them only with `serving.user_store`.
The same ideas: UP-CF (Faggioli et al., *Recency Aware Collaborative Filtering for Next Basket
Recommendation*, UMAP 2020).

B queries, N lists of the table, C items of the corpus.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from twinspire_core.config import source_registry
from twinspire_core.search.ragged import (
    Ragged,
    SparseTable,
    arrow_lists,
    best_columns,
    list_lengths,
    list_offsets,
    list_places,
    list_ranges,
)
from twinspire_core.sources.source import Fit, Queries, ScoredLists, Source, SourceTables
from twinspire_core.sources.user_histories import (
    Sequences,
    WeightedItems,
    newest_first,
    of_length_one,
)

TABLE = "neighbours"
OWN = 0.5
"""Share of the user's own history in a score, so that a list blends known and new items."""
MOST_ITEMS = 200
"""The newest items of a user that count."""
NEWEST = 500
"""The newest lists that are compared for each item. Old ones say less, and the limit bounds the work."""
NEAREST = 100
"""The most similar lists that scores are made of."""
SCHEMA = pa.schema([("_rows", pa.list_(pa.int32())), ("_weights", pa.list_(pa.float32()))])
"""A row per list, the newest first, without the user's id. `_rows` are rows of the corpus in order of its
ids, `_weights` make a vector of length 1.
"""
MOST_ENTRIES = 4_000_000
"""The most entries of all lists of a table together: 32 MB in memory, twice."""


def fit(sequences: Sequences, corpus: pa.Array) -> pa.Table:
    """Rows of `SCHEMA`, one per user, of the newest lists that `MOST_ENTRIES` has room for; `Fit` describes
    the arguments.
    """
    taken = WeightedItems.of(sequences, len(corpus)).first(MOST_ITEMS)
    lengths = taken.items.lengths
    # The newest users first, so that the limit drops the oldest lists.
    order = newest_first(taken.items, taken.ages)
    order = order[lengths[order] > 0]
    fitting = np.searchsorted(np.cumsum(lengths[order]), MOST_ENTRIES, side="right")
    order = order[:fitting]
    entry = list_ranges(list_offsets(lengths)[order], lengths[order])
    rows = taken.items.values[entry].astype(np.int32)
    weights = of_length_one(taken.items, taken.weights)[entry]
    columns = [arrow_lists(lengths[order], pa.array(values)) for values in (rows, weights)]
    return pa.table(columns, schema=SCHEMA)


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours(Source):
    """Scores are weighted means over the nearest lists, blended with the user's own.

    Attributes:
      lists_of: N lists of items.
      holders: for each of the C items, the `NEWEST` lists that hold it.
    """

    name = source_registry.NEIGHBOURS
    fits: ClassVar[Mapping[str, Fit]] = {TABLE: fit}
    is_costly = True

    lists_of: SparseTable
    holders: SparseTable

    @classmethod
    def of(cls, tables: SourceTables) -> Self | None:
        """Of rows of the table; None where there is no table."""
        table = tables.others.get(TABLE)
        if table is None:
            return None
        items = tables.corpus["_item"].combine_chunks()
        # The table numbers items in order of id. `order` has the position of each number.
        order = pc.sort_indices(items).to_numpy().astype(np.int64)
        rows = table["_rows"].combine_chunks()
        lengths = list_lengths(rows)
        values = order[rows.flatten().to_numpy()].astype(np.int32)
        weights = table["_weights"].combine_chunks().flatten().to_numpy()
        lists = SparseTable(list_offsets(lengths), values, weights, len(items))
        return cls(lists_of=lists, holders=_holders(lists, NEWEST))

    def lists(
        self,
        queries: Queries,
        depth: int,
        *,
        exclude: Ragged | None = None,
        passing: np.ndarray | None = None,
    ) -> ScoredLists:
        """The items of the highest scores."""
        taken = queries.weighted_items().first(MOST_ITEMS)
        weights = of_length_one(taken.items, taken.weights)
        near = best_columns(taken.items, weights, self.holders, NEAREST, rounded=True)
        row, column = np.nonzero(near.columns >= 0)
        similar = near.sums[row, column]
        total = np.bincount(row, weights=similar, minlength=len(queries))
        best = best_columns(
            Ragged(near.columns[row, column], row, len(queries)),
            (1 - OWN) * similar / total[row],
            self.lists_of,
            depth,
            added=(taken.items, OWN * weights),
            exclude=exclude,
            passing=passing,
            rounded=True,
        )
        return ScoredLists(best.columns, best.sums.astype(np.float32))


def _holders(lists: SparseTable, newest: int) -> SparseTable:
    """The newest lists that hold each item."""
    count = len(lists.offsets) - 1
    number = np.repeat(np.arange(count), np.diff(lists.offsets))
    # Lists come newest first, and a stable sort keeps that for each item.
    order = np.argsort(lists.columns, kind="stable")
    lengths = np.bincount(lists.columns, minlength=lists.width)
    newest_lists = order[list_places(lengths) < newest]
    offsets = list_offsets(np.minimum(lengths, newest))
    return SparseTable(
        offsets, number[newest_lists].astype(np.int32), lists.weights[newest_lists], count
    )
