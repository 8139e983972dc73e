"""The candidates of several sources, put together. Imports no TensorFlow: serving uses it too.

U queries, S sources, L the length of their lists, P the candidates of a query, from all its
sources.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from twinspire_core.search.ragged import Ragged, list_places, list_rows
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.queries import Queries

CONSTANT = 60.0
"""The place, from 0, whose item counts half as much as the first."""


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
        # An item of weight 0 is still a candidate, with the score 0; padding is none.
        return np.where(self.items >= 0, scores, -np.inf)


def pool_sources(
    names: Sequence[str],
    sources: CandidateSources,
    queries: Queries,
    depth: int,
    *,
    exclude: Ragged | None = None,
) -> CandidatePool:
    """The candidates of some sources, `depth` of each; arguments as those of
    `twinspire_core.fusion.fuse.fuse_sources`.
    """
    lists = sources.retrieve(names, queries, depth, exclude=exclude)
    return pool_candidates([lists[name].items for name in names])


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
