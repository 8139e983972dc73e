"""The source `ease`: what the items of a user's past say of all others, by a linear model
(ease_fitting.py); of each item the ones furthest from 0 are kept.

    score(item) = sum over the past of sqrt(decayed events) B[past item, item]
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from twinspire_core.config import source_names
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources import ease_fitting
from twinspire_core.sources.co_occurrence import Neighbours, nearest
from twinspire_core.sources.item_weights import to_table
from twinspire_core.sources.queries import Queries, ScoredLists
from twinspire_core.sources.sequences import Sequences
from twinspire_core.sources.source import Source, SourceTables
from twinspire_core.sources.weighted_items import WeightedItems

TABLE = "ease"
PENALTY = 200.0
"""lambda of the fit."""
KEPT = 300
"""Items kept for each item: what speaks against an item counts too."""
SEEDS = 200
"""Items of a past that are looked up, those taken last."""


def fit(sequences: Sequences, corpus: pa.Array, penalty: float = PENALTY) -> pa.Table:
    """Rows of `co_occurrence_schema`: what each item says of others.

    Args:
      sequences: what users took, as of a moment.
      corpus: [C] ids of that moment, ascending; positions of the sequences are theirs.
      penalty: lambda.
    """
    taken = WeightedItems.of(sequences, len(corpus))
    rows, weights = ease_fitting.fit(taken, len(corpus), penalty, KEPT)
    return to_table(rows, weights, corpus)


@dataclass(frozen=True, slots=True)
class Ease(Source):
    """Scores are the sums of the model's weights.

    Attributes:
      weights: of each item of the corpus.
    """

    name = source_names.EASE
    tables = (TABLE,)
    is_costly = True

    weights: Neighbours

    @classmethod
    def of(cls, tables: SourceTables) -> Self | None:
        """Of rows of the table; None if it was not fitted."""
        table = tables.others.get(TABLE)
        return None if table is None else cls(Neighbours.of(table, tables.corpus["_item"]))

    def lists(
        self,
        queries: Queries,
        depth: int,
        *,
        exclude: Ragged | None = None,
        passing: np.ndarray | None = None,
    ) -> ScoredLists:
        """The items of the largest sums."""
        taken = WeightedItems.of_queries(queries)
        return nearest(
            taken.items,
            self.weights,
            depth,
            weights=np.sqrt(taken.weights),
            seeds=SEEDS,
            exclude=exclude,
            passing=passing,
        )
