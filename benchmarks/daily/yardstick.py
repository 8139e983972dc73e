"""A fixed piece of work. Other processes' CPU seconds, divided by its own, hardly depend on the
machine's speed.

It is made of what the daily run is made of: imports, Python bytecode, sorting and matrix products.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

SIZE = 1_000
PRODUCTS = 40
SORTED = 4_000_000
COUNTED = 10_000_000


def main() -> None:
    rng = np.random.default_rng(0)
    matrix = tf.constant(rng.standard_normal((SIZE, SIZE), np.float32))
    for _ in range(PRODUCTS):
        matrix = tf.linalg.l2_normalize(matrix @ matrix, axis=1)
    np.unique(rng.integers(0, SORTED, SORTED), return_inverse=True)
    sum(number & 7 for number in range(COUNTED))


if __name__ == "__main__":
    main()
