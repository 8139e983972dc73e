"""Vectors that are made up."""

import numpy as np


def clustered(rows: int, dimension: int = 32, seed: int = 0, noise: float = 0.7) -> np.ndarray:
    """Unit vectors around 100 centres, as trained towers give them; the farther the more noise."""
    centres = np.random.default_rng(99).normal(size=(100, dimension))
    rng = np.random.default_rng(seed)
    vectors = centres[rng.integers(0, 100, rows)] + noise * rng.normal(size=(rows, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
