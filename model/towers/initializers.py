"""What weights start from: a function of one seed and the weight's name, so that one more leaves
the others alone.
"""

import zlib
from collections.abc import Sequence

import tensorflow as tf


def glorot(shape: Sequence[int], above: int, below: int, seed: int, name: str) -> tf.Tensor:
    """Uniform, for a sum of `above` inputs that is one of `below` outputs (Glorot and Bengio,
    2010).
    """
    limit = (6 / (above + below)) ** 0.5
    return tf.random.stateless_uniform(shape, _seed(seed, name), -limit, limit)


def normal(shape: Sequence[int], deviation: float, seed: int, name: str) -> tf.Tensor:
    """Normal around 0."""
    return tf.random.stateless_normal(shape, _seed(seed, name), stddev=deviation)


def _seed(seed: int, name: str) -> list[int]:
    return [seed, zlib.crc32(name.encode())]
