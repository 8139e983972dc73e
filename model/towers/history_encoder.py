"""Histories as sequences: causal self-attention with positions, built of Keras layers.

As SASRec (Kang and McAuley, ICDM 2018), with the normalisation in front of each part instead of
behind it. The output at a place depends on the items up to it and on no later one, so that one pass
encodes every beginning of a sequence. Keras describes the computation only
(model/towers/encoder_layers.py): weights are the towers' own, by name, like all others.
"""

from collections.abc import Mapping
from functools import lru_cache
from math import prod
from typing import Any

import tensorflow as tf

from model.towers.architecture import Attention
from model.towers.initializers import glorot, normal


def attend(
    spec: Attention,
    weights: Mapping[str, tf.Tensor],
    rows: tf.Tensor,
    seed: tf.Tensor | None = None,
) -> tf.Tensor:
    """Encodes sequences.

    Args:
      spec: the encoder.
      weights: by name, as `fresh_encoder` names them.
      rows: [S, T, W] float32, embeddings of items, oldest first, T at most `spec.length`.
      seed: [2] int32, what dropout is a function of; None is without dropout.

    Returns: [S, T, W] float32. Behind the end of a shorter sequence it means nothing.
    """
    layer = _layer(spec)
    states = [variable.value for variable in layer.non_trainable_variables]  # seeds of the dropouts
    if seed is not None:
        states = [
            tf.cast(seed, tf.int64) + tf.constant([number, 0], tf.int64)
            for number in range(len(states))
        ]
    trained = [weights[_name(variable)] for variable in layer.trainable_variables]
    encoded, _ = layer.stateless_call(trained, states, rows, training=seed is not None)
    return encoded


def fresh_encoder(spec: Attention, seed: int, prefix: str) -> dict[str, tf.Tensor]:
    """Weights to start from, by name.

    Args:
      spec: the encoder.
      seed: of all weights.
      prefix: stands before the names.
    """
    weights = {f"{prefix}{_name(v)}": list(v.shape) for v in _layer(spec).trainable_variables}
    return {name: _fresh(name, shape, seed) for name, shape in weights.items()}


def _fresh(name: str, shape: list[int], seed: int) -> tf.Tensor:
    kind = name.rsplit("/", 1)[-1]
    if kind == "positions":
        return normal(shape, 0.02, seed, name)
    if kind == "kernel":
        # [W, heads, width of a head], or that turned round
        inner = len(shape) - 1 if "attention_output" in name else 1
        return glorot(shape, prod(shape[:inner]), prod(shape[inner:]), seed, name)
    if kind == "gamma":
        # What comes out is to be as long as the embedding of an item, which it is added to the same
        # way.
        return tf.fill(shape, shape[0] ** -0.5 if "/last/" in name else 1.0)
    return tf.zeros(shape)


@lru_cache
def _layer(spec: Attention) -> Any:
    from model.towers.encoder_layers import (
        Encoder,  # only here: loading Keras takes a second, and few histories need it
    )

    with tf.init_scope():
        layer = Encoder(spec)
        layer(tf.zeros([1, 1, spec.width]))
    return layer


def _name(variable: Any) -> str:
    path: str = variable.path.removeprefix("encoder/")
    return path


def attended(
    column: str,
    spec: Attention,
    table: tf.Tensor,
    dense: Mapping[str, tf.Tensor],
    features: Mapping[str, tf.Tensor],
    seed: tf.Tensor | None,
) -> tf.Tensor:
    """Encodes histories by self-attention, and takes what stands at each one's newest item.

    Args:
      column: name of the history.
      spec: its encoder.
      table: [rows, W] float32.
      dense: weights by name.
      features: `column`, [B, L] int, histories with 0 as padding, of which the newest `spec.length`
        are read. Or, if there is a `last_of(column)`, [B] int32 too: [S, T] sequences padded at the
        end, and where each row's newest item stands in them when they are laid end to end; -1 for
        an empty history.
      seed: [2] int32 of dropout, or None.

    Returns: [B, W] float32.
    """
    prefix = encoder_prefix(column)
    weights = {name.removeprefix(prefix): w for name, w in dense.items() if name.startswith(prefix)}
    ids, last = features[column], features.get(last_of(column))
    if last is None:
        ids, last = _newest(ids, spec.length)
    encoded = attend(spec, weights, tf.gather(table, ids), seed)
    every = tf.concat([weights["empty"][tf.newaxis], tf.reshape(encoded, [-1, spec.width])], 0)
    return tf.gather(every, last + 1)


def _newest(ids: tf.Tensor, length: int) -> tuple[tf.Tensor, tf.Tensor]:
    """A sequence per row, without holes, and where it ends."""
    lists = tf.ragged.boolean_mask(ids, ids > 0)[:, -length:]
    count = tf.cast(lists.row_lengths(), tf.int32)
    sequences = lists.to_tensor()
    first = tf.range(tf.size(count)) * tf.shape(sequences)[1]
    return sequences, tf.where(count > 0, first + count - 1, -1)


def last_of(column: str) -> str:
    """Name that the ends of a packed history go by, beside its own."""
    return f"{column}:last"


def encoder_prefix(column: str) -> str:
    """What the names of a history's encoder's weights start with."""
    return f"query/history/{column}/"
