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
from typing import ClassVar, NamedTuple, Self

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
from twinspire_core.search.top_k import best_of
from twinspire_core.sources.queries import Queries, ScoredLists
from twinspire_core.sources.sequences import Sequences
from twinspire_core.sources.source import Fit, Source, SourceTables
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

_CELLS = 1 << 22  # scores of a block of queries


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


class _Lists(NamedTuple):
    """Lists of weighted numbers, end to end.

    Attributes:
      offsets: [L + 1] int64, where each begins.
      values: [P] int64.
      weights: [P] float32.
    """

    offsets: np.ndarray
    values: np.ndarray
    weights: np.ndarray

    def gather(self, lists: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Entries of some lists, [L] int64: of each entry the place of its list in `lists`, and its own
        place among all entries, [M] int64 both.
        """
        lengths = self.offsets[lists + 1] - self.offsets[lists]
        number = np.repeat(np.arange(len(lists)), lengths)
        return number, list_ranges(self.offsets[lists], lengths)


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

    lists_of: _Lists
    holders: _Lists

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
        values = order[rows.flatten().to_numpy()]
        weights = table["_weights"].combine_chunks().flatten().to_numpy()
        lists = _Lists(list_offsets(lengths), values, weights)
        return cls(lists_of=lists, holders=_holders(lists, len(items), NEWEST))

    def lists(
        self,
        queries: Queries,
        depth: int,
        *,
        exclude: Ragged | None = None,
        passing: np.ndarray | None = None,
    ) -> ScoredLists:
        """The items of the highest scores."""
        found = ScoredLists.empty(len(queries), depth)
        asked = WeightedItems.of_queries(queries).first(MOST_ITEMS)
        items = len(self.holders.offsets) - 1
        block = max(1, _CELLS // max(items, len(self.lists_of.offsets)))
        for start in range(0, len(queries), block):
            stop = min(start + block, len(queries))
            scores = self._scores(asked.part(start, stop))
            if passing is not None:
                scores[:, ~passing] = 0
            if exclude is not None:
                left_out = exclude.part(start, stop)
                known = left_out.where(left_out.values >= 0)
                scores[known.row, known.values] = 0
            scores[scores <= 0] = -np.inf
            column = best_of(scores, min(depth, items))
            best = np.take_along_axis(scores, np.maximum(column, 0), axis=1)
            best[column < 0] = -np.inf
            found.items[start:stop, : column.shape[1]] = column
            found.scores[start:stop, : column.shape[1]] = best
        return found

    def _scores(self, asked: WeightedItems) -> np.ndarray:
        """Scores of all items, [B, C] float32."""
        rows = asked.items.rows
        items = len(self.holders.offsets) - 1
        own = of_length_one(asked.items, asked.weights)
        row, near, similar = self._nearest(asked.items, own)
        total = np.bincount(row, weights=similar, minlength=rows)
        number, entry = self.lists_of.gather(near)
        share = (1 - OWN) * similar / total[row]
        given = share[number] * self.lists_of.weights[entry]
        cell = row[number] * items + self.lists_of.values[entry]
        cell = np.concatenate([cell, asked.items.row * items + asked.items.values])
        given = np.concatenate([given, OWN * own])
        scores = np.bincount(cell, weights=given, minlength=rows * items)
        return scores.reshape(rows, items).astype(np.float32)

    def _nearest(
        self, asked: Ragged, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The nearest lists of each query: query, list and similarity, [K] each."""
        number, entry = self.holders.gather(asked.values)
        held_by = self.holders.values[entry]
        # Few lists of all hold any of a few items: the others get no column.
        is_touched = np.zeros(len(self.lists_of.offsets), bool)
        is_touched[held_by] = True
        touched = np.flatnonzero(is_touched)
        column = np.cumsum(is_touched)[held_by] - 1
        product = weights[number] * self.holders.weights[entry]
        cell = asked.row[number] * len(touched) + column
        similar = np.bincount(cell, weights=product, minlength=asked.rows * len(touched))
        similar = similar.reshape(asked.rows, len(touched)).astype(np.float32)
        similar[similar <= 0] = -np.inf
        best = best_of(similar, min(NEAREST, len(touched)))
        row, place = np.nonzero(best >= 0)
        best = best[row, place]
        return row, touched[best], similar[row, best].astype(np.float64)


def _holders(lists: _Lists, items: int, newest: int) -> _Lists:
    """The newest lists that hold each item."""
    number = np.repeat(np.arange(len(lists.offsets) - 1), np.diff(lists.offsets))
    # Lists come newest first, and the sort is stable.
    order = np.argsort(lists.values, kind="stable")
    lengths = np.bincount(lists.values, minlength=items)
    kept = order[list_places(lengths) < newest]
    offsets = list_offsets(np.minimum(lengths, newest))
    return _Lists(offsets, number[kept], lists.weights[kept])
