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
_NUMBERS = 1 << 16
"""Of vectors that are gathered together: they should stay in the cache."""


class TowerCosines(FeatureGroup):
    """Cosines of all candidates, not only of those that the two-tower lists."""

    @classmethod
    def of(cls, tables: SourceTables) -> Self:
        """It is made of no table: pairs bring vectors."""
        return cls()

    def names(self, sources: Sequence[str]) -> tuple[str, ...]:
        """One."""
        return (_COSINE,)

    def write(self, pairs: Pairs, values: np.ndarray) -> None:
        """Missing without vectors."""
        vectors = pairs.vectors
        if vectors is None:
            values[:] = np.nan
            return
        block = max(1, _NUMBERS // vectors.items.shape[1])
        for query, vector in enumerate(vectors.queries):
            for start in range(pairs.begin[query], pairs.begin[query + 1], block):
                some = slice(start, min(start + block, pairs.begin[query + 1]))
                items = vectors.items.take(pairs.item[some], axis=0)
                np.einsum("md,d->m", items, vector, out=values[0, some])

    def describe(self, name: str, value: float) -> str:
        """A cosine in words."""
        if np.isnan(value):
            return "the two-tower says nothing of it"
        how = "close to" if value > 0.5 else "not far from" if value > 0.2 else "far from"
        return f"{how} the user's taste by the two-tower (cosine {value:.2f})"
