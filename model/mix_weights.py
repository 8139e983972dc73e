"""Fits the weights of a mix: what would have found most of what was taken. U queries, S sources, P candidates."""

from collections.abc import Iterator, Sequence

import numpy as np

from model.metrics import best_of, contains, distinct
from model.mix import Pool
from model.ragged import Ragged

STEPS = (0.01, 0.03, 0.1, 0.2, 0.4, 0.7, 1.0)
"""Weights that are tried."""
FILLS = 1e-5
"""Weight of a source that fills up what another leaves, and no more: neighbouring places differ by a hundredfold."""
MOST_USERS = 3_000
"""Queries that weights are fitted on at the most, evenly out of all."""

_ROUNDS = 4
_NEARER = 1e-3  # how much the shorter list counts beside the longer: it decides between equals


def fit_weights(pooled: Pool, truth: Ragged, ks: Sequence[int]) -> np.ndarray:
    """Searches for the weights of the best lists, one weight at a time.

    It starts from the best of: each source alone, filled up by the others, and all alike. So on the queries that it is
    fitted on, a mix finds no less than the best source does.

    Args:
      pooled: candidates of each query.
      truth: U lists of what was taken; -1 is outside the catalogue.
      ks: the lengths of lists of which recall@k counts: the first decides, the others between equals.

    Returns: [S] float64, positive, with the sum 1.
    """
    wanted = distinct(truth)
    relevant = contains(truth, pooled.items)
    told = np.flatnonzero(relevant.any(axis=1) & (wanted > 0))  # the others are found nothing for, whatever the weights
    pooled, relevant, wanted = Pool(pooled.items[told], pooled.gains[told]), relevant[told], wanted[told]

    def value(weights: np.ndarray) -> float:
        return _found(pooled, relevant, wanted, weights, ks)

    sources = pooled.gains.shape[2]
    best, weights = max(((value(start), start) for start in _starts(sources)), key=lambda pair: pair[0])
    for _ in range(_ROUNDS):
        before = best
        for source in range(sources):
            for step in STEPS:
                tried = weights.copy()
                tried[source] = step
                if (found := value(tried)) > best:
                    best, weights = found, tried
        if best == before:
            break
    return weights / weights.sum()


def _starts(sources: int) -> Iterator[np.ndarray]:
    yield np.ones(sources)
    for source in range(sources):
        yield np.where(np.arange(sources) == source, 1.0, FILLS)


def _found(pooled: Pool, relevant: np.ndarray, wanted: np.ndarray, weights: np.ndarray, ks: Sequence[int]) -> float:
    """Sum over the queries of recall@k of the first k, and a little of that of the others."""
    scores = pooled.scores(weights)
    column = best_of(scores, min(max(ks), scores.shape[1]))
    hit = np.take_along_axis(relevant, column, axis=1) & (column >= 0)
    recalls = [float((hit[:, :k].sum(axis=1) / wanted).sum()) for k in ks]
    return recalls[0] + _NEARER * sum(recalls[1:])
