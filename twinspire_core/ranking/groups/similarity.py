"""How often a candidate is taken by the users who took what this user took last."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from twinspire_core.compiled_loops import compiled
from twinspire_core.ranking.feature_group import FeatureGroup
from twinspire_core.ranking.pairs import NEWEST, Pairs
from twinspire_core.search.ragged import list_offsets
from twinspire_core.sources.co_occurrence import NearItems, near_items_of
from twinspire_core.sources.source import SourceTables

_MOST = "similar_most"
_SUM = "similar_sum"
_NEWEST = "similar_newest"
_ITEMS = "similar_items"


@dataclass(frozen=True)
class Similarity(FeatureGroup):
    """Similarities of the source `co_occurrence`, to the newest items of the history. They are 0
    where the candidate is not among the neighbours that are kept of an item.

    Attributes:
      neighbours: of each item of the corpus.
    """

    neighbours: NearItems

    @classmethod
    def of(cls, tables: SourceTables) -> Self | None:
        """None where nobody counted what is taken together."""
        neighbours = tables.once(near_items_of)
        return None if neighbours is None else cls(neighbours)

    def names(self, sources: Sequence[str]) -> tuple[str, ...]:
        """The largest, the sum by how often and how lately each was taken, that with the newest
        item, and how many items it is a neighbour of.
        """
        return (_MOST, _SUM, _NEWEST, _ITEMS)

    def write(self, pairs: Pairs, values: np.ndarray) -> None:
        """Each neighbour of each item of the histories is looked for among the candidates."""
        newest = pairs.newest
        values[:] = 0
        _compare(
            *(pairs.begin, pairs.item, np.zeros(pairs.corpus_size, np.int32)),
            *(list_offsets(newest.items.lengths), newest.items.values, newest.weights),
            *(*self.neighbours, np.zeros(len(pairs)), values),
        )

    def describe(self, name: str, value: float) -> str:
        """By how often it is taken together."""
        if np.isnan(value):
            return "what is taken together was not counted"
        if name == _NEWEST:
            if value == 0:
                return "seldom taken with what the user took last"
            return f"taken with what the user took last (similarity {value:.2f})"
        if value == 0:
            return "seldom taken with what the user took of late"
        if name == _ITEMS:
            return f"often taken with {value:.0f} of the last {NEWEST} things that the user took"
        if name == _MOST:
            return f"taken with something that the user took of late (similarity {value:.2f})"
        return f"taken with what the user took of late (similarities add up to {value:.2f})"


@compiled
def _compare(
    begin: Any,
    items: Any,
    place: Any,
    newest_begin: Any,
    newest: Any,
    weights: Any,
    rows: Any,
    similarities: Any,
    sums: Any,
    values: Any,
) -> None:
    """Adds up in `values`, and in `sums` in doubles; `place` is as long as the corpus."""
    for query in range(len(begin) - 1):
        first, end = begin[query], begin[query + 1]
        for pair in range(first, end):
            place[items[pair]] = pair
        for entry in range(newest_begin[query], newest_begin[query + 1]):
            for column in range(rows.shape[1]):
                near = rows[newest[entry], column]
                if near < 0:
                    continue
                pair = place[near]
                if pair < first or pair >= end or items[pair] != near:
                    continue
                similarity = similarities[newest[entry], column]
                values[0, pair] = max(values[0, pair], similarity)
                sums[pair] += similarity * weights[entry]
                if entry == newest_begin[query]:
                    values[2, pair] = similarity
                values[3, pair] += 1
        for pair in range(first, end):
            values[1, pair] = sums[pair]
