"""Rows of embedding tables that no example has used.

Training from scratch starts every row at random, as long as trained ones. What it has never moved
would say at random what nobody knows: a brand that is new, a word that no title had, an attribute
that nobody lacked. Once it is over,

- a value's row that was not used becomes the shared row that the value would be hashed to, were it
  not in the
  vocabulary: that is where new ones start from on the days that follow;
- a shared row, or the one of missing values, becomes zero: the column then has nothing to say.

Those of ids are used in any case, by id dropout.
docs/decisions/0038-frequency-and-untrained-rows.md
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from model.towers.two_tower import TwoTower, fresh_rows


def zero_untrained_rows(model: TwoTower, seed: int, names: Sequence[str]) -> None:
    """Gives a meaning to the rows that training never moved.

    Args:
      model: after training.
      seed: that it was made with.
      names: its tables that this training started from scratch.
    """
    for name in names:
        spec, weight = model.layout.tables[name], model.tables[name]
        rows = weight.values.numpy()
        unused = (rows == fresh_rows(spec, seed).numpy()).all(1)
        # A feature that nobody has: all zeros could never be trained
        if not unused.any() or unused.all():
            continue
        rows = np.where(unused[:, np.newaxis], 0, rows)
        own = np.flatnonzero(unused[1 : spec.first_shared]) + 1
        rows[own] = rows[
            spec.first_shared + shared_buckets(spec.keys.take(pa.array(own)), spec.shared)
        ]
        weight.values.assign(rows)


def shared_buckets(keys: pa.Array, shared: int) -> np.ndarray:
    """Which shared row tokens are hashed to that are not in the vocabulary, [N] int64, as
    TensorFlow's tables do.

    Args:
      keys: [N], as model/towers/architecture.py spells them: `=TOKEN`.
      shared: number of shared rows.
    """
    tokens = pc.utf8_slice_codeunits(keys, 1).cast(pa.binary()).to_numpy(zero_copy_only=False)
    if not len(tokens):
        return np.zeros(0, np.int64)
    buckets: np.ndarray = tf.strings.to_hash_bucket_fast(
        tf.constant(tokens, tf.string), shared
    ).numpy()
    return buckets
