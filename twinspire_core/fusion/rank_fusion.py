"""Rank fusion: the candidates of several sources pooled, and the fixed order, which makes one list of them by
fixed weights. Imports no TensorFlow, because serving uses it too.

    score(item) = sum over the sources that list it of  weight * 60 / (60 + place),  places from 0

It uses places because the sources' own scores have no common scale. Weights add up to 1. The fixed order
serves until a version has a ranker that may serve; rankers order the same pool
(twinspire_core/ranking/pairs.py). Source: Cormack, Clarke and Büttcher, *Reciprocal Rank Fusion
outperforms Condorcet and individual Rank Learning Methods*, SIGIR 2009, here with a weight for each
source.

U queries, S sources, L the length of their lists, M the candidates of all queries.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple, Self

import numpy as np

from twinspire_core.config import source_registry
from twinspire_core.contracts.json_files import JsonFile
from twinspire_core.search.ragged import Ragged, list_places, list_rows
from twinspire_core.search.top_k import best_entries
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.source import POPULAR_HALF_LIFE, Queries, ScoredLists

CONSTANT = 60.0
"""The place, from 0, whose item counts half as much as the first item."""
DEPTH = 100
"""This many items of each source are looked at, or as many as are asked for if that is more."""


class Pooled(NamedTuple):
    """The M candidates of all queries, query by query.

    Attributes:
      query: [M] int64, ascending.
      item: [M] int64, ascending within a query, each once.
      gains: [M, S] float32, 1 / (1 + place / CONSTANT) where the source lists the item, else 0.
    """

    query: np.ndarray
    item: np.ndarray
    gains: np.ndarray


@dataclass(frozen=True, kw_only=True)
class OrderedLists:
    """Lists made from the lists of several sources. Scores and shares are computed when they are used.

    Attributes:
      pooled: the candidates.
      weights: [S] float32, of the sources.
      pool_scores: [M] float32, the score of each candidate.
      chosen: [U, k] int64, the candidates that are listed, best first, then -1. As an index, -1 reads
        the last row: tables of candidates get one more row for it.
    """

    pooled: Pooled
    weights: np.ndarray
    pool_scores: np.ndarray
    chosen: np.ndarray

    @classmethod
    def of(cls, lists: Sequence[np.ndarray], weights: np.ndarray, k: int) -> Self:
        """The best k items of each query by the weighted sum of gains; arguments as those of `pool_pairs`,
        and a weight for each source.
        """
        pooled = pool_pairs(lists)
        weights = np.asarray(weights, np.float32)
        # An item whose sources have weight 0 is a candidate with score 0.
        scores = np.einsum("ms,s->m", pooled.gains, weights)
        begin = np.searchsorted(pooled.query, np.arange(len(lists[0]) + 1))
        chosen = best_entries(begin, scores, k)
        return cls(pooled=pooled, weights=weights, pool_scores=scores, chosen=chosen)

    @cached_property
    def items(self) -> np.ndarray:
        """[U, k] int64, best first, -1 after the end."""
        return np.asarray(np.append(self.pooled.item, -1)[self.chosen])

    @cached_property
    def scores(self) -> np.ndarray:
        """[U, k] float32, -infinity after the end."""
        return np.asarray(np.append(self.pool_scores, np.float32(-np.inf))[self.chosen])

    @cached_property
    def shares(self) -> np.ndarray:
        """[U, k, S] float32, the part of each source in the score, 0 after the end."""
        nothing = np.zeros((1, len(self.weights)), np.float32)
        return np.asarray(np.append(self.pooled.gains * self.weights, nothing, axis=0)[self.chosen])


def pool_pairs(lists: Sequence[np.ndarray]) -> Pooled:
    """Pools the lists of S sources, [U, L] int64 each: best first, each item once, -1 after the end."""
    lengths = np.array([ranked.shape[1] for ranked in lists])
    gain = (1 / (1 + list_places(lengths) / CONSTANT)).astype(np.float32)
    items = np.concatenate(lists, axis=1, dtype=np.int64)
    query, column = np.nonzero(items >= 0)
    # A pair as one integer, so that sorting brings its places in all lists together.
    width = int(items.max(initial=0)) + 1
    pairs, pair = np.unique(query * width + items[query, column], return_inverse=True)
    gains = np.zeros((len(pairs), len(lists)), np.float32)
    gains[pair, list_rows(lengths)[column]] = gain[column]
    return Pooled(*np.divmod(pairs, width), gains)


REPEATS = "repeats"
"""Kind of log whose users take again what they took before, such as groceries."""
STEADY = "steady"
"""Kind of log whose users take items that are popular for a long time, such as films."""
NEITHER = "neither"
"""Kind of any other log, such as news, and of a log of which nothing is known."""

_COLUMNS = (
    source_registry.HISTORY,
    source_registry.POPULAR,
    source_registry.TWO_TOWER,
    source_registry.CO_OCCURRENCE,
)
WEIGHTS: Mapping[str, Sequence[float]] = {
    REPEATS: (1.0, 0.05, 0.05, 0.06),
    STEADY: (0.01, 0.1, 1.0, 1.0),
    NEITHER: (0.01, 1.0, 0.7, 0.1),
}
"""By kind of log, the weights of `_COLUMNS`. Items of any other source come after those of these."""
# A source that shares the weight of another one.
_LIKE = {source_registry.NEIGHBOURS: source_registry.CO_OCCURRENCE}
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
        by_source = dict(zip(_COLUMNS, WEIGHTS[kind], strict=True))
        like = [_LIKE.get(name, name) for name in sources]
        row = np.array([by_source.get(name, _FILLS_UP) / like.count(name) for name in like])
        shares = (row / row.sum()).round(6).tolist()
        weights = dict(zip(sources, shares, strict=True))
        return cls(weights=weights, kind=kind, half_life=half_life)

    @property
    def sources(self) -> tuple[str, ...]:
        """Their names, in the order of the file."""
        return tuple(self.weights)

    def leaning_on(self, source: str, share: float, *, adding: bool = False) -> Self:
        """The same order, in which a source has at least this share, below 1, of the weights. A source that
        has no weight yet gets one only with `adding`.
        """
        weights = dict(self.weights)
        own = weights.get(source, 0.0)
        others = sum(weights.values()) - own
        if (own > 0 or adding) and own < share * (own + others):
            # Solves w / (w + others) = share for the source's weight w.
            weights[source] = others * share / (1 - share)
        whole = sum(weights.values())
        shares = {name: weight / whole for name, weight in weights.items()}
        return self.model_copy(update={"weights": shares})

    def rank(self, lists: Mapping[str, ScoredLists], k: int) -> OrderedLists:
        """The best k items of each query; of equal scores the lower position comes first."""
        of_sources = [lists[name].items for name in self.sources]
        return OrderedLists.of(of_sources, np.array(list(self.weights.values())), k)

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
          sources: of the corpus, as of the moment to answer for.
          queries: U of them; lists that they are given with are at least `DEPTH` and k long.
          k: number of items that are wanted, which decides how deep the sources' lists are.
          exclude: U lists of items that must not be listed.
          length: of the lists, where that is more than k: their first k items are the same.
        """
        lists = sources.retrieve(self.sources, queries, max(k, DEPTH), exclude=exclude)
        ordered = self.rank(lists, length or k)
        return sources.filled(ordered.items, length or k, exclude=exclude), ordered
