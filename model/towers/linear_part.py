"""The linear part of the vectors: PureSVD, which ranks what goes with a whole history.

PureSVD (Cremonesi, Koren and Turrin, RecSys 2010) factorises how often each user took each item. V are the
right singular vectors. An item i is [V_i, sqrt(1 - |V_i|^2)]. A history is [the sum of V_j over its items
j, scaled to length 1, 0]. Their dot product is proportional to the approximated count.

In a vector, this part follows the trained part. It is not trained, because the softmax makes it worse. A
user without a history, and a new item, have only the trained part. docs/decisions/0026-training.md

B rows, D the dimension of the trained vectors, R the rank.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import LinearOperator, eigsh

from model.towers.architecture import LINEAR, Architecture
from model.towers.list_encoders import mean_of_present
from model.towers.two_tower import TwoTower

_WEIGHT = 6.0
"""Weight of this part in a query, against 1 for the trained one. On the items' side it would rank the same,
but their last number would then make all items similar.
"""
_TINY = 1e-12
_NULL = 1e-10
"""Directions whose squared singular value is a smaller share of the largest one are rounding errors."""


def with_linear_part(
    architecture: Architecture,
    side: str,
    vector: tf.Tensor,
    tables: Mapping[str, tf.Variable],
    features: Mapping[str, tf.Tensor],
) -> tf.Tensor:
    """Appends the linear part to the trained vectors, if the architecture has one.

    Args:
      side: the tower, `query` or `item`.
      vector: [B, D] float32, the trained vectors.
      tables: embedding tables by name.
      features: transformed columns by name; ids of histories are [B, L].

    Returns: [B, D + R + 1] float32, every row of length 1.
    """
    if not architecture.linear:
        return vector
    table = tables[architecture.linear]
    if side == "query":
        ids = [features[column] for column in architecture.histories]
        linear = sum(mean_of_present(tf.gather(table, lists), lists) for lists in ids)
        linear = _WEIGHT * tf.math.l2_normalize(linear, axis=1, epsilon=_TINY)
        last = tf.zeros_like(linear[:, :1])
    else:
        linear = tf.gather(table, features[architecture.linear.removesuffix(LINEAR)])
        last = tf.sqrt(tf.maximum(0.0, 1 - tf.reduce_sum(linear**2, 1, keepdims=True)))
    both = tf.math.l2_normalize(tf.concat([vector, linear, last], 1), axis=1, epsilon=_TINY)
    # The transform graph may leave the shapes of its outputs open.
    return tf.ensure_shape(both, [None, vector.shape[1] + table.shape[1] + 1])


def fit_linear_part(model: TwoTower, histories: np.ndarray, seed: int) -> None:
    """Fits the items' table; a user's counts are divided by the root of the history's length.

    Args:
      model: one whose architecture has a linear part.
      histories: [U, L] int32, one per user; 0 is padding.
    """
    name = model.architecture.linear
    table = model.tables[name]
    # Shared rows stay zero: many new items share a row, and its counts say nothing about one of them.
    has_row = (histories > 0) & (histories < model.architecture.tables[name].first_shared)
    user, position = np.nonzero(has_row)
    if not len(user):
        return
    # A long history says no more about each item than a short one.
    weight = np.count_nonzero(has_row, 1)[user] ** -0.5
    counts = csr_matrix((weight, (user, histories[user, position])))
    items = np.flatnonzero(counts.getnnz(0))
    values = np.zeros(table.values.shape, np.float32)
    right = right_singular_vectors(counts[:, items], values.shape[1], seed)
    values[items, : right.shape[1]] = right
    table.values.assign(values)


def right_singular_vectors(counts: csr_matrix, rank: int, seed: int) -> np.ndarray:
    """The right singular vectors of the largest singular values, deterministic.

    SciPy's `svds` (1.17) does not pass its seed to ARPACK, which draws random vectors if the rank of the
    counts is less than requested.

    Args:
      counts: [U, I] float64.
      rank: the most vectors to return. ARPACK finds fewer than the shorter side has.

    Returns: [I, R] float64, the largest last. R is less than `rank` if the others are zero.
    """
    transposed = counts.T.tocsr()
    users_are_fewer = counts.shape[0] < counts.shape[1]
    few, many = (counts, transposed) if users_are_fewer else (transposed, counts)
    rank = min(rank, few.shape[0] - 1)
    if rank < 1:
        return np.empty((counts.shape[1], 0))
    gram = LinearOperator((few.shape[0],) * 2, lambda x: few @ (many @ x), dtype=np.float64)
    squares, vectors = eigsh(gram, rank, rng=seed)
    real = squares > _NULL * squares[-1]
    vectors = vectors[:, real]
    return transposed @ vectors / np.sqrt(squares[real]) if users_are_fewer else vectors
