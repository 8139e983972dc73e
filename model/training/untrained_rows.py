"""Rows of embedding tables that no example has used.

Training from scratch starts every row at random, as long as trained rows are. A row that it never
moved would say something random of a brand that is new, a word that no title had, an attribute that
no item lacked. So after such training

- the row of a value that was not used becomes the shared row that the value would be hashed to, if
  it were not in the vocabulary: that is where new values start from on the days that follow;
- a shared row, or the row of missing values, becomes zero: the column then says nothing.

The rows of ids are always used, by id dropout.
docs/decisions/0005-loss-and-frequency.md
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from model.towers.two_tower import TwoTower, initial_rows


def zero_untrained_rows(model: TwoTower, seed: int, names: Sequence[str]) -> None:
    """Gives a meaning to the rows that training never moved.

    Args:
      seed: the one that it was made with.
      names: its tables that this training started from scratch.
    """
    for name in names:
        spec = model.architecture.tables[name]
        weight = model.tables[name]
        rows = weight.values.numpy()
        # Adagrad moves every row that has a gradient, so an unmoved row has its first bytes.
        is_unused = (rows == initial_rows(spec, seed).numpy()).all(1)
        # A feature that no example has keeps its random rows: from all zeros, rows and kernel could
        # never be trained.
        if not is_unused.any() or is_unused.all():
            continue
        rows = np.where(is_unused[:, np.newaxis], 0, rows)
        # After zeroing, so that a value whose shared row was not used either says nothing.
        unused = np.flatnonzero(is_unused[1 : spec.first_shared]) + 1
        buckets = shared_buckets(spec.keys.take(pa.array(unused)), spec.shared)
        rows[unused] = rows[spec.first_shared + buckets]
        weight.values.assign(rows)


def shared_buckets(keys: pa.Array, shared: int) -> np.ndarray:
    """Which shared row a token outside the vocabulary is hashed to, as TensorFlow's tables do.

    Args:
      keys: [N], as model/towers/architecture.py spells them: `=TOKEN`.
      shared: number of shared rows.

    Returns: [N] int64, from 0.
    """
    tokens = pc.utf8_slice_codeunits(keys, 1).cast(pa.binary()).to_numpy(zero_copy_only=False)
    if not len(tokens):
        return np.zeros(0, np.int64)
    buckets: np.ndarray = tf.strings.to_hash_bucket_fast(
        tf.constant(tokens, tf.string), shared
    ).numpy()
    return buckets
