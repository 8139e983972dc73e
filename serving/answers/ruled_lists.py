"""Lists chosen of candidates by the rules of `[lists]`: which candidates take the places.

B queries, L candidates, K places, S sources.
"""

from typing import NamedTuple

import numpy as np

from serving.answers.filtered_search import Seen
from serving.answers.retrieval import Retrieved
from twinspire_core.config.tables.deployment import ListsConfig
from twinspire_core.fusion.capped_values import CappedValues
from twinspire_core.fusion.list_rules import Candidates, choose, holds_share
from twinspire_core.metrics.ranking import contains
from twinspire_core.search.index import NONE


class RuledLists(NamedTuple):
    """Lists that keep the rules.

    Attributes:
      lists: of K places.
      lacks_new: [B] bool.
      is_open: [B] bool, whether more candidates would help.
    """

    lists: Retrieved
    lacks_new: np.ndarray
    is_open: np.ndarray

    def replace(self, rows: np.ndarray, found: "RuledLists") -> None:
        """Puts lists that were found anew in their rows' places; only these may be open after that."""
        self.lists.rows[rows] = found.lists.rows
        self.lists.scores[rows] = found.lists.scores
        self.lists.widened[rows] = True
        if self.lists.shares is not None:
            self.lists.shares[rows] = found.lists.shares
        if self.lists.values is not None:
            self.lists.values[rows] = found.lists.values
        self.lacks_new[rows] = found.lacks_new
        self.is_open[:] = False
        self.is_open[rows] = found.is_open


def choose_ruled(
    lists: Retrieved,
    k: int,
    rules: ListsConfig,
    known: Seen,
    capped: CappedValues | None,
) -> RuledLists:
    """Chooses of candidates those of K places.

    Args:
      lists: [B, L] candidates.
      k: K.
      rules: that hold.
      known: pairs of a query and an item that its user had before.
      capped: what caps go by; None without any.
    """
    rows = lists.rows.astype(np.int64)
    is_new = ~contains(known.by_query(len(rows)), rows)
    columns = choose(
        Candidates(rows, is_new, _values(capped, rows)),
        k,
        new_share=rules.new_share,
        caps=capped.caps if capped else None,
    )
    counts = (columns >= 0).sum(axis=1)
    lacks_new = ~holds_share(_at(is_new, columns, False), counts, rules.new_share)
    most = min(k, capped.most) if capped else k
    is_open = ((counts < most) | lacks_new) & (rows[:, -1] != NONE)
    chosen = lists._replace(
        rows=_at(lists.rows, columns, NONE),
        scores=_at(lists.scores, columns, np.nan),
        shares=None if lists.shares is None else _at(lists.shares, columns, 0),
        values=None if lists.values is None else _at(lists.values, columns, np.nan),
    )
    return RuledLists(chosen, lacks_new, is_open)


def _values(capped: CappedValues | None, rows: np.ndarray) -> np.ndarray:
    if capped is None:
        return np.zeros((*rows.shape, 0), np.int64)
    return capped.at(rows)


def _at(values: np.ndarray, columns: np.ndarray, none: float) -> np.ndarray:
    """Values, [B, L] or [B, L, S], in some columns, [B, K]; `none` where the column is -1."""
    there = columns >= 0
    if values.ndim == 3:
        there, columns = there[:, :, None], columns[:, :, None]
    found = np.take_along_axis(values, np.maximum(columns, 0), axis=1)
    return np.where(there, found, np.asarray(none, values.dtype))
