"""How new a candidate is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from twinspire_core.contracts.feature_schema import FIRST_SEEN
from twinspire_core.display.figures import ago
from twinspire_core.ranking.feature_group import FeatureGroup
from twinspire_core.ranking.pairs import Pairs
from twinspire_core.sources.source import SourceTables

_AGE = "first_seen"


@dataclass(frozen=True)
class ItemAge(FeatureGroup):
    """Days since its first event in the window that is looked at.

    Attributes:
      days: [C] float32, NaN where there was none.
    """

    days: np.ndarray

    @classmethod
    def of(cls, tables: SourceTables) -> Self | None:
        """None where the corpus does not say it."""
        if FIRST_SEEN not in tables.corpus.column_names:
            return None
        days = tables.corpus.column(FIRST_SEEN).to_numpy()
        return cls(days.astype(np.float32, copy=False))

    def names(self, sources: Sequence[str]) -> tuple[str, ...]:
        """One."""
        return (_AGE,)

    def values(self, pairs: Pairs) -> np.ndarray:
        """Of the candidates."""
        values: np.ndarray = self.days[pairs.item, np.newaxis]
        return values

    def describe(self, name: str, value: float) -> str:
        """Days as days."""
        if np.isnan(value):
            return "not taken by anybody yet"
        if value < 2:
            return f"new: first taken {ago(24 * value, 'hour')}"
        return f"first taken {ago(value)} or earlier"
