"""The source `co_occurrence`: the items that others took with what the user took last, or just before or
after it (co_occurrence_fitting.py).

    score(item) = sum over the past of exp(-place / NEAR) similarity(past item, item)

with places from 0, the item taken last.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from twinspire_core.config import source_names
from twinspire_core.contracts import feature_schema
from twinspire_core.search.ragged import Ragged, list_lengths, list_offsets, list_places
from twinspire_core.search.sparse_product import SparseTable, best_columns
from twinspire_core.sources import co_occurrence_fitting
from twinspire_core.sources.co_occurrence_fitting import CoOccurrenceSettings
from twinspire_core.sources.sequences import Sequences
from twinspire_core.sources.source import Fit, Queries, ScoredLists, Source, SourceTables
from twinspire_core.sources.weighted_items import WeightedItems

TABLE = "co_occurrence"
LAGS = 10
"""Places between two events that are paired, at the most."""
REACH = 7.0
"""Days between two events after which a pair counts 1/e."""
SPAN_SHARE = 0.25
"""Of the days that sequences reach back, after which a pair counts half."""
NEAR = 3.0
"""Places after which an item of a past counts 1/e."""
KEPT = 50
"""Items kept for each item."""
SEEDS = 50
"""Items of a past that are looked up, those taken last."""


class Neighbours(NamedTuple):
    """Items taken by the same users.

    Attributes:
      rows: [C, N] int32, each item's neighbours, nearest first, -1 behind the end.
      similarities: [C, N] float32, 0 there.
    """

    rows: np.ndarray
    similarities: np.ndarray

    @property
    def table(self) -> SparseTable:
        """The same as rows of a table."""
        items, width = self.rows.shape
        offsets = np.arange(items + 1) * width
        return SparseTable(offsets, self.rows.ravel(), self.similarities.ravel(), items)

    @classmethod
    def of(cls, table: pa.Table, items: pa.Array | pa.ChunkedArray) -> Self:
        """Reads rows of `twinspire_core.contracts.feature_schema.co_occurrence_schema` for a
        corpus.

        Args:
          table: its neighbours are rows of the same corpus in order of id.
          items: [C] distinct ids, in any order. What is known of items outside is left out.
        """
        if isinstance(items, pa.ChunkedArray):
            items = items.combine_chunks()
        # The table numbers items in order of id; `order` leads from there to positions.
        order = pc.sort_indices(items).to_numpy()
        place = pc.index_in(table["_item"].combine_chunks(), value_set=items)
        table = table.filter(place.is_valid())
        place = place.drop_null().to_numpy()
        near = table["_rows"].combine_chunks()
        lengths = list_lengths(near)
        row = np.repeat(place, lengths)
        column = list_places(lengths)
        width = max(1, int(lengths.max(initial=0)))
        rows = np.full((len(items), width), -1, np.int32)
        similarities = np.zeros((len(items), width), np.float32)
        rows[row, column] = order[near.flatten().to_numpy()]
        similarities[row, column] = table["_similarities"].combine_chunks().flatten().to_numpy()
        return cls(rows, similarities)


def fit(sequences: Sequences, corpus: pa.Array) -> pa.Table:
    """Rows of `co_occurrence_schema`: each item's nearest others.

    Args:
      sequences: what users took, as of a moment.
      corpus: [C] ids of that moment, ascending; positions of the sequences are theirs.
    """
    span = float(sequences.ages.max(initial=0))
    half_life = max(SPAN_SHARE * span, 1 / 24)
    settings = CoOccurrenceSettings(reach=REACH, half_life=half_life, lags=LAGS)
    rows, similarities = co_occurrence_fitting.fit(sequences, len(corpus), settings, KEPT)
    return _to_table(rows, similarities, corpus)


@dataclass(frozen=True, slots=True)
class CoOccurrence(Source):
    """Scores are the sums of similarities.

    Attributes:
      neighbours: of each item of the corpus.
      near: places after which an item of a past counts 1/e.
    """

    name = source_names.CO_OCCURRENCE
    fits: ClassVar[Mapping[str, Fit]] = {TABLE: fit}
    is_costly = True
    depth = 50

    neighbours: Neighbours
    near: float = NEAR

    @classmethod
    def of(cls, tables: SourceTables) -> Self | None:
        """Of rows of the table; None if there is none."""
        neighbours = tables.once(neighbours_of)
        return None if neighbours is None else cls(neighbours)

    def first(self, items: int) -> Self:
        """The same of so many first items of the corpus alone."""
        rows, similarities = (table[:items] for table in self.neighbours)
        return type(self)(Neighbours(np.where(rows < items, rows, -1), similarities), self.near)

    def lists(
        self,
        queries: Queries,
        depth: int,
        *,
        exclude: Ragged | None = None,
        passing: np.ndarray | None = None,
    ) -> ScoredLists:
        """The items that lie nearest."""
        taken = WeightedItems.of_queries(queries)
        place = list_places(taken.items.lengths)
        return nearest(
            taken.items,
            self.neighbours,
            depth,
            weights=np.exp(-place / self.near).astype(np.float32),
            exclude=exclude,
            passing=passing,
        )


def neighbours_of(tables: SourceTables) -> Neighbours | None:
    """Of the table `co_occurrence`; None if there is none. `SourceTables.once` keeps them."""
    table = tables.others.get(TABLE)
    return None if table is None else Neighbours.of(table, tables.corpus["_item"])


def nearest(
    past: Ragged,
    near: Neighbours,
    k: int,
    *,
    weights: np.ndarray,
    exclude: Ragged | None = None,
    passing: np.ndarray | None = None,
) -> ScoredLists:
    """The items that lie nearest to the first ones of each past, by the sum of the similarities.

    Args:
      past: U lists of positions, -1 outside the corpus.
      near: the neighbours.
      k: length of the lists.
      weights: [M] float32, how much each item of a past counts.
      exclude: U lists of positions that must not be listed.
      passing: [C] bool, what may be listed.

    Returns: U lists of k places, equal scores by position.
    """
    is_known = past.values >= 0
    known = past.where(is_known)
    # Pasts may be long; their first items say most, and bound the work.
    is_seed = list_places(known.lengths) < SEEDS
    found = best_columns(
        known.where(is_seed),
        weights[is_known][is_seed],
        near.table,
        k,
        exclude=exclude,
        passing=passing,
    )
    return ScoredLists(found.columns, found.sums.astype(np.float32))


def _to_table(rows: np.ndarray, weights: np.ndarray, items: pa.Array) -> pa.Table:
    """Rows of `twinspire_core.contracts.feature_schema.co_occurrence_schema`, of items that say
    something.

    Args:
      rows: [C, N] int32, each item's others, best first, -1 behind the end; rows of the corpus in
        order of id.
      weights: [C, N] float32.
      items: [C] ids in ascending order.
    """
    is_there = rows >= 0
    lengths = is_there.sum(axis=1)
    some = np.flatnonzero(lengths)
    offsets = pa.array(list_offsets(lengths[some]).astype(np.int32))
    columns = [
        items.take(pa.array(some)),
        pa.ListArray.from_arrays(offsets, pa.array(rows[is_there].astype(np.int32))),
        pa.ListArray.from_arrays(offsets, pa.array(weights[is_there])),
    ]
    return pa.table(columns, schema=feature_schema.co_occurrence_schema())
