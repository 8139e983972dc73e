"""How near a candidate's vector lies to that of the query.

Cosines with the items of the history were tried and left out: docs/decisions/0061-ranker.md.
"""

from collections.abc import Sequence
from typing import Self

import numpy as np

from twinspire_core.ranking.feature_group import FeatureGroup
from twinspire_core.ranking.pairs import Pairs
from twinspire_core.sources.source import SourceTables

_COSINE = "cosine"
_BLOCK = 256
"""Items whose vectors are gathered together: they should stay in the cache."""


class TowerCosines(FeatureGroup):
    """Cosines of all candidates, not only of those that the two-tower lists."""

    @classmethod
    def of(cls, tables: SourceTables) -> Self:
        """It is made of no table: pairs bring vectors."""
        return cls()

    def names(self, sources: Sequence[str]) -> tuple[str, ...]:
        """One."""
        return (_COSINE,)

    def values(self, pairs: Pairs) -> np.ndarray:
        """Missing without vectors."""
        values = np.full((len(pairs), 1), np.nan, np.float32)
        vectors = pairs.vectors
        if vectors is None:
            return values
        ends = np.searchsorted(pairs.query, np.arange(len(vectors.queries) + 1))
        for number, query in enumerate(vectors.queries):
            for start in range(ends[number], ends[number + 1], _BLOCK):
                some = slice(start, min(start + _BLOCK, ends[number + 1]))
                items = vectors.items.take(pairs.item[some], axis=0)
                values[some, 0] = np.einsum("md,d->m", items, query)
        return values

    def describe(self, name: str, value: float) -> str:
        """A cosine in words."""
        if np.isnan(value):
            return "the two-tower says nothing of it"
        how = "close to" if value > 0.5 else "not far from" if value > 0.2 else "far from"
        return f"{how} the user's taste by the two-tower (cosine {value:.2f})"
