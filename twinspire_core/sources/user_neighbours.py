"""The source `user_neighbours`: what users took who took the same (neighbour_lists.py).

A list is what a user took, decayed. The share of the user's own past in a score makes one list of
what was had before and of what is new.
The same ideas: UP-CF (Faggioli et al., *Recency Aware Collaborative Filtering for Next Basket
Recommendation*, UMAP 2020).
"""

from dataclasses import dataclass
from typing import Self

import pyarrow as pa

from twinspire_core.config import source_names
from twinspire_core.sources.neighbour_lists import NeighbourSource, to_table
from twinspire_core.sources.queries import Queries
from twinspire_core.sources.sequences import Sequences
from twinspire_core.sources.source import SourceTables
from twinspire_core.sources.weighted_items import WeightedItems

TABLE = "user_neighbours"
OWN = 0.5
"""Share of the user's own past in a score."""
MOST_ITEMS = 200
"""Items of a user, those taken last."""


def fit(sequences: Sequences, corpus: pa.Array) -> pa.Table:
    """Rows of `neighbour_lists.SCHEMA`, one per user.

    Args:
      sequences: what users took, as of a moment.
      corpus: [C] ids of that moment, ascending; positions of the sequences are theirs.
    """
    return to_table(WeightedItems.of(sequences, len(corpus)).first(MOST_ITEMS))


@dataclass(frozen=True, slots=True, kw_only=True)
class UserNeighbours(NeighbourSource):
    """What the nearest users took."""

    name = source_names.USER_NEIGHBOURS
    tables = (TABLE,)
    newest = 500
    nearest = 100

    @classmethod
    def of(cls, tables: SourceTables) -> Self | None:
        """Of rows of the table; None if there are none."""
        return cls.of_table(tables, OWN)

    def asked(self, queries: Queries) -> WeightedItems:
        """The user's past."""
        return WeightedItems.of_queries(queries).first(MOST_ITEMS)
