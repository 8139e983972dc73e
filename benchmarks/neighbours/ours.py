"""This project's exact search, and its tuned index."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from index_builder.index_stage import Wanted, build
from twinspire_core.search.index import ExactIndex, Index, Settings, load_index


class Ours:
    """An index behind the `Index` protocol, stored and opened as in a version."""

    made: Index

    def __init__(self, dimension: int) -> None:
        pass

    def ladders(self) -> Sequence[Sequence[dict[str, Any]]]:
        """None, because it is tuned while it is built."""
        return []

    def settings(self) -> dict[str, Any]:
        return asdict(self.made.settings)

    def use(self, settings: dict[str, Any]) -> None:
        pass

    def search(self, queries: np.ndarray, k: int) -> np.ndarray:
        return self.made.search(queries, k)[0]

    def save(self, file: Path) -> None:
        self.made.save(file)

    def load_index(self, file: Path) -> None:
        self.made = load_index(file)


class Exact(Ours):
    def build(self, vectors: np.ndarray) -> None:
        self.made = ExactIndex(vectors, Settings(kind="exact", k=1))


class Tuned(Ours):
    def tune(self, vectors: np.ndarray, queries: np.ndarray, k: int, target: float) -> None:
        self.made = build(vectors, queries, Wanted(k=k, recall_target=target)).index


CONTENDERS = {"twinspire/exact": Exact, "twinspire/index": Tuned}
