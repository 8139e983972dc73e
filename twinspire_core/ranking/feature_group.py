"""The interface of a group of ranking features. Groups import no TensorFlow, because serving uses them too."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from twinspire_core.compiled_loops import compiled
from twinspire_core.ranking.pairs import Pairs
from twinspire_core.sources.source import SourceTables


class FeatureGroup(ABC):
    """Features that are made from the same data, as of one moment."""

    @classmethod
    def of(cls, tables: SourceTables) -> Self | None:
        """The group, or None where its data is missing, and with it its features; by default it needs none.

        Whatever is the same for all queries is computed here, once.
        """
        return cls()

    @abstractmethod
    def names(self, sources: Sequence[str]) -> tuple[str, ...]:
        """Names of its F features for candidates of these sources: lower case, with `:` before a source or
        an attribute.
        """

    def needs_times(self, name: str) -> bool:
        """Whether a feature is missing where the times of the user's events are unknown."""
        return False

    @abstractmethod
    def write(self, pairs: Pairs, values: np.ndarray) -> None:
        """Writes the features of M pairs into values, [F, M] float32, in the order of the names. All of it
        is written, with NaN where a value is not known.
        """

    @abstractmethod
    def describe(self, name: str, value: float) -> str:
        """A value in plain words: `bought 3 times in the last weeks`."""


@compiled
def write_rows(table: Any, row_of: Any, values: Any) -> None:
    """Writes for each of M pairs a row of a table, [N, F], into values, [F, M]."""
    for pair in range(len(row_of)):
        for feature in range(len(values)):
            values[feature, pair] = table[row_of[pair], feature]
