"""The ranker: trees that give each candidate of a query a score.

Source of the objective: Burges, *From RankNet to LambdaRank to LambdaMART*, MSR-TR-2010-82.

`RankingFeatures` has all features of one moment: their names, values and descriptions. A new group of
features is a class in a module of groups/ and has a line in `GROUPS`.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np

from twinspire_core.contracts.ranker_files import FORMAT, RankerFile, RankerFormat
from twinspire_core.errors import BadData
from twinspire_core.ranking.compiled_trees import CompiledTrees
from twinspire_core.ranking.groups import purchase_history
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

    @classmethod
    def of(cls, tables: SourceTables) -> Self:
        """All groups that can be made of some tables."""
        made = [group.of(tables) for group in GROUPS]
        return cls(tuple(group for group in made if group is not None))

    def names(self, sources: Sequence[str]) -> tuple[str, ...]:
        """Names of all features of candidates that come from some sources, each once."""
        return tuple(name for group in self.groups for name in group.features(sources))

    def values(self, pairs: Pairs, names: Sequence[str]) -> np.ndarray:
        """The features of these names, [M, F] float32, NaN where a value is missing, and throughout for a
        name that no group makes.
        """
        if len(pairs.queries) > _BLOCK:
            starts = range(0, len(pairs.queries), _BLOCK)
            stops = [min(start + _BLOCK, len(pairs.queries)) for start in starts]
            parts = map(pairs.part, starts, stops)
            return np.concatenate([self.values(part, names).T for part in parts], axis=1).T
        sources = tuple(pairs.lists)
        row_of = {name: row for row, name in enumerate(self.names(sources))}
        # Each feature is contiguous in memory, as groups write and trees read feature by feature. The last
        # row is for names that no group makes.
        values = np.empty((len(row_of) + 1, len(pairs)), np.float32)
        values[-1] = np.nan
        untimed = ~pairs.personal.timed[pairs.query]
        begin = 0
        for group in self.groups:
            of_group = group.features(sources)
            if not of_group.keys().isdisjoint(names):
                group.write(pairs, values[begin : begin + len(of_group)])
                if untimed.any():
                    rows = [row_of[name] for name, x in of_group.items() if x.needs_times]
                    values[np.ix_(np.array(rows, np.int64), untimed)] = np.nan
            begin += len(of_group)
        rows = [row_of.get(name, -1) for name in names]
        # The usual case, all features in their order, needs no copy.
        return values[:-1].T if rows == list(range(len(row_of))) else values[rows].T

    def describe(self, name: str, values: Mapping[str, float], sources: Sequence[str]) -> str:
        """A feature in plain words.

        Args:
          values: of all features of the item, by name.
        """
        if purchases := purchase_history.purchases_text(name, values):
            return purchases
        for group in self.groups:
            if name in (features := group.features(sources)):
                return features[name].describe(values[name])
        return f"{name} = {values[name]:.3g}"


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
        timed = np.ones(len(queries), bool)
        queries = replace(queries, personal=replace(queries.personal, timed=timed))
    lists = sources.candidates(ranker.sources, queries, k)
    pairs = Pairs.of(lists, queries, len(sources.tables.corpus), vectors)
    values = features.values(pairs, ranker.names)
    scores = _with_far_ones_last(ranker.score(values, threads=threads), pairs)
    return RankedCandidates(pairs=pairs, values=values, scores=scores)
