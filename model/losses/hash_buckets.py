"""Buckets of a count sketch, by several hash functions, in TensorFlow."""

import tensorflow as tf

from model.item_fingerprint import GAMMA


def hash_buckets(items: tf.Tensor, hashes: int, buckets: int) -> tf.Tensor:
    """[hashes, N] int64: each item's bucket of each hash function, those of the first one from 0 on,
    those of the next one behind them.

    Args:
      items: [N] int64 fingerprints.
      hashes: how many functions.
      buckets: of each.
    """
    salts = [_signed(GAMMA * (i + 1)) for i in range(hashes)]
    mixed = _splitmix64(items[tf.newaxis, :] ^ tf.constant(salts, tf.int64)[:, tf.newaxis])
    start = tf.range(hashes, dtype=tf.int64)[:, tf.newaxis] * buckets
    # Without the sign bit, so that the remainder is not negative.
    return start + _shift(mixed, 1) % buckets


def _splitmix64(x: tf.Tensor) -> tf.Tensor:
    """`model.item_fingerprint.splitmix64` on int64: products wrap, as those of unsigned numbers do."""
    x = (x ^ _shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift(x, 31)


def _shift(x: tf.Tensor, bits: int) -> tf.Tensor:
    """Shifts int64 right by `bits`, filling with zeros instead of the sign."""
    return tf.bitwise.right_shift(x, tf.constant(bits, tf.int64)) & ((1 << (64 - bits)) - 1)


def _signed(x: int) -> int:
    """The int64 with the bits of `x` modulo 2^64."""
    x &= (1 << 64) - 1
    return x - (1 << 64) if x >> 63 else x
