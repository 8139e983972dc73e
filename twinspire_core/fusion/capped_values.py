"""The values of a corpus's items that lists have caps for, as numbers.

C items, M pairs of an item and one of its values. The values of all capped attributes are numbered
together: those of the second one go on where those of the first one end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from twinspire_core.search.ragged import list_offsets, list_places, list_ranges, list_rows


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
