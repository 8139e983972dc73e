"""The source `co_occurrence`: the items that others took with what the user took last, or just before or
after it.

    score(item) = sum over the history of  exp(-place / NEAR)  similarity(item of the history, item)

with places from 0, the item taken last. Similar are items that users took close to each other, in place
and in time. Two events of a user that are l places apart, l up to `lags`, with t days between them and
the newer one g days ago, add

    w = exp(-t / reach) 2^(-g / half_life)

to the pair of their items, in both orders. With n the decayed events of each item, the items'
similarity is

    sum of w / (sqrt(n_a n_b) + SHRINKAGE)

The same idea: co-visitation matrices of the OTTO recommender challenge (Kaggle, 2022).

U queries, C items of the corpus, N near items that are kept of each.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from twinspire_core.config import source_registry
from twinspire_core.native_code import compiled
from twinspire_core.search.ragged import (
    Ragged,
    SparseTable,
    arrow_lists,
    best_columns,
    list_lengths,
    list_offsets,
    list_places,
)
from twinspire_core.sources.source import Fit, Queries, ScoredLists, Source, SourceTables
from twinspire_core.sources.user_histories import Sequences

TABLE = "co_occurrence"
SCHEMA = pa.schema(
    [
        ("_item", pa.string()),
        ("_rows", pa.list_(pa.int32())),
        ("_similarities", pa.list_(pa.float32())),
    ]
)
"""A row per item that was taken with another one, sorted by `_item`. `_rows` are its neighbours, nearest
first: rows of the corpus of the same moment, in order of `_item`.
"""
KEPT = 50
"""Near items kept for each item."""
SEEDS = 50
"""The newest items of a history that are looked up."""
NEAR = 3.0
"""An item this many places back in a history counts 1/e."""
LAGS = 10
"""The most places between two paired events."""
REACH = 7.0
"""A pair of events with this many days between them counts 1/e."""
SPAN_SHARE = 0.25
"""The half-life of pairs, as a share of the days that the sequences cover."""
SHRINKAGE = 1.0
"""Added to the denominator, so that a few events make no items near."""
MOST_EVENTS = 2_000_000
"""The most events to pair: those of the users seen last."""


class CoOccurrenceSettings(NamedTuple):
    """Constants of the similarity.

    Attributes:
      reach: days between two events after which a pair counts 1/e.
      half_life: days after which it counts half; infinity for never.
      lags: the most places that two events are apart.
    """

    reach: float
    half_life: float
    lags: int = 20


def fit(sequences: Sequences, corpus: pa.Array) -> pa.Table:
    """Rows of `SCHEMA`: the near items of each item that has any."""
    span = float(sequences.ages.max(initial=0))
    # At least an hour: the events of one moment have no span, and would all weigh nothing.
    half_life = max(SPAN_SHARE * span, 1 / 24)
    settings = CoOccurrenceSettings(reach=REACH, half_life=half_life, lags=LAGS)
    near = near_items(sequences, len(corpus), settings, KEPT)
    lengths = np.diff(near.offsets)
    some = np.flatnonzero(lengths)
    columns = [
        corpus.take(pa.array(some)),
        arrow_lists(lengths[some], pa.array(near.columns)),
        arrow_lists(lengths[some], pa.array(near.weights)),
    ]
    return pa.table(columns, schema=SCHEMA)


@dataclass(frozen=True, slots=True)
class CoOccurrence(Source):
    """Scores are the sums of similarities.

    Attributes:
      near_items: of each item of the corpus, the nearest first.
      near: places after which an item of a history counts 1/e.
    """

    name = source_registry.CO_OCCURRENCE
    fits: ClassVar[Mapping[str, Fit]] = {TABLE: fit}
    is_costly = True
    depth = 50

    near_items: SparseTable
    near: float = NEAR

    @classmethod
    def of(cls, tables: SourceTables) -> Self | None:
        """Of rows of the table; None where there is no table."""
        near_items = tables.once(near_items_of)
        return None if near_items is None else cls(near_items)

    def first(self, items: int) -> Self:
        """The same for the first items of the corpus alone."""
        near = self.near_items
        columns = np.where(near.columns < items, near.columns, np.int32(-1))
        table = SparseTable(near.offsets[: items + 1], columns, near.weights, items)
        return type(self)(table, self.near)

    def lists(
        self,
        queries: Queries,
        depth: int,
        *,
        exclude: Ragged | None = None,
        passing: np.ndarray | None = None,
    ) -> ScoredLists:
        """The items that lie nearest."""
        past = queries.weighted_items().items
        weights = np.exp(-list_places(past.lengths) / self.near).astype(np.float32)
        return nearest(
            past, self.near_items, depth, weights=weights, exclude=exclude, passing=passing
        )


def near_items_of(tables: SourceTables) -> SparseTable | None:
    """Of the table `co_occurrence`; None where there is none. For `SourceTables.once`."""
    table = tables.others.get(TABLE)
    return None if table is None else read_near_items(table, tables.corpus["_item"])


def read_near_items(table: pa.Table, items: pa.Array | pa.ChunkedArray) -> SparseTable:
    """Reads rows of `SCHEMA` for a corpus.

    Args:
      table: its near items are rows of the same corpus in order of id.
      items: [C] distinct ids, in any order. Rows of other items are left out.
    """
    ids = items.combine_chunks() if isinstance(items, pa.ChunkedArray) else items
    # The table numbers items in order of id, which need not be the order here. `order` has the
    # position of each number.
    order = pc.sort_indices(ids).to_numpy()
    table = table.append_column("_place", pc.index_in(table["_item"], value_set=ids))
    table = table.filter(table["_place"].is_valid()).sort_by("_place")
    near = table["_rows"].combine_chunks()
    lengths = np.zeros(len(ids), np.int64)
    lengths[table["_place"].to_numpy()] = list_lengths(near)
    columns = order[near.flatten().to_numpy()].astype(np.int32)
    similarities = table["_similarities"].combine_chunks().flatten().to_numpy()
    return SparseTable(list_offsets(lengths), columns, similarities, len(ids))


def nearest(
    past: Ragged,
    near: SparseTable,
    k: int,
    *,
    weights: np.ndarray,
    exclude: Ragged | None = None,
    passing: np.ndarray | None = None,
) -> ScoredLists:
    """The items that lie nearest to the first items of each history, by the sum of similarities: U lists
    of k places, equal scores by position.

    Args:
      past: U lists of positions, -1 outside the corpus.
      near: the near items of each item of the corpus.
      k: length of the lists.
      weights: [M] float32, how much each item of a history counts.
      exclude: U lists of positions that must not be listed.
      passing: [C] bool, items that may be listed; None for all.
    """
    is_inside = past.values >= 0
    inside = past.where(is_inside)
    # The limit bounds the work for long histories, whose newest items say most.
    is_seed = list_places(inside.lengths) < SEEDS
    seeds, weights = inside.where(is_seed), weights[is_inside][is_seed]
    best = best_columns(seeds, weights, near, k, exclude=exclude, passing=passing)
    return ScoredLists(best.columns, best.sums.astype(np.float32))


def near_items(
    sequences: Sequences, corpus_size: int, settings: CoOccurrenceSettings, n: int
) -> SparseTable:
    """The n items that are nearest to each of the C items, equally near ones by row."""
    items, ages = sequences.newest_users(MOST_EVENTS)
    decay = np.exp2(-ages.astype(np.float64) / settings.half_life)
    events = np.bincount(items.values, weights=decay, minlength=corpus_size)
    rows = np.full((corpus_size, n), -1, np.int32)
    similarities = np.zeros((corpus_size, n), np.float32)
    lengths = np.bincount(items.values, minlength=corpus_size)
    _find_nearest(
        *(list_offsets(lengths), np.argsort(items.values, kind="stable")),
        *(items.values, items.row, ages.astype(np.float64), decay),
        *(events, settings.reach, settings.lags),
        *(rows, similarities),
    )
    is_there = rows >= 0
    offsets = list_offsets(is_there.sum(axis=1))
    return SparseTable(offsets, rows[is_there], similarities[is_there], corpus_size)


@compiled
def _find_nearest(
    begin: Any,
    events_of_item: Any,
    items: Any,
    users: Any,
    ages: Any,
    decay: Any,
    decayed_events: Any,
    reach: Any,
    lags: Any,
    nearest: Any,
    similarities: Any,
) -> None:
    corpus_size, kept = nearest.shape
    # One array of sums for all items, cleared entry by entry. A new one per item would cost C each time.
    sums = np.zeros(corpus_size, np.float64)
    # One entry more: an item is noted before it is known whether it counts as new.
    met = np.empty(corpus_size + 1, np.int64)
    for item in range(corpus_size):
        count = 0
        for number in range(begin[item], begin[item + 1]):
            event = events_of_item[number]
            # Sequences are newest first, so an event at a later place is older.
            for place in range(max(event - lags, 0), min(event + lags + 1, len(items))):
                other = items[place]
                if users[place] != users[event] or other == item:
                    continue
                newer, older = min(event, place), max(event, place)
                weight = decay[newer] * np.exp((ages[newer] - ages[older]) / reach)
                # A weight may decay to 0. Then the sum stays 0, and the item would be noted twice.
                if weight > 0:
                    met[count] = other
                    count += sums[other] == 0
                    sums[other] += weight
        size = 0
        for number in range(count):
            other = met[number]
            scale = np.sqrt(decayed_events[item] * decayed_events[other])
            similarity = np.float32(sums[other] / (scale + SHRINKAGE))
            sums[other] = 0
            # Insertion into the kept items: the nearest first, then the lower row. Few items are kept, so
            # this is faster than sorting all.
            place = size
            while place > 0 and (
                similarities[item, place - 1] < similarity
                or (
                    similarities[item, place - 1] == similarity and nearest[item, place - 1] > other
                )
            ):
                place -= 1
            if place == kept:
                continue
            size = min(size + 1, kept)
            for behind in range(size - 1, place, -1):
                similarities[item, behind] = similarities[item, behind - 1]
                nearest[item, behind] = nearest[item, behind - 1]
            similarities[item, place] = similarity
            nearest[item, place] = other
