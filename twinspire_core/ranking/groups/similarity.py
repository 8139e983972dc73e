"""How often a candidate is taken by the users who took what this user took last."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from twinspire_core.ranking.feature_group import FeatureGroup
from twinspire_core.ranking.pairs import NEWEST, Pairs
from twinspire_core.search.ragged import list_places
from twinspire_core.sources.co_occurrence import Neighbours, neighbours_of
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

    neighbours: Neighbours

    @classmethod
    def of(cls, tables: SourceTables) -> Self | None:
        """None where nobody counted what is taken together."""
        neighbours = tables.once(neighbours_of)
        return None if neighbours is None else cls(neighbours)

    def names(self, sources: Sequence[str]) -> tuple[str, ...]:
        """The largest, the sum by how often and how lately each was taken, that with the newest
        item, and how many items it is a neighbour of.
        """
        return (_MOST, _SUM, _NEWEST, _ITEMS)

    def values(self, pairs: Pairs) -> np.ndarray:
        """Each neighbour of each item of the histories is looked for among the candidates."""
        newest = pairs.newest
        near = self.neighbours.rows[newest.items.values].astype(np.int64)
        query = np.repeat(newest.items.row, near.shape[1])
        pair = pairs.find(query, near.ravel())
        hit = np.flatnonzero(pair >= 0)
        pair = pair[hit]
        entry, column = np.divmod(hit, near.shape[1])
        similarity = self.neighbours.similarities[newest.items.values[entry], column]
        values = np.zeros((4, len(pairs)), np.float32).T
        # Contiguous: ufuncs write into it in place.
        most = np.zeros(len(pairs), np.float32)
        np.maximum.at(most, pair, similarity)
        values[:, 0] = most
        weighted = similarity * newest.weights[entry]
        values[:, 1] = np.bincount(pair, weights=weighted, minlength=len(pairs))
        is_newest = list_places(newest.items.lengths)[entry] == 0
        values[pair[is_newest], 2] = similarity[is_newest]
        values[:, 3] = np.bincount(pair, minlength=len(pairs))
        return values

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
