"""The source `co_visitation`: the items that others took close to what the user took last, in place
and in time (co_visitation_fitting.py).

    score(item) = sum over the past of exp(-place / near) similarity(past item, item)

with places from 0, the item taken last.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from twinspire_core.config import source_names
from twinspire_core.search.ragged import Ragged, list_places
from twinspire_core.sources import co_visitation_fitting
from twinspire_core.sources.co_occurrence import Neighbours, nearest
from twinspire_core.sources.co_visitation_fitting import CoVisitationSettings
from twinspire_core.sources.item_weights import to_table
from twinspire_core.sources.queries import Queries, ScoredLists
from twinspire_core.sources.sequences import Sequences
from twinspire_core.sources.source import Source, SourceTables
from twinspire_core.sources.weighted_items import WeightedItems

SETTINGS = CoVisitationSettings(reach=1 / 24, half_life=60.0, exponent=0.5)
NEAR = 10.0
"""Places after which an item of a past counts 1/e."""
TABLE = "co_visitation"
KEPT = 50
"""Items kept for each item."""
SEEDS = 50
"""Items of a past that are looked up, those taken last."""


def fit(sequences: Sequences, corpus: pa.Array) -> pa.Table:
    """Rows of `co_occurrence_schema`: each item's nearest others.

    Args:
      sequences: what users took, as of a moment.
      corpus: [C] ids of that moment, ascending; positions of the sequences are theirs.
    """
    rows, similarities = co_visitation_fitting.fit(sequences, len(corpus), SETTINGS, KEPT)
    return to_table(rows, similarities, corpus)


@dataclass(frozen=True, slots=True)
class CoVisitation(Source):
    """Scores are the sums of similarities.

    Attributes:
      neighbours: of each item of the corpus.
      near: places after which an item of a past counts 1/e.
    """

    name = source_names.CO_VISITATION
    tables = (TABLE,)
    is_costly = True

    neighbours: Neighbours
    near: float

    @classmethod
    def of(cls, tables: SourceTables) -> Self | None:
        """Of rows of the table; None if there is none."""
        table = tables.others.get(TABLE)
        if table is None:
            return None
        return cls(Neighbours.of(table, tables.corpus["_item"]), NEAR)

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
            seeds=SEEDS,
            exclude=exclude,
            passing=passing,
        )
