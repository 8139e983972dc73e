"""Histories as sequences: causal self-attention with positions, built of Keras layers.

As SASRec (Kang and McAuley, ICDM 2018), with the normalisation in front of each block's halves
instead of behind them. The output at a place depends on the items up to it and on no later one, so
that one pass encodes every beginning of a sequence. Keras describes the computation only
(model/towers/encoder_layers.py): weights are the towers' own, by name, like all others.

B rows; S sequences of T places; W the width of an item's embedding.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import tensorflow as tf

from model.towers.architecture import Attention


def attended(
    column: str,
    spec: Attention,
    table: tf.Tensor,
    dense: Mapping[str, tf.Tensor],
    features: Mapping[str, tf.Tensor],
    seed: tf.Tensor | None,
) -> tf.Tensor:
    """Encodes histories by self-attention, and takes what stands at each one's newest item.

    Histories come in one of two forms, by whether `features` has `last_of(column)`:

    - `column` is [B, L] int, a history per row with 0 as padding. The newest `spec.length` items
      are read.
    - `column` is [S, T] int, sequences padded at the end, which several rows may share; and
      `last_of(column)` is [B] int32, where each row's newest item stands in the sequences when
      they are laid end to end, -1 for an empty history. (model/data/batching.py)

    Args:
      column: name of the history.
      table: [rows, W] float32, embeddings of items.
      dense: all weights of the query tower, by name.
      features: transformed columns, as above, by name.
      seed: [2] int32 of dropout, or None for no dropout.

    Returns: [B, W] float32. Of an empty history it is a vector that is learned.
    """
    prefix = encoder_prefix(column)
    weights = {
        name.removeprefix(prefix): weight
        for name, weight in dense.items()
        if name.startswith(prefix)
    }
    ids = features[column]
    last = features.get(last_of(column))
    if last is None:
        ids, last = _newest_items(ids, spec.length)
    encoded = encode_sequences(spec, weights, tf.gather(table, ids), seed)
    # The vector of empty histories stands in front of all places, so that -1 + 1 reads it:
    #   [empty, (sequence 0, place 0), (0, 1), …, (1, 0), …]
    places = tf.concat([weights["empty"][tf.newaxis], tf.reshape(encoded, [-1, spec.width])], 0)
    return tf.gather(places, last + 1)


def encode_sequences(
    spec: Attention,
    weights: Mapping[str, tf.Tensor],
    rows: tf.Tensor,
    seed: tf.Tensor | None = None,
) -> tf.Tensor:
    """Encodes sequences.

    Args:
      weights: by name, as `encoder_shapes` names them.
      rows: [S, T, W] float32, embeddings of items, oldest first, T at most `spec.length`.
      seed: [2] int32, which dropout is a function of; None is without dropout.

    Returns: [S, T, W] float32. Behind the end of a shorter sequence it means nothing.
    """
    layer = _layer(spec)
    # The layer's only state is the seeds of its dropouts. They are given with each call, so that
    # equal steps drop the same values.
    states = [variable.value for variable in layer.non_trainable_variables]
    if seed is not None:
        seed = tf.cast(seed, tf.int64)
        states = [seed + tf.constant([number, 0], tf.int64) for number in range(len(states))]
    trained = [weights[_name(variable)] for variable in layer.trainable_variables]
    encoded, _ = layer.stateless_call(trained, states, rows, training=seed is not None)
    return encoded


def encoder_shapes(spec: Attention) -> dict[str, list[int]]:
    """Shapes of the weights of an encoder, by name."""
    return {_name(variable): list(variable.shape) for variable in _layer(spec).trainable_variables}


def last_of(column: str) -> str:
    """Name of the ends of a packed history, beside the column's own name."""
    return f"{column}:last"


def encoder_prefix(column: str) -> str:
    """What the names of the weights of a history's encoder start with."""
    return f"query/history/{column}/"


def _newest_items(ids: tf.Tensor, length: int) -> tuple[tf.Tensor, tf.Tensor]:
    """A sequence per row, without holes, and where each ends."""
    lists = tf.ragged.boolean_mask(ids, ids > 0)[:, -length:]
    count = tf.cast(lists.row_lengths(), tf.int32)
    sequences = lists.to_tensor()
    first = tf.range(tf.size(count)) * tf.shape(sequences)[1]
    return sequences, tf.where(count > 0, first + count - 1, -1)


@lru_cache
def _layer(spec: Attention) -> Any:
    # Loading Keras takes a second, and few pipelines read histories as sequences.
    from model.towers.encoder_layers import Encoder

    with tf.init_scope():
        layer = Encoder(spec)
        layer(tf.zeros([1, 1, spec.width]))
    return layer


def _name(variable: Any) -> str:
    path: str = variable.path
    return path.removeprefix("encoder/")
