"""How near a candidate's vector lies to that of the query, and to those of the history."""

from collections.abc import Sequence
from typing import Self

import numpy as np

from twinspire_core.ranking.feature_group import FeatureGroup
from twinspire_core.ranking.pairs import Pairs, Vectors
from twinspire_core.search.ragged import list_places
from twinspire_core.sources.source import SourceTables

_QUERY = "cosine"
_NEWEST = "cosine_newest"
_MOST = "cosine_most"
_MEAN = "cosine_mean"
_ITEMS = 10
"""Items of a history, the newest ones, that a candidate is compared with."""
_BLOCK = 16
"""Queries that are worked on together: their candidates' vectors should stay in the cache."""


class TowerCosines(FeatureGroup):
    """Cosines of all candidates, not only of those that the two-tower lists."""

    @classmethod
    def of(cls, tables: SourceTables) -> Self:
        """It is made of no table: pairs bring vectors."""
        return cls()

    def names(self, sources: Sequence[str]) -> tuple[str, ...]:
        """That with the query; that with the newest item, the largest and the mean of those with
        the newest items.
        """
        return (_QUERY, _NEWEST, _MOST, _MEAN)

    def values(self, pairs: Pairs) -> np.ndarray:
        """Missing without vectors, and those of the history without one."""
        values = np.full((len(pairs), 4), np.nan, np.float32)
        if pairs.vectors is None or not len(pairs):
            return values
        lengths = np.bincount(pairs.query, minlength=len(pairs.queries))
        column = list_places(lengths)
        candidates = np.zeros((len(lengths), int(lengths.max())), np.int64)
        candidates[pairs.query, column] = pairs.item
        history = pairs.newest.items.padded(_ITEMS)
        bounds = np.append(np.cumsum(lengths) - lengths, len(pairs))
        for start in range(0, len(lengths), _BLOCK):
            stop = min(start + _BLOCK, len(lengths))
            some = slice(bounds[start], bounds[stop])
            table = _cosines(
                pairs.vectors, slice(start, stop), candidates[start:stop], history[start:stop]
            )
            values[some] = table[pairs.query[some] - start, column[some]]
        return values

    def describe(self, name: str, value: float) -> str:
        """A cosine in words."""
        if np.isnan(value):
            return "the two-tower says nothing of it"
        how = "close to" if value > 0.5 else "not far from" if value > 0.2 else "far from"
        what = {
            _QUERY: "the user's taste",
            _NEWEST: "what the user took last",
            _MOST: "something that the user took of late",
            _MEAN: "what the user took of late",
        }
        return f"{how} {what[name]} by the two-tower (cosine {value:.2f})"


def _cosines(
    vectors: Vectors, queries: slice, candidates: np.ndarray, history: np.ndarray
) -> np.ndarray:
    """The features of a block of B queries, [B, P, 4] float32.

    Args:
      vectors: of all.
      queries: which ones.
      candidates: [B, P] int64.
      history: [B, H] int64, the newest first, -1 behind the end.
    """
    is_known = history >= 0
    asked = np.concatenate(
        [vectors.queries[queries, np.newaxis], vectors.items[np.maximum(history, 0)]], axis=1
    )
    cosines = asked @ vectors.items[candidates].transpose(0, 2, 1)
    # By place of the history, so that a step of a reduction is a row of candidates.
    of_query, of_history = cosines[:, 0], cosines[:, 1:]
    is_known = is_known[:, :, np.newaxis]
    known = is_known.sum(axis=1)
    sums = np.where(is_known, of_history, np.float32(0)).sum(axis=1)
    most = np.where(is_known, of_history, np.float32(-np.inf)).max(axis=1)
    found = np.stack([of_query, of_history[:, 0], most, sums / np.maximum(known, 1)], axis=2)
    found[known[:, 0] == 0, :, 1:] = np.nan
    return found
