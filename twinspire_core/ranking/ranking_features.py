"""All ranking features of one moment: their names, values and descriptions. A new group of features is a
class in a module of groups/ and has a line in `GROUPS`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from twinspire_core.compiled_loops import compiled
from twinspire_core.config.source_names import TWO_TOWER
from twinspire_core.ranking.feature_group import FeatureGroup
from twinspire_core.ranking.groups.attributes import Attributes
from twinspire_core.ranking.groups.item import Item
from twinspire_core.ranking.groups.purchase_history import PersonalHistory, UserActivity
from twinspire_core.ranking.groups.source_signals import Similarity, SourcePlaces, TowerCosines
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
# Queries that are worked on together, so that intermediate tables stay in the processor's cache.
_BLOCK = 64


@dataclass(frozen=True)
class RankingFeatures:
    """The groups of features that can be made as of one moment."""

    groups: tuple[FeatureGroup, ...]

    @classmethod
    def of(cls, tables: SourceTables) -> Self:
        """All groups that can be made of some tables."""
        made = [group.of(tables) for group in GROUPS]
        return cls(tuple(group for group in made if group is not None))

    def among(self, sources: Sequence[str]) -> Self:
        """The groups that can be made for candidates of some sources: without the two-tower, no tower is
        used.
        """
        if TWO_TOWER in sources:
            return self
        return type(self)(tuple(x for x in self.groups if not isinstance(x, TowerCosines)))

    def names(self, sources: Sequence[str]) -> tuple[str, ...]:
        """Names of all features of candidates that come from some sources, each once."""
        return tuple(name for group in self.groups for name in group.names(sources))

    def values(self, pairs: Pairs, names: Sequence[str]) -> np.ndarray:
        """The features of these names, [M, F] float32, NaN where a value is missing, and throughout for a
        name that no group makes.
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
            of_group = group.names(tuple(pairs.lists))
            wanted = [number for number, name in enumerate(of_group) if name in row]
            if not wanted:
                continue  # nothing of the group is asked for
            rows = [row[of_group[number]] for number in wanted]
            if rows == list(range(rows[0], rows[0] + len(of_group))):
                group.write(pairs, values[rows[0] : rows[0] + len(of_group)])
            else:
                made = np.empty((len(of_group), len(pairs)), np.float32)
                group.write(pairs, made)
                values[rows] = made[wanted]
            timed += [row[of_group[x]] for x in wanted if group.needs_times(of_group[x])]
        personal = pairs.queries.personal
        if personal is not None and personal.timed is not None:
            untimed = np.flatnonzero(~personal.timed)
            _forget(untimed, pairs.begin, np.array(timed, np.int64), values)
        return values.T

    def describe(self, name: str, value: float, sources: Sequence[str]) -> str:
        """A feature's value in plain words."""
        for group in self.groups:
            if name in group.names(sources):
                return group.describe(name, value)
        return f"{name} = {value:.3g}"


@compiled
def _forget(untimed: Any, begin: Any, rows: Any, values: Any) -> None:
    """Makes some features, which are rows of values, missing for the pairs of some queries."""
    for query in untimed:
        for row in rows:
            values[row, begin[query] : begin[query + 1]] = np.nan
