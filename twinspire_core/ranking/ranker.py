"""The ranker: trees that give each candidate of a query a score.

Source of the objective: Burges, *From RankNet to LambdaRank to LambdaMART*, MSR-TR-2010-82.
"""

import os
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np

from twinspire_core.contracts.ranker_files import FORMAT, RankerFile, RankerFormat
from twinspire_core.errors import BadData
from twinspire_core.ranking.compiled_trees import CompiledTrees
from twinspire_core.ranking.pairs import Pairs, Vectors
from twinspire_core.ranking.registry import RankingFeatures
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.candidate_sources import CandidateSources, depth_of
from twinspire_core.sources.source import Queries

if TYPE_CHECKING:
    import lightgbm


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
        found = RankerFormat.parse(described).format
        if found != FORMAT:
            raise BadData(
                f"{RankerFile.FILE} is of format {FORMAT}; found {found}. It was written by"
                " another release: serve it with that one."
            )
        return cls(model.decode(), RankerFile.parse(described))

    @property
    def sources(self) -> tuple[str, ...]:
        """Whose lists the candidates are."""
        return tuple(self.described.sources)

    @property
    def names(self) -> tuple[str, ...]:
        """F features, in the model's order."""
        return tuple(self.described.features)

    def lacking(self, features: RankingFeatures, sources: CandidateSources) -> list[str]:
        """What it uses and would miss everywhere, without a word: features, and lists of sources.

        Args:
          features: that can be made.
          sources: that are there.
        """
        missing = sorted(set(self.names) - set(features.names(self.sources)))
        return [*missing, *(f"lists of {name}" for name in self.sources if name not in sources)]

    @cached_property
    def booster(self) -> "lightgbm.Booster":
        """The trees."""
        # Takes half a second to import: whoever needs no ranker does not.
        import lightgbm

        return lightgbm.Booster(model_str=self.model)

    @cached_property
    def _compiled(self) -> CompiledTrees | None:
        return CompiledTrees.of(self.model, len(self.names))

    def compile(self) -> None:
        """Makes scoring some twenty times faster from now on, with the same result. It takes a
        second or two, which pays for servers and large batches.
        """
        if self._compiled is not None:
            self._compiled.score(np.zeros((1, len(self.names)), np.float32))

    def score(self, values: np.ndarray, *, threads: int = 0) -> np.ndarray:
        """Scores of candidates, [M] float32; they compare candidates of one query.

        Args:
          values: [M, F] float32.
          threads: at most so many; 0 for all cores. What is compiled takes one.
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
        """What each feature adds to the score of a candidate, [M, F] float32: Shapley values
        (Lundberg et al., *Consistent Individualized Feature Attribution for Tree Ensembles*, 2018).
        They and one constant add up to the score.

        Args:
          values: [M, F] float32.
        """
        added = np.asarray(self.booster.predict(values, pred_contrib=True), np.float32)
        return added[:, :-1]  # behind them the constant


@dataclass(frozen=True, kw_only=True)
class RankedCandidates:
    """What a ranker made of candidates.

    Attributes:
      pairs: the candidates; M.
      values: [M, F] float32, their features, in the ranker's order.
      scores: [M] float32.
    """

    pairs: Pairs
    values: np.ndarray
    scores: np.ndarray

    def best(self, k: int, exclude: Ragged | None = None) -> np.ndarray:
        """The pairs that are listed, [U, k] int64, best first, -1 behind the end.

        Args:
          k: length of the lists.
          exclude: U lists of items that must not be listed.
        """
        scores = self.scores
        if exclude is not None:
            place = self.pairs.find(exclude.row, exclude.values)
            scores = scores.copy()
            scores[place[place >= 0]] = -np.inf
        return self.pairs.best(scores, k)

    def items(self, chosen: np.ndarray) -> np.ndarray:
        """[U, k] int64, -1 behind the end, of what `best` returned."""
        items: np.ndarray = np.append(self.pairs.item, -1)[chosen]
        return items


def _with_far_ones_last(scores: np.ndarray, pairs: Pairs) -> np.ndarray:
    """Scores, [M] float32, in which candidates that no source has among its first `Source.depth` come
    behind all others, in their own order: no ranker was fitted on such, and a longer list is to begin as a
    shorter one does.
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
    # Nothing is far where nothing is near.
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
    """What the ranker's sources list, with its scores. Nothing is excluded yet: places in lists, which
    trees use, would be others.

    Args:
      ranker: fitted on candidates of the same sources.
      features: of the sources' moment.
      sources: of the corpus.
      queries: U; lists that they are given with are at least 100 and k long.
      k: length of the lists to come.
      vectors: of the queries and of all items.
      threads: as of `Ranker.score`.
    """
    if queries.personal is not None and not ranker.described.untimed:
        queries = replace(queries, personal=replace(queries.personal, timed=None))
    lists = sources.candidates(ranker.sources, queries, k)
    pairs = Pairs.of(lists, queries, len(sources.tables.corpus), vectors)
    values = features.values(pairs, ranker.names)
    scores = _with_far_ones_last(ranker.score(values, threads=threads), pairs)
    return RankedCandidates(pairs=pairs, values=values, scores=scores)
