"""What training leaves out of a share of the rows, so that what is new or untold is answered well.

B rows of a batch. Everything is a function of the settings' seed and the step.
"""

import zlib
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from model.towers.architecture import SIDES, TableSpec
from model.towers.pooling import EmbeddingBags
from model.towers.two_tower import TwoTower
from twinspire_core.config.tables.training import TrainConfig

Features = Mapping[str, Any]
"""Transformed columns by name: tensors, or embedding bags of tensors."""


def with_dropped_ids(
    model: TwoTower, features: Features, settings: TrainConfig, step: tf.Tensor, salt: str = ""
) -> dict[str, Any]:
    """The features after id dropout."""
    dropped = dict(features)
    if not settings.id_dropout:
        return dropped
    for side in SIDES:
        for column in model.architecture.columns[side]:
            if column.dropout and column.name in features:
                dropped[column.name] = drop_ids(
                    features[column.name],
                    model.architecture.tables[column.table],
                    settings.id_dropout,
                    tf.stack([salted(settings.seed, column.name + salt), step]),
                )
    return dropped


def drop_ids(ids: tf.Tensor, spec: TableSpec, share: float, seed: tf.Tensor) -> tf.Tensor:
    """Replaces a share of the ids by shared rows (id dropout), so that the shared rows become good
    averages: new ids start from them.

    Args:
      ids: [B] int.
      spec: the table that they are rows of.
      share: in [0, 1).
      seed: [2] int32; the result is a function of it.
    """
    drawn = tf.random.stateless_uniform(tf.shape(ids), seed)
    # Another seed than the first draw's: the row must not depend on the number that decided the drop.
    shared = tf.random.stateless_uniform(tf.shape(ids), seed + 1, 0, spec.shared, ids.dtype)
    is_dropped = (drawn < share) & (ids > 0)
    return tf.where(is_dropped, shared + spec.first_shared, ids)


def with_dropped_context(
    model: TwoTower, features: Features, rows: tf.Tensor, settings: TrainConfig, step: tf.Tensor
) -> dict[str, Any]:
    """The features after context dropout: a query lacks all of its context at once, as a request does
    that names a user alone.

    Args:
      model: whose columns they are.
      features: of the batch.
      rows: [] int32, B.
      settings: `context_dropout` is the share.
      step: [] int32.
    """
    dropped = dict(features)
    context = [column.name for column in model.architecture.columns["query"] if column.context]
    if not settings.context_dropout or not context:
        return dropped
    seed = tf.stack([salted(settings.seed, "context"), step])
    is_dropped = tf.random.stateless_uniform([rows], seed) < settings.context_dropout
    for name in context:
        dropped[name] = _missing_where(is_dropped, features[name])
    return dropped


def _missing_where(is_dropped: tf.Tensor, values: tf.Tensor | EmbeddingBags) -> Any:
    """A column in which some rows, [B] bool, are missing: row 0 of a table, a number 0, which is the
    mean, an empty list.
    """
    if not isinstance(values, EmbeddingBags):
        is_dropped = tf.reshape(is_dropped, [-1] + [1] * (values.shape.rank - 1))
        return tf.where(is_dropped, tf.zeros([], values.dtype), values)
    empty = tf.size(values.count)
    return values._replace(
        of=tf.where(is_dropped, empty, values.of), count=tf.pad(values.count, [[0, 1]])
    )


def salted(seed: int, name: str) -> int:
    """A seed of its own for everything that is drawn: two draws are not to be the same."""
    return seed + zlib.crc32(name.encode()) % 2**30
