"""The source `co_occurrence`: the items nearest to what the user had before, by how often the same
users took both; their similarities to it, added up.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from twinspire_core.config import source_names
from twinspire_core.search.ragged import Ragged, list_lengths, list_places
from twinspire_core.search.top_k import best_of
from twinspire_core.sources.queries import Queries, ScoredLists
from twinspire_core.sources.source import Source, SourceTables

TABLE = "co_occurrence"
SEEDS = 20
"""Items of a past, the first of it, whose neighbours are looked up."""

_CHUNK = 1024
_PAIRS = 2**31  # of a user and an item, that fit beside a float into 64 bits


class Neighbours(NamedTuple):
    """Items taken by the same users.

    Attributes:
      rows: [C, N] int32, each item's neighbours, nearest first, -1 behind the end.
      similarities: [C, N] float32, 0 there.
    """

    rows: np.ndarray
    similarities: np.ndarray

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


@dataclass(frozen=True, slots=True)
class CoOccurrence(Source):
    """Scores are the sums of similarities.

    Attributes:
      neighbours: of each item of the corpus.
    """

    name = source_names.CO_OCCURRENCE
    tables = (TABLE,)
    is_costly = True

    neighbours: Neighbours

    @classmethod
    def of(cls, tables: SourceTables) -> Self | None:
        """Of rows of `co_occurrence/`; None if they were not counted."""
        neighbours = tables.once(neighbours_of)
        return None if neighbours is None else cls(neighbours)

    def lists(
        self,
        queries: Queries,
        depth: int,
        *,
        exclude: Ragged | None = None,
        passing: np.ndarray | None = None,
    ) -> ScoredLists:
        """The nearest items."""
        return nearest(queries.past, self.neighbours, depth, exclude=exclude, passing=passing)


def neighbours_of(tables: SourceTables) -> Neighbours | None:
    """Of the table `co_occurrence`; None if they were not counted. `SourceTables.once` keeps them."""
    table = tables.others.get(TABLE)
    return None if table is None else Neighbours.of(table, tables.corpus["_item"])


def nearest(
    past: Ragged,
    near: Neighbours,
    k: int,
    *,
    weights: np.ndarray | None = None,
    seeds: int = SEEDS,
    exclude: Ragged | None = None,
    passing: np.ndarray | None = None,
) -> ScoredLists:
    """The items that lie nearest to the first ones of each past, by the sum of the similarities.

    Args:
      past: U lists of positions, -1 outside the corpus.
      near: the neighbours.
      k: length of the lists.
      weights: [M] float32, how much each item of a past counts; all alike by default.
      seeds: items of a past, the first of it, whose neighbours are looked up.
      exclude: U lists of positions that must not be listed.
      passing: [C] bool, what may be listed.

    Returns: U lists of k places, equal scores by position.
    """
    most = k
    if exclude is not None:
        # What is excluded cannot use up more than its own number of places.
        most += int(exclude.lengths.max(initial=0))
    ranked = ScoredLists.empty(past.rows, most)
    if weights is None:
        weights = np.ones(len(past.values), np.float32)
    is_known = past.values >= 0
    known = past.where(is_known)
    # Pasts may be long; their first items say most, and bound the work.
    is_seed = list_places(known.lengths) < seeds
    known = known.where(is_seed)
    weights = weights[is_known][is_seed]
    # A chunk's users and the items must fit into the upper bits of a key.
    chunk = max(1, min(_CHUNK, _PAIRS // max(1, len(near.rows))))
    for start in range(0, past.rows, chunk):
        stop = min(start + chunk, past.rows)
        first, last = np.searchsorted(known.row, [start, stop])
        items, scores = _nearest(known.part(start, stop), weights[first:last], near, most, passing)
        width = items.shape[1]
        ranked.items[start:stop, :width] = items
        ranked.scores[start:stop, :width] = scores
    return ranked if exclude is None else ranked.without(exclude, k)


def _nearest(
    seeds: Ragged, weights: np.ndarray, near: Neighbours, k: int, passing: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Items and scores of up to k places."""
    neighbours = near.rows[seeds.values]
    is_listed = neighbours >= 0
    if passing is not None:
        is_listed &= passing[neighbours]
    user = np.repeat(seeds.row, is_listed.sum(axis=1))
    item = neighbours[is_listed].astype(np.int64)
    weighted = near.similarities[seeds.values] * weights[:, np.newaxis]
    similarity = weighted[is_listed]
    # Sorted as one number, the pair and the bits of its similarity: those of one pair come
    # together, and sums of a few floats are exact in doubles, in whatever order.
    key = (user * len(near.rows) + item) << 32 | similarity.view(np.uint32)
    key.sort()
    pair = key >> 32
    first = np.flatnonzero(np.diff(pair, prepend=-1))
    if not len(first):
        return ScoredLists.empty(seeds.rows, 0)
    sorted_similarity = (key & 0xFFFFFFFF).astype(np.uint32).view(np.float32)
    sums = np.add.reduceat(sorted_similarity.astype(np.float64), first)
    user, item = np.divmod(pair[first], len(near.rows))
    candidates = Ragged(item, user, seeds.rows).padded()
    scores = np.full(candidates.shape, -np.inf)
    scores[candidates >= 0] = sums
    column = best_of(scores, min(k, candidates.shape[1]))
    is_item = column >= 0
    best = np.where(is_item, np.take_along_axis(candidates, column, axis=1), -1)
    best_scores = np.where(is_item, np.take_along_axis(scores, column, axis=1), -np.inf)
    return best, best_scores
