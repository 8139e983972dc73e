"""Rules on a list that is served: caps per attribute, and a share of new items.

They come after whatever ranks. Of more candidates than are asked for, best first, a list is filled
place by place, from the first:

    a place at which the list would hold too few new items    gets the best new one
    any other place           gets the best one

An item may be listed until a capped value of it is in the list so often as its cap says. So what is
lifted is lifted as late as the share allows, and all else stays in order of score. It is FA*IR's
way (Zehlike et al., "FA*IR: A Fair Top-k Ranking Algorithm", CIKM 2017), with caps.

U queries, L candidates of each, k places, V the most capped values that an item has.
"""

from typing import NamedTuple

import numpy as np

_ROUNDING = 1e-9
"""Keeps 0.29 * 100 from being 28."""


class Candidates(NamedTuple):
    """What lists may be made of.

    Attributes:
      items: [U, L] int64, best first, each once, -1 behind the end.
      is_new: [U, L] bool, whether the user never had it.
      values: [U, L, V] int64, numbers of the item's capped values, -1 for none.
    """

    items: np.ndarray
    is_new: np.ndarray
    values: np.ndarray


def least_new(share: float, k: int) -> np.ndarray:
    """How many new items the first n places hold at the least, [k] int64 for n = 1 to k: the share
    of n, rounded down.

    Example:
      >>> least_new(0.3, 10).tolist()
      [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    """
    least: np.ndarray = np.floor(share * np.arange(1, k + 1) + _ROUNDING).astype(np.int64)
    return least


def choose(
    candidates: Candidates,
    k: int,
    *,
    new_share: float = 0.0,
    caps: np.ndarray | None = None,
) -> np.ndarray:
    """The candidates at the places of each list.

    Args:
      candidates: best first.
      k: length of the lists.
      new_share: of the first n places, this share rounded down is new, as long as there are new
        candidates that the caps let through.
      caps: [] int64, by number of a value, how many items of a list may have it; 1 at the least.

    Returns: [U, k] int64, columns of the candidates; -1 behind the end, which comes where no
    candidate may be listed any more.
    """
    queries = len(candidates.items)
    needed = least_new(new_share, k)
    columns = np.full((queries, k), -1, np.int64)
    values = np.full((queries, k, candidates.values.shape[2]), -1, np.int64)
    new = np.zeros(queries, np.int64)
    is_open = np.not_equal(candidates.items, -1)
    for place in range(k):
        column = _first(is_open)
        lacking = np.flatnonzero(new < needed[place])
        if len(lacking):
            best_new = _first(candidates.is_new[lacking] & is_open[lacking])
            column[lacking] = np.where(best_new >= 0, best_new, column[lacking])
        rows = np.flatnonzero(column >= 0)
        if not len(rows):
            break
        columns[:, place] = column
        at = rows, column[rows]
        new[rows] += candidates.is_new[at]
        is_open[at] = False
        if caps is not None:
            values[rows, place] = candidates.values[at]
            _close_full(is_open, candidates.values, values, place, caps)
    return columns


def holds_share(is_new: np.ndarray, counts: np.ndarray, share: float) -> np.ndarray:
    """Whether each prefix of a list holds its share of new items, [U] bool.

    Args:
      is_new: [U, k] bool, by place.
      counts: [U] int64, items of each list.
      share: as `new_share` of `choose`.
    """
    k = is_new.shape[1]
    enough = np.cumsum(is_new, axis=1) >= least_new(share, k)
    behind = np.arange(k) >= counts[:, None]
    return np.asarray((enough | behind).all(axis=1))


def _first(mask: np.ndarray) -> np.ndarray:
    """The first column of each row where the mask holds, -1 where it never does."""
    if not mask.shape[1]:
        return np.full(len(mask), -1, np.int64)
    column = mask.argmax(axis=1)
    return np.where(mask[np.arange(len(mask)), column], column, -1)


def _close_full(
    is_open: np.ndarray, values: np.ndarray, listed: np.ndarray, place: int, caps: np.ndarray
) -> None:
    """Closes the candidates that have a value whose cap the item at a place has filled.

    Args:
      is_open: [U, L] bool, changed in place.
      values: [U, L, V], of the candidates.
      listed: [U, k, V], of the items listed so far.
      place: the newest of these.
      caps: by value.
    """
    for value in listed[:, place].T:
        rows = np.flatnonzero(value >= 0)
        value = value[rows, None, None]
        # An item that has a value twice is still one item.
        times = (listed[rows, : place + 1] == value).any(axis=2).sum(axis=1)
        full = times >= caps[value[:, 0, 0]]
        rows = rows[full]
        is_open[rows] &= ~(values[rows] == value[full]).any(axis=2)
