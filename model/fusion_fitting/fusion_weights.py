"""Fits the weights of a fusion: those that would have found most of what was taken.

U queries, S sources, P candidates of a query, R candidates that were taken.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from twinspire_core.fusion.candidate_pool import CandidatePool
from twinspire_core.metrics.ranking import contains, distinct
from twinspire_core.search.ragged import Ragged

STEPS = (0.01, 0.03, 0.1, 0.2, 0.4, 0.7, 1.0)
"""Weights that are tried for each source."""
FILL_WEIGHT = 1e-5
"""Weight of a source that only fills up what another leaves: the scores of neighbouring places of
the other differ by a hundred times as much.
"""
MAX_QUERIES = 3_000
"""The most queries that weights are fitted on, evenly out of all."""

_ROUNDS = 4
_BLOCK = 512
"""Candidates whose places are counted at a time: they stay in the processor's cache."""
_TIE_BREAK = 1e-3
"""How much recall at the other lengths counts beside recall at the first: it decides ties."""


def fit_weights(pool: CandidatePool, truth: Ragged, ks: Sequence[int]) -> np.ndarray:
    """Searches for the weights of the best lists by coordinate ascent: one weight at a time.

    The search starts from the best of these: each source alone, filled up by the others, and all
    sources alike. So on the queries that it is fitted on, a fusion finds no less than its best
    source does.

    Args:
      pool: candidates of each query.
      truth: U lists of what was taken; -1 is outside the corpus.
      ks: the lengths of lists at which recall counts: the first decides, the others break ties.

    Returns: [S] float64, positive, with the sum 1.
    """
    queries = _FittedQueries.of(pool, truth)
    sources = pool.gains.shape[2]
    alike = np.ones((1, sources))
    each_alone = np.where(np.eye(sources), 1.0, FILL_WEIGHT)
    starts = np.concatenate([alike, each_alone])
    values = [queries.value(queries.scores(start), ks) for start in starts]
    best = max(values)
    weights = starts[np.argmax(values)]
    unchanged = 0  # sources tried in a row without a better weight
    for source in list(range(sources)) * _ROUNDS:
        values = queries.values_with(weights, source, ks)
        unchanged += 1
        if max(values) > best:
            best = max(values)
            weights = weights.copy()
            weights[source] = STEPS[np.argmax(values)]
            unchanged = 0
        if unchanged == sources:
            break
    shares: np.ndarray = weights / weights.sum()
    return shares


class _FittedQueries(NamedTuple):
    """Queries for which some weights find something.

    A weighting is judged by the places that its scores give to the candidates that were taken. A
    place is counted, as the number of higher scores: nothing is sorted.

    Attributes:
      gains: [S, U, P] float32, what each source adds to the score of each candidate at weight 1.
      wanted: [U] int64, how many items were taken.
      row: [R] int64 ascending, the query of each candidate that was taken.
      column: [R] int64, its position among the candidates.
    """

    gains: np.ndarray
    wanted: np.ndarray
    row: np.ndarray
    column: np.ndarray

    @classmethod
    def of(cls, pool: CandidatePool, truth: Ragged) -> Self:
        """Leaves out queries for which no weights find anything."""
        wanted = distinct(truth)
        taken = contains(truth, pool.items)
        kept = np.flatnonzero(taken.any(axis=1) & (wanted > 0))
        # Sources first, and contiguous: one source's gains are read as a whole in each step.
        gains = np.ascontiguousarray(np.moveaxis(pool.gains[kept], 2, 0))
        row, column = np.nonzero(taken[kept])
        return cls(gains, wanted[kept], row, column)

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """[U, P] float32; 0 behind the last candidate, below all others."""
        return np.tensordot(weights.astype(np.float32), self.gains, 1)

    def values_with(self, weights: np.ndarray, source: int, ks: Sequence[int]) -> list[float]:
        """The values of these weights, [S], with each of `STEPS` for one source."""
        is_source = np.arange(len(weights)) == source
        others = self.scores(np.where(is_source, 0.0, weights))
        return [self.value(others + np.float32(step) * self.gains[source], ks) for step in STEPS]

    def value(self, scores: np.ndarray, ks: Sequence[int]) -> float:
        """Sum over the queries of recall at the first k, and a little of recall at the others.

        Args:
          scores: [U, P] float32, from `scores`.
          ks: list lengths.
        """
        place = np.empty(len(self.row), np.int64)
        for start in range(0, len(place), _BLOCK):
            block = slice(start, start + _BLOCK)
            place[block] = _places(scores, self.row[block], self.column[block])
        recalls = []
        for k in ks:
            hits = np.bincount(self.row[place < k], minlength=len(self.wanted))
            recalls.append(float((hits / self.wanted).sum()))
        return recalls[0] + _TIE_BREAK * sum(recalls[1:])


def _places(scores: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """How many candidates come before those at [row, column], [R] int64: those of higher scores
    and, of equal ones, those further left.
    """
    every = scores[row]
    own = scores[row, column][:, np.newaxis]
    before = every > own
    before |= (every == own) & (np.arange(every.shape[1]) < column[:, np.newaxis])
    places: np.ndarray = np.count_nonzero(before, axis=1)
    return places
