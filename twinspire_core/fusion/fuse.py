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

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Self

import numpy as np

from twinspire_core.contracts.fusion_file import PRIOR, FittedOn, FusionFile, FusionFormat
from twinspire_core.errors import BadData
from twinspire_core.fusion.candidate_pool import CONSTANT, CandidatePool, pool_sources
from twinspire_core.metrics import measure_names
from twinspire_core.metrics.slices import slice_of
from twinspire_core.search.ragged import Ragged
from twinspire_core.search.top_k import best_of
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.queries import Queries

FORMAT = 1
DEPTH = 100
"""Items of each source that are looked at; as many as are asked for, if that is more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fusion:
    """How sources are fused.

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

    @property
    def is_prior(self) -> bool:
        """Whether the weights were fitted on other logs, for want of users here."""
        return self.fitted.on == PRIOR

    @property
    def origin(self) -> Literal["fitted", "prior"]:
        """What answers say of their weights."""
        return "prior" if self.is_prior else "fitted"

    def of(self, events: np.ndarray) -> np.ndarray:
        """The weights for users with so many earlier events, [U] int64: [U, S] float64."""
        weights: np.ndarray = self.weights[slice_of(events, self.bounds)]
        return weights

    def leaning_on(self, source: str, share: float, *, adding: bool = False) -> Self:
        """The same fusion, in which a source has at least this share of the weights, below 1, of
        each slice that uses the source at all; with `adding`, of every slice, even if the source
        was not mixed yet.
        """
        fusion = self
        if adding and source not in self.sources:
            weights = np.pad(self.weights, ((0, 0), (0, 1)))
            fusion = replace(self, sources=(*self.sources, source), weights=weights)
        place = fusion.sources.index(source)
        own = fusion.weights[:, place]
        others = fusion.weights.sum(axis=1) - own
        leans = ((own > 0) | adding) & (own < share * (own + others))
        weights = fusion.weights.copy()
        weights[leans, place] = others[leans] * share / (1 - share)
        return replace(fusion, weights=weights / weights.sum(axis=1, keepdims=True).clip(min=1e-12))

    def dump(self) -> bytes:
        """The content of mix.json."""
        rows = zip(measure_names.names(self.bounds), self.weights.tolist(), strict=True)
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
          BadData: it is of another format.
        """
        found = FusionFormat.parse(content)
        if (found.format, found.constant) != (FORMAT, CONSTANT):
            raise BadData(
                f"{FusionFile.FILE} is of format {FORMAT} with the constant {CONSTANT:g}; found"
                f" {found.format} and {found.constant:g}. It was written by another release:"
                " serve it with that one."
            )
        file = FusionFile.parse(content)
        weights = [[row[name] for name in file.sources] for row in file.weights.values()]
        return cls(
            sources=tuple(file.sources),
            bounds=tuple(file.bounds),
            weights=np.array(weights, np.float64),
            fitted=file.fitted,
        )


@dataclass(frozen=True, kw_only=True)
class Fused:
    """Lists made out of several. Scores and shares are computed when they are asked for.

    Attributes:
      pooled: the candidates.
      candidate_scores: [U, P] float32, the score of each candidate.
      weights: [U, S].
      columns: [U, k] int64, the candidates that are listed, best first. Behind the end -1, which as
        an index is the last column: values of candidates get one more column there, for none.
    """

    pooled: CandidatePool
    candidate_scores: np.ndarray
    weights: np.ndarray
    columns: np.ndarray

    @cached_property
    def items(self) -> np.ndarray:
        """[U, k] int64, best first, -1 behind the end."""
        return np.take_along_axis(_widened(self.pooled.items, 1, -1), self.columns, axis=1)

    @cached_property
    def scores(self) -> np.ndarray:
        """[U, k] float32, -infinity behind the end."""
        scores = _widened(self.candidate_scores, 1, -np.inf)
        return np.take_along_axis(scores, self.columns, axis=1)

    @cached_property
    def shares(self) -> np.ndarray:
        """[U, k, S] float32, what each source gave to the score, 0 behind the end."""
        listed = self.columns >= 0
        shares = np.zeros((*self.columns.shape, self.weights.shape[1]), np.float32)
        query, place = np.nonzero(listed)
        gains = self.pooled.gains[query, self.columns[listed]]
        shares[query, place] = gains * self.weights[query]
        return shares


def fuse_sources(
    fusion: Fusion,
    sources: CandidateSources,
    queries: Queries,
    k: int,
    *,
    exclude: Ragged | None = None,
    length: int | None = None,
) -> tuple[np.ndarray, Fused]:
    """The lists that are recommended: those of the sources, fused, and filled up with popular items
    where no source knows enough.

    Args:
      fusion: the sources and their weights.
      sources: of the corpus.
      queries: U; lists that they are given with are at least `DEPTH` and k long.
      k: length of the lists, which says how deep the sources' lists are.
      exclude: U lists of items that must not be listed.
      length: how far the lists are given, where that is beyond k: their first k items are the same.

    Returns: items [U, length] int64, -1 where the corpus is used up; and what was fused, without the
    popular items that filled it up.
    """
    pooled = pool_sources(fusion.sources, sources, queries, max(k, DEPTH), exclude=exclude)
    length = length or k
    fused = fuse(pooled, fusion.of(queries.events), length)
    return sources.filled(fused.items, length, exclude=exclude), fused


def fuse(pooled: CandidatePool, weights: np.ndarray, k: int) -> Fused:
    """The best k candidates of each query.

    Args:
      pooled: the candidates.
      weights: [U, S].
      k: length of the lists.
    """
    scores = pooled.scores(weights)
    best = best_of(scores, min(k, scores.shape[1]))
    columns = _widened(best, k - best.shape[1], -1)
    return Fused(pooled=pooled, candidate_scores=scores, weights=weights, columns=columns)


def _widened(table: np.ndarray, more: int, value: float) -> np.ndarray:
    """A table with more columns at its end."""
    if more == 0:
        return table
    # np.pad does the same, and takes as long as all the rest of a short request.
    return np.concatenate([table, np.full((len(table), more), value, table.dtype)], axis=1)
