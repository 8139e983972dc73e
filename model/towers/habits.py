"""The part of the vectors for habits: what users take again and again, as a linear model knows it.

Counts of users' histories are approximated by their singular vectors (PureSVD: Cremonesi, Koren and
Turrin, RecSys 2010). With V the right ones, an item is [V_i, sqrt(1 - |V_i|^2)] and a history h is
[the sum over h of V_j, stretched to length 1, 0]: their dot product is the approximated count.

This part is fitted and not trained, since the softmax spoils it, and stands behind the trained vector:
it is better for what was taken before; the trained part is all that there is for a user without a
history and for an item that is new. docs/decisions/0026-training.md

B rows, D the dimension of the trained vectors, R the rank.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds

from model.towers.architecture import HABITS, Architecture
from model.towers.list_encoders import mean_of_present
from model.towers.two_tower import TwoTower

_WEIGHT = 4.0
"""Weight of this part in a query, against 1 for the trained one. On the items' side it would rank the same,
but their last number would then make all items similar.
"""
_TINY = 1e-12


def with_habits(
    architecture: Architecture,
    side: str,
    vector: tf.Tensor,
    tables: Mapping[str, tf.Variable],
    features: Mapping[str, tf.Tensor],
) -> tf.Tensor:
    """Continues vectors with the part for habits, if the architecture has one.

    Args:
      side: the tower, `query` or `item`.
      vector: [B, D] float32, the trained vectors.
      tables: embedding tables by name.
      features: transformed columns by name; ids of histories are [B, L].

    Returns: [B, D + R + 1] float32, every row of length 1.
    """
    if not architecture.habits:
        return vector
    table = tables[architecture.habits]
    if side == "query":
        ids = [features[column.name] for column in architecture.columns[side] if column.root]
        own = sum(mean_of_present(tf.gather(table, lists), lists) for lists in ids)
        own = _WEIGHT * tf.math.l2_normalize(own, axis=1, epsilon=_TINY)
        last = tf.zeros_like(own[:, :1])
    else:
        own = tf.gather(table, features[architecture.habits.removesuffix(HABITS)])
        last = tf.sqrt(tf.maximum(0.0, 1 - tf.reduce_sum(own**2, 1, keepdims=True)))
    both = tf.math.l2_normalize(tf.concat([vector, own, last], 1), axis=1, epsilon=_TINY)
    # The transform graph may leave the shapes of its outputs open.
    return tf.ensure_shape(both, [None, vector.shape[1] + table.shape[1] + 1])


def fit_habits(model: TwoTower, histories: np.ndarray, seed: int) -> None:
    """Fits the table.

    Args:
      model: its architecture has `habits`.
      histories: [U, L] int32, one per user; 0 is padding.
    """
    name = model.architecture.habits
    table = model.tables[name]
    # Shared rows stay zero: what many new items were to users says nothing of one of them.
    has_row = (histories > 0) & (histories < model.architecture.tables[name].first_shared)
    user, place = np.nonzero(has_row)
    if not len(user):
        return
    # A long history says no more of each item than a short one.
    weight = np.count_nonzero(has_row, 1)[user] ** -0.5
    counts = csr_matrix((weight, (user, histories[user, place])))
    items = np.flatnonzero(counts.getnnz(0))
    values = np.zeros(table.values.shape, np.float32)
    rank = min(values.shape[1], counts.shape[0] - 1, len(items) - 1)
    if rank > 0:
        _, _, right = svds(counts[:, items], rank, rng=seed)
        values[items, :rank] = right.T
    table.values.assign(values)
