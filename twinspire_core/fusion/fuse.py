"""One list out of several: sources of candidates, fused by rank. Imports no TensorFlow: serving
uses it too.

    score(item) = sum over the sources s that list it of  w_s / (1 + place_s / CONSTANT),  places from 0

with weights w by slice of users. Ranks, because the sources' own scores have no common scale.
Source: Cormack, Clarke and Büttcher, *Reciprocal Rank Fusion outperforms Condorcet and individual
Rank Learning Methods*, SIGIR 2009, here with a weight per source. Where weights add up to 1, no
score is above 1.

U queries, S sources, L the length of their lists, P the candidates of a query, from all its
sources.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from twinspire_core.contracts.fusion_file import FittedOn, FusionFile
from twinspire_core.errors import BadData
from twinspire_core.metrics import slices
from twinspire_core.search.top_k import best_of

FORMAT = 1
CONSTANT = 60.0
DEPTH = 100
"""Items of each source that are looked at; as many as are asked for, if that is more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fusion:
    """How sources are mixed.

    Attributes:
      sources: S names.
      bounds: where slices of users by earlier events begin (twinspire_core/metrics/slices.py).
      weights: [len(bounds) + 1, S] float64, not negative, a row per slice.
      fitted: what they were fitted on.
    """

    sources: tuple[str, ...]
    bounds: tuple[int, ...]
    weights: np.ndarray
    fitted: FittedOn

    def of(self, events: np.ndarray) -> np.ndarray:
        """The weights for users with so many earlier events, [U] int64: [U, S] float64."""
        return self.weights[slices.slice_of(events, self.bounds)]

    def dump(self) -> bytes:
        """The content of mix.json."""
        rows = zip(slices.names(self.bounds), self.weights.tolist(), strict=True)
        file = FusionFile(
            format=FORMAT,
            constant=CONSTANT,
            depth=DEPTH,
            bounds=self.bounds,
            sources=self.sources,
            weights={name: dict(zip(self.sources, row, strict=True)) for name, row in rows},
            fitted=self.fitted,
        )
        return file.dump()

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Reads what `dump` wrote.

        Raises:
          BadData: it is of a newer format.
        """
        file = FusionFile.parse(content)
        if (file.format, file.constant) != (FORMAT, CONSTANT):
            raise BadData(
                f"{FusionFile.FILE} is of format {FORMAT} with the constant {CONSTANT:g}; found"
                f" {file.format} and {file.constant:g}. It was written by another release:"
                " serve it with that one."
            )
        weights = [[row[name] for name in file.sources] for row in file.weights.values()]
        return cls(
            sources=tuple(file.sources),
            bounds=tuple(file.bounds),
            weights=np.array(weights, np.float64),
            fitted=file.fitted,
        )


class CandidatePool(NamedTuple):
    """The candidates of each query, from all sources.

    Attributes:
      items: [U, P] int64, each once, ascending, -1 behind the end.
      gains: [U, P, S] float32, 1 / (1 + place / CONSTANT) where the source lists the item, else 0.
    """

    items: np.ndarray
    gains: np.ndarray

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """Scores of the candidates, [U, P] float32, -infinity behind the end.

        Args:
          weights: [U, S], or [S] for all.
        """
        weights = np.broadcast_to(
            np.asarray(weights, np.float32), (len(self.items), self.gains.shape[2])
        )
        scores = np.matmul(self.gains, weights[:, :, None])[:, :, 0]
        return np.where(self.items >= 0, scores, -np.inf)


class Fused(NamedTuple):
    """Lists made out of several, [U, k] each.

    Attributes:
      items: int64, best first, -1 behind the end.
      scores: float32, -infinity there.
      shares: [U, k, S] float32, what each source gave to the score.
    """

    items: np.ndarray
    scores: np.ndarray
    shares: np.ndarray


def pool_candidates(lists: Sequence[np.ndarray]) -> CandidatePool:
    """Puts the lists of S sources together, [U, L] int64 each, best first, each item once, -1
    behind the end.
    """
    length = [ranked.shape[1] for ranked in lists]
    source, place = (
        np.repeat(np.arange(len(lists)), length),
        np.concatenate([np.arange(n) for n in length]),
    )
    gain = (1 / (1 + place / CONSTANT)).astype(np.float32)
    # An entry's item, then its number in the row: sorting these brings what is said of an item
    # together.
    key, bits = np.concatenate(lists, axis=1), len(source).bit_length()
    # Half as wide sorts twice as fast
    kind = np.int32 if key.max(initial=0) < 1 << (30 - bits) else np.int64
    none = np.iinfo(kind).max
    key = np.left_shift(key.astype(kind), bits) | np.arange(len(source), dtype=kind)
    key[key < 0] = none
    key.sort(axis=1)
    item = key >> bits
    new = np.ones(key.shape, bool)
    np.not_equal(item[:, 1:], item[:, :-1], out=new[:, 1:])
    column = np.cumsum(new, axis=1, dtype=np.int32) - 1
    there = np.flatnonzero(key < none)
    column, number = column.ravel()[there], key.ravel()[there] & ((1 << bits) - 1)
    width = int(column.max(initial=-1)) + 1
    at = there // max(1, key.shape[1]) * width + column
    items = np.full((len(key), width), -1, np.int64)
    items.ravel()[at] = item.ravel()[there]
    gains = np.zeros((*items.shape, len(lists)), np.float32)
    gains.ravel()[at * len(lists) + source[number]] = gain[number]
    return CandidatePool(items, gains)


def fuse(pooled: CandidatePool, weights: np.ndarray, k: int) -> Fused:
    """The best k candidates of each query.

    Args:
      pooled: the candidates.
      weights: [U, S].
      k: length of the lists.
    """
    column, scores = _best(pooled, weights, k)
    found = np.arange(len(column))[:, None], column
    there = column >= 0
    if not there.any():
        return Fused(
            column,
            np.full(column.shape, -np.inf, np.float32),
            np.zeros((*column.shape, weights.shape[1])),
        )
    shares = np.where(there[:, :, None], pooled.gains[found] * weights[:, None, :], 0).astype(
        np.float32
    )
    return Fused(
        np.where(there, pooled.items[found], -1), np.where(there, scores[found], -np.inf), shares
    )


def fused_items(pooled: CandidatePool, weights: np.ndarray, k: int) -> np.ndarray:
    """The items that `fuse` finds, without their scores: [U, k] int64."""
    column, _ = _best(pooled, weights, k)
    items = np.pad(pooled.items, ((0, 0), (0, 1)), constant_values=-1)  # the last is none's
    return np.take_along_axis(items, column, axis=1)


def _best(pooled: CandidatePool, weights: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns of the best k candidates, [U, k] int64, -1 behind the end; and the scores of all."""
    scores = pooled.scores(weights)
    column = best_of(scores, min(k, scores.shape[1]))
    return np.pad(column, ((0, 0), (0, k - column.shape[1])), constant_values=-1), scores
