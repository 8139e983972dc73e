"""The source `ials`: matrix factorisation with regularisation that grows with how much is known
(ials_fitting.py). A version carries the items' factors; those of a user are solved for when asked.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from twinspire_core.config import source_names
from twinspire_core.search.ragged import Ragged, list_offsets
from twinspire_core.search.top_k import best_of
from twinspire_core.sources import ials_fitting
from twinspire_core.sources.ials_fitting import IalsSettings
from twinspire_core.sources.queries import Queries, ScoredLists
from twinspire_core.sources.sequences import Sequences
from twinspire_core.sources.source import Source, SourceTables
from twinspire_core.sources.weighted_items import WeightedItems

TABLE = "ials"
SETTINGS = IalsSettings()
SCHEMA = pa.schema([("_item", pa.string()), ("_factors", pa.list_(pa.float32()))])
"""A row per item that somebody took."""

_CELLS = 1 << 22  # scores of a block of queries


def fit(sequences: Sequences, corpus: pa.Array, settings: IalsSettings = SETTINGS) -> pa.Table:
    """The table of `SCHEMA`.

    Args:
      sequences: what users took, as of a moment.
      corpus: [C] ids of that moment; positions of the sequences are theirs.
      settings: constants.
    """
    newest = sequences.newest_users(ials_fitting.MOST_EVENTS)
    taken = WeightedItems.of(newest, len(corpus))
    factors = ials_fitting.fit(taken.items, np.sqrt(taken.weights), len(corpus), settings)
    some = np.flatnonzero(factors.any(axis=1))
    offsets = list_offsets(np.full(len(some), factors.shape[1])).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(factors[some].ravel()))
    return pa.table([corpus.take(pa.array(some)), lists], schema=SCHEMA)


@dataclass(frozen=True, slots=True)
class Ials(Source):
    """Scores are dot products of factors.

    Attributes:
      factors: [C, D] float32; 0 for items that nobody took.
      is_known: [C] bool, whether somebody did.
    """

    name = source_names.IALS
    tables = (TABLE,)
    is_costly = True

    factors: np.ndarray
    is_known: np.ndarray

    @classmethod
    def of(cls, tables: SourceTables) -> Self | None:
        """Of rows of the table; None if it was not fitted."""
        table = tables.others.get(TABLE)
        if table is None:
            return None
        items = tables.corpus["_item"]
        place = pc.index_in(table["_item"].combine_chunks(), value_set=items.combine_chunks())
        table = table.filter(place.is_valid())
        place = place.drop_null().to_numpy()
        factors = np.zeros((len(items), SETTINGS.factors), np.float32)
        is_known = np.zeros(len(items), bool)
        values = table["_factors"].combine_chunks().flatten().to_numpy()
        factors[place] = values.reshape(-1, SETTINGS.factors)
        is_known[place] = True
        return cls(factors, is_known)

    def lists(
        self,
        queries: Queries,
        depth: int,
        *,
        exclude: Ragged | None = None,
        passing: np.ndarray | None = None,
    ) -> ScoredLists:
        """The items of the largest dot products with the factors of what users had."""
        found = ScoredLists.empty(len(queries), depth)
        taken = WeightedItems.of_queries(queries)
        allowed = self.is_known if passing is None else self.is_known & passing
        items = len(self.factors)
        block = max(1, _CELLS // max(1, items))
        for start in range(0, len(queries), block):
            stop = min(start + block, len(queries))
            part = taken.part(start, stop)
            users = ials_fitting.solve(part.items, np.sqrt(part.weights), self.factors, SETTINGS)
            scores = users @ self.factors.T
            scores[:, ~allowed] = -np.inf
            # Of no past nothing follows, nor of one that nobody else knows: all scores are 0 then.
            scores[~users.any(axis=1)] = -np.inf
            if exclude is not None:
                left_out = exclude.part(start, stop)
                known = left_out.where(left_out.values >= 0)
                scores[known.row, known.values] = -np.inf
            column = best_of(scores, min(depth, items))
            best = np.take_along_axis(scores, np.maximum(column, 0), axis=1)
            found.items[start:stop, : column.shape[1]] = column
            found.scores[start:stop, : column.shape[1]] = np.where(column >= 0, best, -np.inf)
        return found
