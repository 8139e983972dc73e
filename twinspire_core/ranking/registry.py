"""All ranking features: a new group has a module of its own and a line here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from twinspire_core.compiled_loops import compiled
from twinspire_core.config.source_names import TWO_TOWER
from twinspire_core.ranking.feature_group import FeatureGroup
from twinspire_core.ranking.groups.attributes import Attributes
from twinspire_core.ranking.groups.item import Item
from twinspire_core.ranking.groups.personal import PersonalHistory
from twinspire_core.ranking.groups.similarity import Similarity
from twinspire_core.ranking.groups.source_places import SourcePlaces
from twinspire_core.ranking.groups.towers import TowerCosines
from twinspire_core.ranking.groups.user import UserActivity
from twinspire_core.ranking.pairs import Pairs
from twinspire_core.sources.source import SourceTables

GROUPS: tuple[type[FeatureGroup], ...] = (
    SourcePlaces,
    PersonalHistory,
    Item,
    Similarity,
    TowerCosines,
    Attributes,
    UserActivity,
)
_BLOCK = 64
"""Queries that are worked on together: what groups make in between stays in the cache."""


@dataclass(frozen=True)
class RankingFeatures:
    """The features of one moment.

    Attributes:
      groups: those that can be made.
    """

    groups: tuple[FeatureGroup, ...]

    @classmethod
    def of(cls, tables: SourceTables) -> Self:
        """All that can be made of some tables."""
        made = [group.of(tables) for group in GROUPS]
        return cls(tuple(group for group in made if group is not None))

    def among(self, sources: Sequence[str]) -> Self:
        """Those that can be made where candidates come from some sources: without the two-tower, no towers
        are asked.
        """
        if TWO_TOWER in sources:
            return self
        others = (group for group in self.groups if not isinstance(group, TowerCosines))
        return type(self)(tuple(others))

    def names(self, sources: Sequence[str]) -> tuple[str, ...]:
        """Names of all features of candidates that come from some sources, each once."""
        return tuple(name for group in self.groups for name in group.names(sources))

    def values(self, pairs: Pairs, names: Sequence[str]) -> np.ndarray:
        """Some of the features.

        Args:
          pairs: M.
          names: F of them; one that cannot be made is missing.

        Returns: [M, F] float32, NaN where a value is missing.
        """
        if len(pairs.queries) > _BLOCK:
            starts = range(0, len(pairs.queries), _BLOCK)
            stops = [min(start + _BLOCK, len(pairs.queries)) for start in starts]
            parts = map(pairs.part, starts, stops)
            return np.concatenate([self.values(part, names).T for part in parts], axis=1).T
        # Feature by feature in memory, as groups write them and trees read them.
        values = np.empty((len(names), len(pairs)), np.float32)
        can_be_made = set(self.names(tuple(pairs.lists)))
        values[[name not in can_be_made for name in names]] = np.nan
        row = {name: number for number, name in enumerate(names)}
        timed = []
        for group in self.groups:
            own = group.names(tuple(pairs.lists))
            # A group of which nothing is asked is not made.
            wanted = [place for place, name in enumerate(own) if name in row]
            if not wanted:
                continue
            rows = [row[own[place]] for place in wanted]
            if rows == list(range(rows[0], rows[0] + len(own))):
                group.write(pairs, values[rows[0] : rows[0] + len(own)])
            else:
                made = np.empty((len(own), len(pairs)), np.float32)
                group.write(pairs, made)
                values[rows] = made[wanted]
            timed += [row[own[place]] for place in wanted if group.needs_times(own[place])]
        personal = pairs.queries.personal
        if personal is not None and personal.timed is not None:
            untimed = np.flatnonzero(~personal.timed)
            _forget(untimed, pairs.begin, np.array(timed, np.int64), values)
        return values.T

    def describe(self, name: str, value: float, sources: Sequence[str]) -> str:
        """What a value of a feature says, in plain words."""
        for group in self.groups:
            if name in group.names(sources):
                return group.describe(name, value)
        return f"{name} = {value:.3g}"


@compiled
def _forget(untimed: Any, begin: Any, rows: Any, values: Any) -> None:
    """Makes some features, rows of values, missing for the pairs of some queries."""
    for query in untimed:
        for row in rows:
            values[row, begin[query] : begin[query + 1]] = np.nan
