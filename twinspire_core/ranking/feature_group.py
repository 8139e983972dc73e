"""What a group of ranking features is. Groups import no TensorFlow: serving asks them too."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from twinspire_core.compiled_loops import compiled
from twinspire_core.ranking.pairs import Pairs
from twinspire_core.sources.source import SourceTables


class FeatureGroup(ABC):
    """Features that are made of the same things, as of one moment."""

    @classmethod
    @abstractmethod
    def of(cls, tables: SourceTables) -> Self | None:
        """The group, or None where what it is made of is not there: its features are then missing.

        What is the same for all queries is made here, once.
        """

    @abstractmethod
    def names(self, sources: Sequence[str]) -> tuple[str, ...]:
        """Names of its F features, lower case with `:` before a source or an attribute.

        Args:
          sources: that candidates come from.
        """

    def needs_times(self, name: str) -> bool:
        """Whether a feature is missing where it is not known when the user's events were."""
        return False

    @abstractmethod
    def write(self, pairs: Pairs, values: np.ndarray) -> None:
        """Writes the features of M pairs.

        Args:
          pairs: the pairs.
          values: [F, M] float32, in the order of the names; all of it is written, NaN where a value is
            not known.
        """

    @abstractmethod
    def describe(self, name: str, value: float) -> str:
        """What a value says, in plain words for people: `bought 3 times in the last weeks`."""


@compiled
def write_rows(table: Any, row_of: Any, values: Any) -> None:
    """Writes for each of M pairs a row of a table, [N, F], into values, [F, M]."""
    for pair in range(len(row_of)):
        for feature in range(len(values)):
            values[feature, pair] = table[row_of[pair], feature]
