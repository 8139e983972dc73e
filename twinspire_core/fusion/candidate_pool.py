"""The candidates of several sources, put together. Imports no TensorFlow: serving uses it too.

U queries, S sources, L the length of their lists, P the candidates of a query, from all its
sources.

The values of a corpus's items that lists have caps for, as numbers.

C items, M pairs of an item and one of its values. The values of all capped attributes are numbered
together: those of the second one go on where those of the first one end.

The fixed order: one list out of the lists of several sources, by fixed weights. Imports no
TensorFlow: serving uses it too. It serves until a version has trees that may serve.

    score(item) = sum over the sources that list it of  weight * 60 / (60 + place),  places from 0

Places, because the sources' own scores have no common scale. Weights add up to 1, so that no score
is above 1. Source: Cormack, Clarke and Büttcher, *Reciprocal Rank Fusion outperforms Condorcet and
individual Rank Learning Methods*, SIGIR 2009, here with a weight for each source.

U queries, S sources.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple, Self

import numpy as np

from twinspire_core.config import source_names as names
from twinspire_core.contracts.json_files import JsonFile
from twinspire_core.search.ragged import Ragged, list_offsets, list_places, list_ranges, list_rows
from twinspire_core.search.top_k import best_of
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.source import HALF_LIFE, Queries, ScoredLists

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


class CandidatePool(NamedTuple):
    """The candidates of each query, from all sources.

    Attributes:
      items: [U, P] int64, each once, ascending, -1 behind the end.
      gains: [U, P, S] float32, 1 / (1 + place / CONSTANT) where the source lists the item, else 0.
    """

    items: np.ndarray
    gains: np.ndarray

    def ordered(self, weights: np.ndarray, k: int) -> "OrderedLists":
        """The best k candidates of each query.

        Args:
          weights: [S].
          k: length of the lists.
        """
        weights = np.asarray(weights, np.float32)
        # An item of weight 0 is still a candidate, with the score 0; padding is none.
        scores = np.where(self.items >= 0, np.matmul(self.gains, weights), -np.inf)
        best = best_of(scores, min(k, scores.shape[1]))
        columns = _widened(best, k - best.shape[1], -1)
        return OrderedLists(pooled=self, pool_scores=scores, weights=weights, columns=columns)


@dataclass(frozen=True, kw_only=True)
class OrderedLists:
    """Lists made out of several. Scores and shares are computed when they are asked for.

    Attributes:
      pooled: the candidates.
      pool_scores: [U, P] float32, the score of each candidate.
      weights: [S].
      columns: [U, k] int64, the candidates that are listed, best first. Behind the end -1, which as
        an index is the last column: values of candidates get one more column there, for none.
    """

    pooled: CandidatePool
    pool_scores: np.ndarray
    weights: np.ndarray
    columns: np.ndarray

    @cached_property
    def items(self) -> np.ndarray:
        """[U, k] int64, best first, -1 behind the end."""
        return np.take_along_axis(_widened(self.pooled.items, 1, -1), self.columns, axis=1)

    @cached_property
    def scores(self) -> np.ndarray:
        """[U, k] float32, -infinity behind the end."""
        scores = _widened(self.pool_scores, 1, -np.inf)
        return np.take_along_axis(scores, self.columns, axis=1)

    @cached_property
    def shares(self) -> np.ndarray:
        """[U, k, S] float32, what each source gave to the score, 0 behind the end."""
        listed = self.columns >= 0
        shares = np.zeros((*self.columns.shape, len(self.weights)), np.float32)
        query, place = np.nonzero(listed)
        shares[query, place] = self.pooled.gains[query, self.columns[listed]] * self.weights
        return shares


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
    half_life: str = HALF_LIFE

    @classmethod
    def of(cls, sources: Sequence[str], kind: str = NEITHER, half_life: str = HALF_LIFE) -> Self:
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


class CappedAttribute(NamedTuple):
    """One attribute with a cap.

    Attributes:
      item: [M] int64, positions in the corpus.
      value: [M] int64, numbers of values, from 0.
      cap: how many items of a list may have the same value.
    """

    item: np.ndarray
    value: np.ndarray
    cap: int


@dataclass(frozen=True, kw_only=True)
class CappedValues:
    """All attributes with caps.

    Attributes:
      offsets: [C + 1] int64, where each item's values begin.
      values: [M] int64.
      caps: [number of values] int64.
      most: no list that keeps the caps is longer.
    """

    offsets: np.ndarray
    values: np.ndarray
    caps: np.ndarray
    most: int

    @classmethod
    def of(cls, attributes: Sequence[CappedAttribute], corpus: int) -> Self:
        """The values of some attributes of a corpus of so many items."""
        sizes = [int(one.value.max(initial=-1)) + 1 for one in attributes]
        first = list_offsets(np.array(sizes, np.int64))
        item = np.concatenate([one.item for one in attributes])
        value = np.concatenate([one.value + first[n] for n, one in enumerate(attributes)])
        order = np.argsort(item, kind="stable")
        return cls(
            offsets=list_offsets(np.bincount(item, minlength=corpus)),
            values=value[order],
            caps=np.repeat([one.cap for one in attributes], sizes),
            most=min(_most(one, corpus) for one in attributes),
        )

    def at(self, items: np.ndarray) -> np.ndarray:
        """Values of items, [U, L] int64 with -1 for none: [U, L, V] int64, -1 behind the end."""
        is_item = items.ravel() >= 0
        start = self.offsets[items.ravel()]
        lengths = np.where(is_item, self.offsets[items.ravel() + 1] - start, 0)
        table = np.full((items.size, int(lengths.max(initial=0))), -1, np.int64)
        found = self.values[list_ranges(start, lengths)]
        table[list_rows(lengths), list_places(lengths)] = found
        return table.reshape(*items.shape, table.shape[1])


def _most(attribute: CappedAttribute, corpus: int) -> int:
    """The most items of a list that keeps an attribute's cap: an item without a value is free, and
    every other one takes up a place of a value at least.
    """
    of_value = np.bincount(attribute.value)
    without = corpus - len(np.unique(attribute.item))
    return without + int(np.minimum(of_value, attribute.cap).sum())


CONSTANT = 60.0
"""The place, from 0, whose item counts half as much as the first."""


DEPTH = 100
"""Items of each source that are looked at; as many as are asked for, if that is more."""


def pool_candidates(lists: Sequence[np.ndarray]) -> CandidatePool:
    """Puts the lists of S sources together, [U, L] int64 each, best first, each item once, -1
    behind the end.
    """
    lengths = np.array([ranked.shape[1] for ranked in lists])
    source = list_rows(lengths)
    gain = (1 / (1 + list_places(lengths) / CONSTANT)).astype(np.float32)

    # A key is an entry's item, then its number in the row: sorting keys brings what is said of an
    # item together. Half as wide, they sort twice as fast.
    items = np.concatenate(lists, axis=1)
    bits = len(source).bit_length()
    narrow = items.max(initial=0) < 1 << (30 - bits)
    dtype = np.int32 if narrow else np.int64
    none = np.iinfo(dtype).max
    keys = np.left_shift(items.astype(dtype), bits) | np.arange(len(source), dtype=dtype)
    keys[keys < 0] = none  # items of -1
    keys.sort(axis=1)

    # Each distinct item of a row gets a column of its own.
    item = keys >> bits
    is_new = np.ones(keys.shape, bool)
    np.not_equal(item[:, 1:], item[:, :-1], out=is_new[:, 1:])
    column = np.cumsum(is_new, axis=1, dtype=np.int32) - 1
    entries = np.flatnonzero(keys < none)
    column = column.ravel()[entries]
    width = int(column.max(initial=-1)) + 1
    cell = entries // max(1, keys.shape[1]) * width + column
    number = keys.ravel()[entries] & ((1 << bits) - 1)

    candidates = np.full((len(keys), width), -1, np.int64)
    candidates.ravel()[cell] = item.ravel()[entries]
    gains = np.zeros((*candidates.shape, len(lists)), np.float32)
    gains.ravel()[cell * len(lists) + source[number]] = gain[number]
    return CandidatePool(candidates, gains)


def _widened(table: np.ndarray, more: int, value: float) -> np.ndarray:
    """A table with more columns at its end."""
    if more == 0:
        return table
    # np.pad does the same, and takes as long as all the rest of a short request.
    return np.concatenate([table, np.full((len(table), more), value, table.dtype)], axis=1)
