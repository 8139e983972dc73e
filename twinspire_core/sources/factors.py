"""The source `factors`: iALS, factors of users and items by alternating least squares, whose
regularisation grows with the number of events. A version carries the items' factors; those of a user
are computed for each query.

With s_ui = p_u . q_i, w_ui what user u took of item i, and N_u the sum of w_ui over the items of u,

    sum over what was taken of  w_ui (1 - s_ui)^2   +  a sum over all pairs of  s_ui^2
    +  lambda sum over users of  (N_u + a C)^nu |p_u|^2   +  the same for items

All events count the same, however old. Source: Rendle, Krichene, Zhang and Koren, *Revisiting the
Performance of iALS on Item Recommendation Benchmarks*, RecSys 2022.

U users, C items of the corpus, D factors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from twinspire_core.config import source_registry
from twinspire_core.search.ragged import Ragged, arrow_lists, list_offsets, list_ranges
from twinspire_core.search.top_k import best_of
from twinspire_core.sources.source import Fit, Queries, ScoredLists, Source, SourceTables
from twinspire_core.sources.user_histories import Sequences, WeightedItems

TABLE = "factors"
SCHEMA = pa.schema([("_item", pa.string()), ("_factors", pa.list_(pa.float32()))])
"""A row per item that somebody took."""
HALF_LIFE = "all"
"""The one of `user_histories.HALF_LIVES` without decay: on a log of years, another one would leave most
events out.
"""
MOST_EVENTS = 3_000_000
"""The most events that factors are fitted on, those of the users seen last."""

_CELLS = 1 << 22  # scores of a block of queries
_DEVIATION = 0.1  # of the first factors, times the square root of their number
_BLOCK = 1 << 24  # numbers of a block of gathered factors


class IalsSettings(NamedTuple):
    """Constants of the fit.

    Attributes:
      factors: D.
      unobserved: a, the weight of a user and an item without an event.
      penalty: lambda.
      exponent: nu.
      epochs: rounds, each one solve of all users and one of all items.
    """

    factors: int = 64
    unobserved: float = 0.1
    penalty: float = 0.01
    exponent: float = 1.0
    epochs: int = 8


SETTINGS = IalsSettings()


def fit(sequences: Sequences, corpus: pa.Array, settings: IalsSettings = SETTINGS) -> pa.Table:
    """Rows of `SCHEMA`; `Fit` describes the arguments."""
    newest = sequences.newest_users(MOST_EVENTS)
    taken = WeightedItems.of(newest, len(corpus), HALF_LIFE)
    factors = fit_factors(taken.items, np.sqrt(taken.weights), len(corpus), settings)
    # Items that nobody took have factors of 0, which say nothing.
    some = np.flatnonzero(factors.any(axis=1))
    lengths = np.full(len(some), factors.shape[1])
    lists = arrow_lists(lengths, pa.array(factors[some].ravel()))
    return pa.table([corpus.take(pa.array(some)), lists], schema=SCHEMA)


@dataclass(frozen=True, slots=True)
class Factors(Source):
    """Scores are dot products of factors.

    Attributes:
      factors: [C, D] float32; 0 for items that nobody took.
      is_known: [C] bool, items that somebody took.
    """

    name = source_registry.FACTORS
    fits: ClassVar[Mapping[str, Fit]] = {TABLE: fit}
    is_costly = True

    factors: np.ndarray
    is_known: np.ndarray

    @classmethod
    def of(cls, tables: SourceTables) -> Self | None:
        """Of rows of the table; None where it was not fitted."""
        table = tables.others.get(TABLE)
        if table is None:
            return None
        items = tables.corpus["_item"]
        position = pc.index_in(table["_item"].combine_chunks(), value_set=items.combine_chunks())
        # The catalogue may have lost items since the fit.
        table = table.filter(position.is_valid())
        position = position.drop_null().to_numpy()
        factors = np.zeros((len(items), SETTINGS.factors), np.float32)
        is_known = np.zeros(len(items), bool)
        values = table["_factors"].combine_chunks().flatten().to_numpy()
        factors[position] = values.reshape(-1, SETTINGS.factors)
        is_known[position] = True
        return cls(factors, is_known)

    def lists(
        self,
        queries: Queries,
        depth: int,
        *,
        exclude: Ragged | None = None,
        passing: np.ndarray | None = None,
    ) -> ScoredLists:
        """The items of the largest dot products with the user's factors."""
        ranked = ScoredLists.empty(len(queries), depth)
        taken = queries.weighted_items(HALF_LIFE)
        allowed = self.is_known if passing is None else self.is_known & passing
        items = len(self.factors)
        # In blocks, so that the scores of a block stay in memory, whatever the size of the corpus.
        block = max(1, _CELLS // max(1, items))
        for start in range(0, len(queries), block):
            stop = min(start + block, len(queries))
            part = taken.part(start, stop)
            users = solve(part.items, np.sqrt(part.weights), self.factors, SETTINGS)
            scores = users @ self.factors.T
            scores[:, ~allowed] = -np.inf
            # Without a history, or with items that nobody else took, all scores would be 0: no order at all.
            scores[~users.any(axis=1)] = -np.inf
            if exclude is not None:
                left_out = exclude.part(start, stop)
                inside = left_out.where(left_out.values >= 0)
                scores[inside.row, inside.values] = -np.inf
            column = best_of(scores, min(depth, items))
            best = np.take_along_axis(scores, np.maximum(column, 0), axis=1)
            ranked.items[start:stop, : column.shape[1]] = column
            ranked.scores[start:stop, : column.shape[1]] = np.where(column >= 0, best, -np.inf)
        return ranked


def fit_factors(
    items: Ragged, weights: np.ndarray, corpus_size: int, settings: IalsSettings
) -> np.ndarray:
    """The items' factors, [C, D] float32; 0 for an item that nobody took.

    Args:
      items: U lists of positions in the corpus, each once.
      weights: [M] float32, above 0.
      corpus_size: number of items in the corpus, C.
      settings: constants of the fit.
    """
    # A fixed seed: equal logs give an equal table, whose bytes are part of the version's id.
    generator = np.random.default_rng(0)
    scale = _DEVIATION / np.sqrt(settings.factors)
    shape = (corpus_size, settings.factors)
    item_factors: np.ndarray = (generator.standard_normal(shape) * scale).astype(np.float32)
    if not len(items.values):
        return np.zeros(shape, np.float32)
    order = np.argsort(items.values, kind="stable")
    users = Ragged(items.row[order], items.values[order], corpus_size)
    weights_by_item = weights[order]
    for _ in range(settings.epochs):
        user_factors = solve(items, weights, item_factors, settings)
        item_factors = solve(users, weights_by_item, user_factors, settings)
    return item_factors


def solve(
    lists: Ragged, weights: np.ndarray, factors: np.ndarray, settings: IalsSettings
) -> np.ndarray:
    """The best factors of rows, given those of columns, by one least-squares problem for each row:
    [R, D] float32, 0 for an empty list. It is a step of the fit, and makes a user's factors for a query.

    Args:
      lists: R lists of columns, each once.
      weights: [M] float32, above 0.
      factors: [N, D] float32, of the columns.
      settings: constants of the fit.
    """
    width = settings.factors
    solved = np.zeros((lists.rows, width), np.float32)
    lengths = lists.lengths
    offsets = list_offsets(lengths)
    sums = np.bincount(lists.row, weights=weights, minlength=lists.rows)
    ridge = settings.penalty * (sums + settings.unobserved * len(factors)) ** settings.exponent
    # Stands for all pairs without an event, which have the same weight. So the work grows with the events
    # and not with users times items.
    common = settings.unobserved * (factors.T @ factors)
    # Rows of similar length share a block, for little padding; the first row of a block is its longest.
    filled = np.flatnonzero(lengths)
    filled = filled[np.argsort(-lengths[filled], kind="stable")]
    start = 0
    while start < len(filled):
        longest = int(lengths[filled[start]])
        fitting = max(1, _BLOCK // (max(longest, width) * width))
        rows = filled[start : start + fitting]
        start += len(rows)
        entry = list_ranges(offsets[rows], lengths[rows])
        block = Ragged.of_lengths(lists.values[entry], lengths[rows])
        columns = block.padded()
        weight = np.zeros(columns.shape, np.float32)
        weight[columns >= 0] = weights[entry]
        # Padding reads the first column's factors, with the weight 0.
        gathered = factors[np.maximum(columns, 0)]
        weighted = gathered * weight[:, :, np.newaxis]
        matrix = common + np.matmul(weighted.transpose(0, 2, 1), gathered)
        matrix[:, np.arange(width), np.arange(width)] += ridge[rows, np.newaxis]
        target = weighted.sum(axis=1)
        solved[rows] = np.linalg.solve(matrix, target[:, :, np.newaxis])[:, :, 0]
    return solved
