"""The ranker: trees that give each candidate of a query a score.

Source of the objective: Burges, *From RankNet to LambdaRank to LambdaMART*, MSR-TR-2010-82.
"""

import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np

from twinspire_core.contracts.ranker_file import FORMAT, RankerFile
from twinspire_core.errors import BadData
from twinspire_core.ranking.pairs import Pairs
from twinspire_core.ranking.registry import RankingFeatures

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
        file = RankerFile.parse(described)
        if file.format != FORMAT:
            raise BadData(
                f"{RankerFile.FILE} is of format {FORMAT}; found {file.format}. It was written by"
                " another release: serve it with that one."
            )
        return cls(model.decode(), file)

    @property
    def sources(self) -> tuple[str, ...]:
        """Whose lists the candidates are."""
        return tuple(self.described.sources)

    @property
    def names(self) -> tuple[str, ...]:
        """F features, in the model's order."""
        return tuple(self.described.features)

    @cached_property
    def booster(self) -> "lightgbm.Booster":
        """The trees."""
        # Takes half a second to import: whoever needs no ranker does not.
        import lightgbm

        return lightgbm.Booster(model_str=self.model)

    def score(self, values: np.ndarray, *, threads: int = 0) -> np.ndarray:
        """Scores of candidates, [M] float32; they compare candidates of one query.

        Args:
          values: [M, F] float32.
          threads: at most so many; 0 for all cores.
        """
        if not len(values):
            return np.zeros(0, np.float32)
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


def rank(
    ranker: Ranker, features: RankingFeatures, pairs: Pairs, *, threads: int = 0
) -> np.ndarray:
    """Scores of pairs, [M] float32.

    Args:
      ranker: the trees.
      features: of the moment.
      pairs: M; candidates from the ranker's sources.
      threads: as of `Ranker.score`.
    """
    return ranker.score(features.values(pairs, ranker.names), threads=threads)
