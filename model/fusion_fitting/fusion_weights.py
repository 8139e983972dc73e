"""Fits the weights of a mix: what would have found most of what was taken. U queries, S sources, P
candidates.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from twinspire_core.fusion.fuse import CandidatePool
from twinspire_core.metrics.ranking import contains, distinct
from twinspire_core.search.ragged import Ragged

STEPS = (0.01, 0.03, 0.1, 0.2, 0.4, 0.7, 1.0)
"""Weights that are tried."""
FILLS = 1e-5
"""Weight of a source that fills up what another leaves, and no more: neighbouring places differ by
a hundredfold.
"""
MOST_USERS = 3_000
"""Queries that weights are fitted on at the most, evenly out of all."""

_ROUNDS = 4
_BLOCK = 512  # candidates whose places are counted at a time: they stay in the processor's cache
_NEARER = 1e-3  # how much the shorter list counts beside the longer: it decides between equals


def fit_weights(pooled: CandidatePool, truth: Ragged, ks: Sequence[int]) -> np.ndarray:
    """Searches for the weights of the best lists, one weight at a time.

    It starts from the best of: each source alone, filled up by the others, and all alike. So on the
    queries that it is fitted on, a mix finds no less than the best source does.

    Args:
      pooled: candidates of each query.
      truth: U lists of what was taken; -1 is outside the catalogue.
      ks: the lengths of lists of which recall@k counts: the first decides, the others between
        equals.

    Returns: [S] float64, positive, with the sum 1.
    """
    asked = _Asked.of(pooled, truth)
    sources = pooled.gains.shape[2]
    starts = np.concatenate([np.ones((1, sources)), np.where(np.eye(sources), 1.0, FILLS)])
    values = [asked.value(asked.scores(start), ks) for start in starts]
    best, weights, settled = max(values), starts[np.argmax(values)], 0
    for source in list(range(sources)) * _ROUNDS:
        values = asked.tried(weights, source, ks)
        settled += 1
        if max(values) > best:
            best, weights, settled = max(values), weights.copy(), 0
            weights[source] = STEPS[np.argmax(values)]
        if settled == sources:
            break
    shares: np.ndarray = weights / weights.sum()
    return shares


class _Asked(NamedTuple):
    """Queries for which some weights find something, and what they wait for.

    A weighting is judged by the places of what was taken, which are counted: nothing is sorted.

    Attributes:
      gains: [S, U, P] float32.
      wanted: [U] int64, how much was taken.
      row: [R] int64 ascending, query of each candidate that was taken.
      column: [R] int64, its place among the candidates.
    """

    gains: np.ndarray
    wanted: np.ndarray
    row: np.ndarray
    column: np.ndarray

    @classmethod
    def of(cls, pooled: CandidatePool, truth: Ragged) -> Self:
        """Leaves out queries for which no weights find anything."""
        wanted, relevant = distinct(truth), contains(truth, pooled.items)
        told = np.flatnonzero(relevant.any(axis=1) & (wanted > 0))
        gains = np.ascontiguousarray(np.moveaxis(pooled.gains[told], 2, 0))
        return cls(gains, wanted[told], *np.nonzero(relevant[told]))

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """Those of all candidates, [U, P] float32; 0 behind the end, below all others."""
        return np.tensordot(weights.astype(np.float32), self.gains, 1)

    def tried(self, weights: np.ndarray, source: int, ks: Sequence[int]) -> list[float]:
        """Values of these weights with each of `STEPS` for one source."""
        others = self.scores(np.where(np.arange(len(weights)) == source, 0.0, weights))
        return [self.value(others + np.float32(step) * self.gains[source], ks) for step in STEPS]

    def value(self, scores: np.ndarray, ks: Sequence[int]) -> float:
        """Sum over the queries of recall@k of the first k, and a little of that of the others."""
        place = np.empty(len(self.row), np.int64)
        for start in range(0, len(place), _BLOCK):
            part = slice(start, start + _BLOCK)
            place[part] = _places(scores, self.row[part], self.column[part])
        hits = [np.bincount(self.row[place < k], minlength=len(self.wanted)) for k in ks]
        recalls = [float((hit / self.wanted).sum()) for hit in hits]
        return recalls[0] + _NEARER * sum(recalls[1:])


def _places(scores: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """How many candidates come before those at [row, column]: higher scores, then those further
    left.
    """
    every, own = scores[row], scores[row, column][:, None]
    before = every > own
    before |= (every == own) & (np.arange(every.shape[1]) < column[:, None])
    places: np.ndarray = np.count_nonzero(before, axis=1)
    return places
