"""EASE: how much each item says for each other one, by one least-squares fit with a closed form.

With X, users by items, weights w as in `twinspire_core/sources/weighted_items.py`, the fit is

    B = argmin |X - X B|^2 + lambda |B|^2   where no item may speak for itself: diag(B) = 0
    P = (X'X + lambda I)^-1,   B_ij = -P_ij / P_jj

Source: Steck, *Embarrassingly Shallow Autoencoders for Sparse Data*, WWW 2019.

P is I x I. With fewer users than items it is had from a matrix of U x U (the Woodbury identity):

    P = (I - X' (X X' + lambda I)^-1 X) / lambda

U users, I items that are fitted, C items of the corpus, N the neighbours kept.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from twinspire_core.search.ragged import list_ranges
from twinspire_core.search.top_k import best_of
from twinspire_core.sources.weighted_items import WeightedItems

MOST_ITEMS = 20_000
"""Items that are fitted, those that most users had: P of so many takes 1.6 GB."""
LEAST_USERS = 2
"""Users an item needs: one alone says nothing of other users."""

_ROWS = 256
_PAIRS = 1 << 22


def fit(
    taken: WeightedItems, corpus_size: int, penalty: float, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """The items that each item speaks for, or against, most.

    Args:
      taken: what users took; weights enter by their square root, so that one who took an item ten
        times counts three times as much as one who took it once.
      corpus_size: C.
      penalty: lambda, above 0.
      n: items kept for each item.

    Returns: rows [C, n] int32, the largest |B| first, -1 behind the end; B [C, n] float32, 0 there.
    """
    chosen = _most_had(taken, corpus_size)
    rows = np.full((corpus_size, n), -1, np.int32)
    weights = np.zeros((corpus_size, n), np.float32)
    if not len(chosen):
        return rows, weights
    place = np.full(corpus_size, -1)
    place[chosen] = np.arange(len(chosen))
    keep = place[taken.items.values] >= 0
    users, row = np.unique(taken.items.row[keep], return_inverse=True)
    column = place[taken.items.values[keep]]
    values = np.sqrt(taken.weights[keep]).astype(np.float32)
    if len(users) < len(chosen):
        matrix = np.zeros((len(users), len(chosen)), np.float32)
        matrix[row, column] = values
        inverse = _inverse_by_users(matrix, penalty)
    else:
        inverse = _inverse_by_items(row, column, values, len(chosen), penalty)
    for start in range(0, len(chosen), _ROWS):
        block = slice(start, min(start + _ROWS, len(chosen)))
        column, value = _furthest(inverse.weights(block), n)
        is_kept = value != 0
        width = column.shape[1]
        rows[chosen[block], :width] = np.where(is_kept, chosen[column], -1)
        weights[chosen[block], :width] = np.where(is_kept, value, 0)
    return rows, weights


def _most_had(taken: WeightedItems, corpus_size: int) -> np.ndarray:
    """The items that are fitted, ascending."""
    users = np.bincount(taken.items.values, minlength=corpus_size)
    order = np.argsort(-users, kind="stable")[:MOST_ITEMS]
    chosen: np.ndarray = np.sort(order[users[order] >= LEAST_USERS])
    return chosen


class _Inverse(NamedTuple):
    """P, of which only some rows need to be there at a time.

    Attributes:
      rows: gives rows of P, [R, I] float32.
      diagonal: [I] float32.
    """

    rows: Callable[[slice], np.ndarray]
    diagonal: np.ndarray

    def weights(self, block: slice) -> np.ndarray:
        """Rows of B, [R, I] float32."""
        weights: np.ndarray = self.rows(block) / -self.diagonal
        number = np.arange(len(weights))
        weights[number, block.start + number] = 0
        return weights


def _inverse_by_users(matrix: np.ndarray, penalty: float) -> _Inverse:
    """P out of X, [U, I] float32."""
    gram = matrix @ matrix.T
    gram[np.diag_indices_from(gram)] += np.float32(penalty)
    solved = np.linalg.solve(gram, matrix)

    def rows(block: slice) -> np.ndarray:
        part = -(matrix[:, block].T @ solved)
        number = np.arange(len(part))
        part[number, block.start + number] += 1
        found: np.ndarray = part / np.float32(penalty)
        return found

    return _Inverse(rows, (1 - (matrix * solved).sum(axis=0)) / np.float32(penalty))


def _inverse_by_items(
    row: np.ndarray, column: np.ndarray, values: np.ndarray, items: int, penalty: float
) -> _Inverse:
    """P by way of X'X, which is added up user by user.

    Args:
      row: [M] int64 ascending, the user of each entry of X.
      column: [M] int64, its item.
      values: [M] float32.
      items: I.
      penalty: lambda.
    """
    gram = np.zeros((items, items), np.float32)
    starts = np.flatnonzero(np.diff(row, prepend=-1))
    sizes = np.diff(starts, append=len(row))
    first = np.repeat(starts, sizes)
    size = np.repeat(sizes, sizes)
    # A row makes as many pairs as its user has items: chunks of about as many pairs.
    ends = np.flatnonzero(np.diff(np.cumsum(size) // _PAIRS)) + 1
    for chunk in np.split(np.arange(len(row)), ends):
        one = np.repeat(chunk, size[chunk])
        other = list_ranges(first[chunk], size[chunk])
        cell = column[one] * items + column[other]
        np.add.at(gram.reshape(-1), cell, values[one] * values[other])
    gram[np.diag_indices_from(gram)] += np.float32(penalty)
    inverse = np.linalg.inv(gram)
    return _Inverse(lambda block: inverse[block], np.diagonal(inverse))


def _furthest(weights: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns of the n values furthest from 0 of each row, and these values."""
    column = best_of(np.abs(weights), min(n, weights.shape[1]))
    return column, np.take_along_axis(weights, column, axis=1)
