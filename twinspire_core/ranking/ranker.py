"""The ranker: trees that give each candidate of a query a score.

Source of the objective: Burges, *From RankNet to LambdaRank to LambdaMART*, MSR-TR-2010-82.

`RankingFeatures` has all features of one moment: their names, values and descriptions. A new group of
features is a class in a module of groups/ and has a line in `GROUPS`.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from twinspire_core.config.source_registry import TWO_TOWER
from twinspire_core.contracts.ranker_files import FORMAT, RankerFile, RankerFormat
from twinspire_core.errors import BadData
from twinspire_core.native_code import compiled
from twinspire_core.ranking.compiled_trees import CompiledTrees
from twinspire_core.ranking.groups.attributes import Attributes, Item
from twinspire_core.ranking.groups.purchase_history import PersonalHistory, UserActivity
from twinspire_core.ranking.groups.source_signals import Similarity, SourcePlaces, TowerCosines
from twinspire_core.ranking.pairs import FeatureGroup, Pairs, Vectors
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.candidate_sources import CandidateSources, depth_of
from twinspire_core.sources.source import Queries, SourceTables

if TYPE_CHECKING:
    import lightgbm

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
        # Each feature is contiguous in memory, as groups write and trees read feature by feature.
        values = np.empty((len(names), len(pairs)), np.float32)
        plan = self._plan(tuple(names), tuple(pairs.lists))
        values[plan.lacking] = np.nan
        for group, rows, wanted, size in plan.of_groups:
            if rows == list(range(rows[0], rows[0] + size)):
                # The usual case: all features of a group, in its order, are written in place.
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


@dataclass(frozen=True)
class Ranker:
    """A fitted ranker.

    Attributes:
      model: LightGBM's text format.
      described: sources, features, and what it was fitted on.
    """

    model: str
    described: RankerFile

    @classmethod
    def parse(cls, model: bytes, described: bytes) -> Self:
        """Reads the two files.

        Raises:
          BadData: they are of another format, or damaged.
        """
        form = RankerFormat.parse(described).format
        if form != FORMAT:
            raise BadData(
                f"{RankerFile.FILE} must have format {FORMAT}; found {form}. Another release wrote"
                " it. Serve the version with that release."
            )
        return cls(model.decode(), RankerFile.parse(described))

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources whose lists the candidates come from."""
        return tuple(self.described.sources)

    @property
    def names(self) -> tuple[str, ...]:
        """F features, in the model's order."""
        return tuple(self.described.features)

    def lacking(self, features: RankingFeatures, sources: CandidateSources) -> list[str]:
        """Features and lists of sources that the ranker uses and that cannot be made: without this check they
        would silently be missing everywhere.
        """
        missing = sorted(set(self.names) - set(features.names(self.sources)))
        return [*missing, *(f"lists of {name}" for name in self.sources if name not in sources)]

    @cached_property
    def booster(self) -> "lightgbm.Booster":
        """The trees."""
        # Here, as it takes half a second to import.
        import lightgbm

        return lightgbm.Booster(model_str=self.model)

    @cached_property
    def _compiled(self) -> CompiledTrees | None:
        return CompiledTrees.of(self.model, len(self.names))

    def compile(self) -> None:
        """Makes scoring some twenty times faster from now on, with the same result. It takes a second or
        two, so it pays for servers and large batches.
        """
        if self._compiled is not None:
            self._compiled.score(np.zeros((1, len(self.names)), np.float32))

    def score(self, values: np.ndarray, *, threads: int = 0) -> np.ndarray:
        """Scores of candidates, [M] float32; they compare candidates of one query.

        Args:
          values: [M, F] float32, features in the model's order.
          threads: the most threads, 0 for all cores; compiled trees use one.
        """
        if not len(values):
            return np.zeros(0, np.float32)
        if "_compiled" in self.__dict__ and self._compiled is not None:
            return self._compiled.score(values).astype(np.float32)
        scores = self.booster.predict(
            values, raw_score=True, num_threads=threads or os.cpu_count() or 1
        )
        return np.asarray(scores, np.float32)

    def contributions(self, values: np.ndarray) -> np.ndarray:
        """What each feature of candidates, [M, F] float32, adds to their scores: Shapley values (Lundberg et
        al., *Consistent Individualized Feature Attribution for Tree Ensembles*, 2018), [M, F] float32.
        They and one constant add up to the score.
        """
        added = np.asarray(self.booster.predict(values, pred_contrib=True), np.float32)
        return added[:, :-1]  # without the constant


@dataclass(frozen=True, kw_only=True)
class RankedCandidates:
    """M candidates with a ranker's scores.

    Attributes:
      values: [M, F] float32, their features, in the ranker's order.
      scores: [M] float32.
    """

    pairs: Pairs
    values: np.ndarray
    scores: np.ndarray

    def best(self, k: int, exclude: Ragged | None = None) -> np.ndarray:
        """The pairs that are listed, [U, k] int64, best first, -1 after the end; without the items excluded
        from each of the U lists.
        """
        scores = self.scores
        if exclude is not None:
            place = self.pairs.find(exclude.row, exclude.values)
            scores = scores.copy()
            scores[place[place >= 0]] = -np.inf
        return self.pairs.best(scores, k)

    def items(self, chosen: np.ndarray) -> np.ndarray:
        """The items of pairs that `best` returned, [U, k] int64, -1 after the end."""
        return np.asarray(np.append(self.pairs.item, -1)[chosen])


def _with_far_ones_last(scores: np.ndarray, pairs: Pairs) -> np.ndarray:
    """Scores, [M] float32, in which candidates that no source has among its first `Source.depth` come after
    all others, in their own order: rankers are not fitted on such candidates, and a longer list must begin
    as a shorter one does.
    """
    if all(lists.items.shape[1] <= depth_of(name) for name, lists in pairs.lists.items()):
        return scores
    is_far = ~(pairs.gains > pairs.least_gains).any(axis=1)
    if not is_far.any():
        return scores
    lowest = np.full(len(pairs.queries), np.inf, np.float32)
    np.minimum.at(lowest, pairs.query[~is_far], scores[~is_far])
    highest = np.full(len(pairs.queries), -np.inf, np.float32)
    np.maximum.at(highest, pairs.query[is_far], scores[is_far])
    # `lowest` is finite wherever it is used: queries with far candidates have near ones, too.
    below = np.nextafter(lowest, np.float32(-np.inf))[pairs.query]
    lowered = scores - highest[pairs.query] + below
    return np.where(is_far, lowered, scores)


def rank_candidates(
    ranker: Ranker,
    features: RankingFeatures,
    sources: CandidateSources,
    queries: Queries,
    k: int,
    *,
    vectors: Vectors | None = None,
    threads: int = 0,
) -> RankedCandidates:
    """The items that the ranker's sources list, with its scores. Nothing is excluded yet, as that would
    change the places in lists, which the ranker uses.

    Args:
      ranker: fitted on candidates of the same sources.
      features: as of the sources' moment.
      sources: of the corpus, as of the moment to answer for.
      queries: U of them; lists that they are given with are at least 100 and k long.
      k: length of the lists that `RankedCandidates.best` will make.
      vectors: of the queries and of all items.
    """
    if queries.personal is not None and not ranker.described.untimed:
        queries = replace(queries, personal=replace(queries.personal, timed=None))
    lists = sources.candidates(ranker.sources, queries, k)
    pairs = Pairs.of(lists, queries, len(sources.tables.corpus), vectors)
    values = features.values(pairs, ranker.names)
    scores = _with_far_ones_last(ranker.score(values, threads=threads), pairs)
    return RankedCandidates(pairs=pairs, values=values, scores=scores)
