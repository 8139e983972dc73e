"""Re-ranking by rules: caps per attribute, and a share of new items.

The rules come after the order. Of more candidates than are asked for, best first, a list is filled
place by place, from the first:

    a place at which the list would hold too few new items    gets the best new one
    any other place           gets the best one

An item may be listed until as many items of the list have one of its capped values as the cap allows.
So an item that is moved up is moved as late as the share allows, and all others stay in order of score.
This is the method of FA*IR (Zehlike et al., "FA*IR: A Fair Top-k Ranking Algorithm", CIKM 2017), with
caps.

U queries, L candidates of each, k places, C items of the corpus, M pairs of an item and one of its
capped values, V the most capped values that an item has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from twinspire_core.search.ragged import list_offsets, list_places, list_ranges, list_rows

# Keeps 0.29 * 100 from being 28.
_ROUNDING = 1e-9


class Candidates(NamedTuple):
    """Items that lists may be made of.

    Attributes:
      items: [U, L] int64, best first, each once, -1 after the end.
      is_new: [U, L] bool, whether the user never had the item.
      values: [U, L, V] int64, numbers of the item's capped values, -1 for none.
    """

    items: np.ndarray
    is_new: np.ndarray
    values: np.ndarray


def least_new(share: float, k: int) -> np.ndarray:
    """The least number of new items in the first n places, [k] int64 for n = 1 to k: the share of n,
    rounded down.

    Example:
      >>> least_new(0.3, 10).tolist()
      [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    """
    return np.asarray(np.floor(share * np.arange(1, k + 1) + _ROUNDING), np.int64)


def choose(
    candidates: Candidates,
    k: int,
    *,
    new_share: float = 0.0,
    caps: np.ndarray | None = None,
) -> np.ndarray:
    """The candidates at the places of each list, [U, k] int64: their columns, and -1 after the end, which
    comes where no candidate may be listed any more.

    Args:
      candidates: of each query, best first.
      k: length of the lists.
      new_share: this share, rounded down, of the first n places is new, as long as there are new
        candidates that the caps let through.
      caps: int64 by value, how many items of a list may have it, at least 1.
    """
    queries = len(candidates.items)
    needed = least_new(new_share, k)
    columns = np.full((queries, k), -1, np.int64)
    values = np.full((queries, k, candidates.values.shape[2]), -1, np.int64)
    new = np.zeros(queries, np.int64)
    is_open = np.not_equal(candidates.items, -1)
    # Place by place, for all queries at once: what may stand at a place depends on the places before it
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
      is_new: [U, k] bool, whether the item at each place is new.
      counts: [U] int64, number of items in each list.
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
    # argmax gives 0 also for a row in which nothing holds.
    column = mask.argmax(axis=1)
    return np.where(mask[np.arange(len(mask)), column], column, -1)


def _close_full(
    is_open: np.ndarray, values: np.ndarray, listed: np.ndarray, place: int, caps: np.ndarray
) -> None:
    """Closes the candidates that have a value whose cap the newest item of a list has filled.

    Args:
      is_open: [U, L] bool, candidates that may still be listed; changed in place.
      values: [U, L, V] int64, of the candidates.
      listed: [U, k, V] int64, of the items listed so far.
      place: of the newest item in its list.
      caps: int64 by value, how many items of a list may have it.
    """
    for value in listed[:, place].T:
        rows = np.flatnonzero(value >= 0)
        value = value[rows, None, None]
        # An item that has a value twice counts as one item.
        times = (listed[rows, : place + 1] == value).any(axis=2).sum(axis=1)
        full = times >= caps[value[:, 0, 0]]
        rows = rows[full]
        is_open[rows] &= ~(values[rows] == value[full]).any(axis=2)


class CappedAttribute(NamedTuple):
    """One attribute with a cap: M pairs of an item and one of its values.

    Attributes:
      item: [M] int64, positions in the corpus.
      value: [M] int64, values as numbers from 0.
      cap: how many items of a list may have the same value.
    """

    item: np.ndarray
    value: np.ndarray
    cap: int


@dataclass(frozen=True, kw_only=True)
class CappedValues:
    """The values of all attributes with caps, numbered together: those of the second attribute go on where
    those of the first one end.

    Attributes:
      offsets: [C + 1] int64, where each item's values begin.
      values: [M] int64, values item by item.
      caps: [number of values] int64, how many items of a list may have each value.
      most: no list that keeps the caps is longer.
    """

    offsets: np.ndarray
    values: np.ndarray
    caps: np.ndarray
    most: int

    @classmethod
    def of(cls, attributes: Sequence[CappedAttribute], corpus: int) -> Self:
        """The values of some attributes of a corpus of `corpus` items."""
        sizes = [int(x.value.max(initial=-1)) + 1 for x in attributes]
        first = list_offsets(np.array(sizes, np.int64))
        item = np.concatenate([x.item for x in attributes])
        value = np.concatenate([x.value + first[n] for n, x in enumerate(attributes)])
        order = np.argsort(item, kind="stable")
        return cls(
            offsets=list_offsets(np.bincount(item, minlength=corpus)),
            values=value[order],
            caps=np.repeat([x.cap for x in attributes], sizes),
            most=min(_most(x, corpus) for x in attributes),
        )

    def at(self, items: np.ndarray) -> np.ndarray:
        """Values of items, [U, L] int64 with -1 for none: [U, L, V] int64, -1 after the end."""
        is_item = items.ravel() >= 0
        start = self.offsets[items.ravel()]
        lengths = np.where(is_item, self.offsets[items.ravel() + 1] - start, 0)
        table = np.full((items.size, int(lengths.max(initial=0))), -1, np.int64)
        table[list_rows(lengths), list_places(lengths)] = self.values[list_ranges(start, lengths)]
        return table.reshape(*items.shape, table.shape[1])


def _most(attribute: CappedAttribute, corpus: int) -> int:
    """The most items of a list that keeps an attribute's cap: items without a value are free, every other
    item uses up at least one place of a value.
    """
    of_value = np.bincount(attribute.value)
    without = corpus - len(np.unique(attribute.item))
    return without + int(np.minimum(of_value, attribute.cap).sum())
