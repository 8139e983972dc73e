"""Lists chosen of candidates by the rules of `[lists]`: which candidates take the places, what is explored
among them.

B queries, L candidates, K places, S sources.
"""

from typing import NamedTuple

import numpy as np

from serving.answers.exploration import Explored
from serving.answers.filtered_search import Seen
from serving.answers.retrieval import Retrieved
from twinspire_core.config.source_names import EXPLORATION
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
    explored: Explored | None,
) -> RuledLists:
    """Chooses of candidates those of K places.

    Args:
      lists: [B, L] candidates.
      k: K.
      rules: that hold.
      known: pairs of a query and an item that its user had before.
      capped: what caps go by; None without any.
      explored: what may stand in places for exploration; None without any.
    """
    rows = lists.rows.astype(np.int64)
    is_new = ~contains(known.by_query(len(rows)), rows)
    columns = choose(
        Candidates(rows, is_new, _values(capped, rows)),
        k,
        new_share=rules.new_share,
        caps=capped.caps if capped else None,
        explored=_all_new(explored.items, capped) if explored else None,
        explores=explored.places if explored else None,
    )
    counts = (columns >= 0).sum(axis=1)
    if explored:
        lists = _followed_by(lists, explored)
        is_new = np.concatenate([is_new, np.ones(explored.items.shape, bool)], axis=1)
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


def _all_new(rows: np.ndarray, capped: CappedValues | None) -> Candidates:
    return Candidates(rows, np.ones(rows.shape, bool), _values(capped, rows))


def _followed_by(lists: Retrieved, explored: Explored) -> Retrieved:
    """Candidates and, in columns behind them, what is explored: all of it is there by one source,
    whose name comes last.
    """
    shares = lists.shares
    if shares is None:
        shares = np.ones((*lists.rows.shape, 1), np.float32)
    own = np.pad(shares, ((0, 0), (0, 0), (0, 1)))
    others = np.zeros((*explored.items.shape, own.shape[2]), np.float32)
    others[:, :, -1] = 1
    scores = explored.scores
    if lists.shares is not None:
        # The two-tower's cosines say nothing beside other scores: as a popular item that fills up.
        lowest = np.nan_to_num(lists.scores, nan=np.inf).min(axis=1, keepdims=True)
        scores = np.broadcast_to(np.where(np.isinf(lowest), 0, lowest), explored.items.shape)
    values = lists.values
    if values is not None:
        behind = ((0, 0), (0, explored.items.shape[1]), (0, 0))
        values = np.pad(values, behind, constant_values=np.nan)
    return lists._replace(
        rows=np.concatenate([lists.rows, explored.items.astype(np.int32)], axis=1),
        scores=np.concatenate([lists.scores, scores], axis=1),
        names=(*lists.names, EXPLORATION),
        shares=np.concatenate([own, others], axis=1),
        values=values,
    )


def _at(values: np.ndarray, columns: np.ndarray, none: float) -> np.ndarray:
    """Values, [B, L] or [B, L, S], in some columns, [B, K]; `none` where the column is -1."""
    there = columns >= 0
    if values.ndim == 3:
        there, columns = there[:, :, None], columns[:, :, None]
    found = np.take_along_axis(values, np.maximum(columns, 0), axis=1)
    return np.where(there, found, np.asarray(none, values.dtype))
