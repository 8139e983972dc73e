"""The fixed order: one list out of the lists of several sources, by fixed weights. Imports no
TensorFlow: serving uses it too. It serves until a version has trees that may serve.

    score(item) = sum over the sources that list it of  weight * 60 / (60 + place),  places from 0

Places, because the sources' own scores have no common scale. Weights add up to 1, so that no score
is above 1. Source: Cormack, Clarke and Büttcher, *Reciprocal Rank Fusion outperforms Condorcet and
individual Rank Learning Methods*, SIGIR 2009, here with a weight for each source.

U queries, S sources.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import numpy as np

from twinspire_core.config import source_names as names
from twinspire_core.contracts.json_files import JsonFile
from twinspire_core.fusion.candidate_pool import DEPTH, OrderedLists, pool_candidates
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.source import POPULAR_HALF_LIFE, Queries, ScoredLists

REPEATS = "repeats"
"""Kind of a log whose users take again what they had before, such as groceries."""
STEADY = "steady"
"""Kind of another log, whose users take what is popular all the time, such as films."""
NEITHER = "neither"
"""Kind of any other log, such as news, and of one of which nothing is known."""

_COLUMNS = (
    names.HISTORY,
    names.POPULAR,
    names.TWO_TOWER,
    names.CO_OCCURRENCE,
)
WEIGHTS: Mapping[str, Sequence[float]] = {
    REPEATS: (1.0, 0.05, 0.05, 0.06),
    STEADY: (0.01, 0.1, 1.0, 1.0),
    NEITHER: (0.01, 1.0, 0.7, 0.1),
}
"""By kind of log, the weight of each of `_COLUMNS`. Any other source fills up what these leave."""
_LIKE = dict.fromkeys((names.NEIGHBOURS, names.FACTORS), names.CO_OCCURRENCE)
"""Sources that share the weight of another one."""
_FILLS_UP = 1e-5


class FixedOrder(JsonFile):
    """`fixed_order.json` of a version.

    Attributes:
      weights: by source.
      kind: of log that they are for.
      half_life: of the source `popular`.
    """

    FILE: ClassVar[str] = "fixed_order.json"

    weights: Mapping[str, float]
    kind: str = NEITHER
    half_life: str = POPULAR_HALF_LIFE

    @classmethod
    def of(
        cls, sources: Sequence[str], kind: str = NEITHER, half_life: str = POPULAR_HALF_LIFE
    ) -> Self:
        """The order of some sources for a kind of log."""
        known = dict(zip(_COLUMNS, WEIGHTS[kind], strict=True))
        like = [_LIKE.get(name, name) for name in sources]
        row = np.array([known.get(name, _FILLS_UP) / like.count(name) for name in like])
        shares = (row / row.sum()).round(6).tolist()
        weights = dict(zip(sources, shares, strict=True))
        return cls(weights=weights, kind=kind, half_life=half_life)

    @property
    def sources(self) -> tuple[str, ...]:
        """Their names, in the order of the file."""
        return tuple(self.weights)

    def leaning_on(self, source: str, share: float, *, adding: bool = False) -> Self:
        """The same order, in which a source has at least this share of the weights, below 1. One that
        has no weight yet gets it only with `adding`.
        """
        weights = dict(self.weights)
        own = weights.get(source, 0.0)
        others = sum(weights.values()) - own
        if (own > 0 or adding) and own < share * (own + others):
            weights[source] = others * share / (1 - share)
        whole = sum(weights.values())
        shares = {name: one / whole for name, one in weights.items()}
        return self.model_copy(update={"weights": shares})

    def rank(self, lists: Mapping[str, ScoredLists], k: int) -> OrderedLists:
        """The best k items of each query; of equal scores the smaller item comes first."""
        pooled = pool_candidates([lists[name].items for name in self.sources])
        return pooled.ordered(np.array(list(self.weights.values())), k)

    def answer(
        self,
        sources: CandidateSources,
        queries: Queries,
        k: int,
        *,
        exclude: Ragged | None = None,
        length: int | None = None,
    ) -> tuple[np.ndarray, OrderedLists]:
        """The lists that are recommended, filled up with popular items: [U, length] int64, -1 where the
        corpus is used up; and the lists without these.

        Args:
          sources: of the corpus.
          queries: U; lists that they are given with are at least `DEPTH` and k long.
          k: how many items are wanted, which says how deep the sources' lists are.
          exclude: U lists of items that must not be listed.
          length: of the lists, where that is beyond k: their first k items are the same.
        """
        lists = sources.retrieve(self.sources, queries, max(k, DEPTH), exclude=exclude)
        ordered = self.rank(lists, length or k)
        return sources.filled(ordered.items, length or k, exclude=exclude), ordered
