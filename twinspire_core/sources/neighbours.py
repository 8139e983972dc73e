"""The source `neighbours`: what users took who took the same.

A list is what a user took, decayed, as a vector of length 1. With v the vector of a list, and q what is
asked for,

    sim(q, n) = q . v_n                          of the lists n that are looked at
    score(item) = (1 - own) sum over the nearest n of sim(q, n) v_n / sum of sim   +   own q

Looked at are, for each item of q, the newest lists that hold it: old ones say less, and the work is
bounded. The share of the user's own past makes one list of what was had before and of what is new.
The lists are single users', without ids: a version carries them only with `serving.user_store`.
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

from twinspire_core.config import source_names
from twinspire_core.search.ragged import (
    Ragged,
    list_lengths,
    list_offsets,
    list_places,
    list_ranges,
)
from twinspire_core.search.sparse_product import SparseTable, best_columns
from twinspire_core.sources.sequences import Sequences
from twinspire_core.sources.source import Fit, Queries, ScoredLists, Source, SourceTables
from twinspire_core.sources.weighted_items import WeightedItems, of_length_one

TABLE = "neighbours"
OWN = 0.5
"""Share of the user's own past in a score."""
MOST_ITEMS = 200
"""Items of a user, those taken last."""
NEWEST = 500
"""Lists looked at for each item."""
NEAREST = 100
"""Lists that scores are made of."""
SCHEMA = pa.schema([("_rows", pa.list_(pa.int32())), ("_weights", pa.list_(pa.float32()))])
"""A row per list, the newest first; it does not say whose it is. `_rows` are rows of the corpus in
order of its ids, `_weights` make a vector of length 1.
"""
MOST_ENTRIES = 4_000_000
"""Entries of all lists of a table together: 32 MB in memory, twice."""


def fit(sequences: Sequences, corpus: pa.Array) -> pa.Table:
    """Rows of `SCHEMA`, one per user, as many of the newest lists as fit in.

    Args:
      sequences: what users took, as of a moment.
      corpus: [C] ids of that moment, ascending; positions of the sequences are theirs.
    """
    taken = WeightedItems.of(sequences, len(corpus)).first(MOST_ITEMS)
    lengths = taken.items.lengths
    last = np.full(taken.items.rows, np.inf, np.float32)
    is_first = list_places(lengths) == 0
    last[taken.items.row[is_first]] = taken.ages[is_first]
    order = np.argsort(last, kind="stable")
    order = order[lengths[order] > 0]
    fitting = np.searchsorted(np.cumsum(lengths[order]), MOST_ENTRIES, side="right")
    order = order[:fitting]
    entry = list_ranges(list_offsets(lengths)[order], lengths[order])
    offsets = pa.array(list_offsets(lengths[order]).astype(np.int32))
    rows = pa.array(taken.items.values[entry].astype(np.int32))
    weights = pa.array(of_length_one(taken.items, taken.weights)[entry])
    columns = [pa.ListArray.from_arrays(offsets, values) for values in (rows, weights)]
    return pa.table(columns, schema=SCHEMA)


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours(Source):
    """What the nearest lists hold.

    Attributes:
      lists_of: N lists of items.
      holders: C lists of numbers of lists, the `NEWEST` of each item.
    """

    name = source_names.NEIGHBOURS
    fits: ClassVar[Mapping[str, Fit]] = {TABLE: fit}
    is_costly = True

    lists_of: SparseTable
    holders: SparseTable

    @classmethod
    def of(cls, tables: SourceTables) -> Self | None:
        """Of rows of the table; None if there are none."""
        table = tables.others.get(TABLE)
        if table is None:
            return None
        items = tables.corpus["_item"].combine_chunks()
        # The table numbers items in order of id; `order` leads from there to positions.
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
        asked = WeightedItems.of_queries(queries).first(MOST_ITEMS)
        own = of_length_one(asked.items, asked.weights)
        near = best_columns(asked.items, own, self.holders, NEAREST, rounded=True)
        row, place = np.nonzero(near.columns >= 0)
        similar = near.sums[row, place]
        total = np.bincount(row, weights=similar, minlength=len(queries))
        found = best_columns(
            Ragged(near.columns[row, place], row, len(queries)),
            (1 - OWN) * similar / total[row],
            self.lists_of,
            depth,
            added=(asked.items, OWN * own),
            exclude=exclude,
            passing=passing,
            rounded=True,
        )
        return ScoredLists(found.columns, found.sums.astype(np.float32))


def _holders(lists: SparseTable, newest: int) -> SparseTable:
    """The newest lists that hold each item."""
    count = len(lists.offsets) - 1
    number = np.repeat(np.arange(count), np.diff(lists.offsets))
    # Lists come newest first, and the sort is stable.
    order = np.argsort(lists.columns, kind="stable")
    lengths = np.bincount(lists.columns, minlength=lists.width)
    kept = order[list_places(lengths) < newest]
    offsets = list_offsets(np.minimum(lengths, newest))
    return SparseTable(offsets, number[kept].astype(np.int32), lists.weights[kept], count)
