"""All ranking features of one moment: their names, values and descriptions. A new group of features is a
class in a module of groups/ and has a line in `GROUPS`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np

from twinspire_core.config.source_registry import TWO_TOWER
from twinspire_core.native_code import compiled
from twinspire_core.ranking.groups.attributes import Attributes, Item
from twinspire_core.ranking.groups.purchase_history import PersonalHistory, UserActivity
from twinspire_core.ranking.groups.source_signals import Similarity, SourcePlaces, TowerCosines
from twinspire_core.ranking.pairs import FeatureGroup, Pairs
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
    _plans: dict[object, "_Plan"] = field(default_factory=dict, repr=False, compare=False)

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
        plan = self._plan(tuple(names), tuple(pairs.lists))
        values[plan.lacking] = np.nan
        for group, rows, wanted, size in plan.of_groups:
            if rows == list(range(rows[0], rows[0] + size)):
                group.write(pairs, values[rows[0] : rows[0] + size])
            else:
                made = np.empty((size, len(pairs)), np.float32)
                group.write(pairs, made)
                values[rows] = made[wanted]
        personal = pairs.queries.personal
        if personal is not None and personal.timed is not None:
            untimed = np.flatnonzero(~personal.timed)
            _forget(untimed, pairs.begin, plan.timed, values)
        return values.T

    def _plan(self, names: tuple[str, ...], sources: tuple[str, ...]) -> "_Plan":
        """Who writes which rows; made once, as a server asks for the same features in every batch."""
        if (names, sources) not in self._plans:
            self._plans[names, sources] = _Plan.of(self.groups, names, sources)
        return self._plans[names, sources]

    def describe(self, name: str, value: float, sources: Sequence[str]) -> str:
        """A feature's value in plain words."""
        for group in self.groups:
            if name in group.names(sources):
                return group.describe(name, value)
        return f"{name} = {value:.3g}"


class _Plan(NamedTuple):
    """Where features go, as rows of the values of all.

    Attributes:
      of_groups: each group that is asked for, the rows of its features, their numbers among all of the
        group, and how many the group has.
      lacking: rows that no group makes.
      timed: rows that are missing where the times of the user's events are unknown.
    """

    of_groups: list[tuple[FeatureGroup, list[int], list[int], int]]
    lacking: list[int]
    timed: np.ndarray

    @classmethod
    def of(
        cls, groups: Sequence[FeatureGroup], names: Sequence[str], sources: Sequence[str]
    ) -> Self:
        """The plan for the features of these names."""
        row = {name: number for number, name in enumerate(names)}
        of_groups, timed = [], []
        for group in groups:
            of_group = group.names(sources)
            wanted = [number for number, name in enumerate(of_group) if name in row]
            rows = [row[of_group[number]] for number in wanted]
            if rows:
                of_groups.append((group, rows, wanted, len(of_group)))
            timed += [row[of_group[x]] for x in wanted if group.needs_times(of_group[x])]
        made = {number for _, rows, _, _ in of_groups for number in rows}
        lacking = [number for number in range(len(names)) if number not in made]
        return cls(of_groups, lacking, np.array(timed, np.int64))


@compiled
def _forget(untimed: Any, begin: Any, rows: Any, values: Any) -> None:
    """Makes some features, which are rows of values, missing for the pairs of some queries."""
    for query in untimed:
        for row in rows:
            values[row, begin[query] : begin[query + 1]] = np.nan
