"""What users took before: decayed counts, as the feature job made them or from a request's history; event by
event, which fitted sources are made of; and as distinct items with weights. No user has an id here.

U users, M events or items of theirs, C items of the corpus.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa

from twinspire_core.contracts.feature_schema import PERSONAL_HALF_LIVES, VISITS
from twinspire_core.search.ragged import Ragged, list_offsets, list_places, positions

ITEMS = "_personal"
_PREFIX = "_personal_"
HALF_LIVES = tuple(column.removeprefix(_PREFIX) for column in PERSONAL_HALF_LIVES)
AGE, SPAN, DAYS = "age", "span", "days"
_OF_ENTRY = (*HALF_LIVES, AGE, SPAN, DAYS)
COLUMNS = (ITEMS, *(_PREFIX + name for name in _OF_ENTRY), VISITS)
"""Columns of `evaluation/` and `users/`: lists with a value for each item of a user, and visits. A version
has all of them only for a ranker.
"""
# Days that are put between events of which only the order is known.
_ORDER = 1e-6


@dataclass(frozen=True, kw_only=True)
class PersonalCounts:
    """What U users took before: M entries, each a user and an item.

    Attributes:
      items: U lists of positions, distinct within a user, -1 outside the corpus.
      of_entry: [M] float32 by name: decayed counts, by half-life; `AGE`, days since the last event, close
        to 0 where only the order is known; `SPAN`, days from the first event to the last, 0 where only the
        order is known; `DAYS`, number of days with events.
      visits: [U] float32, number of days on which a user took anything.
      timed: [U] bool, whether the times of a user's events are known, or there are none. Without times, a
        count is the same with any half-life.
    """

    items: Ragged
    of_entry: Mapping[str, np.ndarray]
    visits: np.ndarray
    timed: np.ndarray

    @classmethod
    def of_rows(cls, rows: pa.Table, items: Ragged | None) -> Self | None:
        """The counts of the feature job; None where it made none.

        Args:
          rows: U rows with some of `COLUMNS`; null lists are empty.
          items: positions of the ids in the column `ITEMS`, -1 outside the corpus; None without it.
        """
        if items is None:
            return None
        names = set(rows.column_names)  # once, because Arrow makes a new list each time
        return cls(
            items=items,
            of_entry={x: _flat(rows[_PREFIX + x]) for x in _OF_ENTRY if _PREFIX + x in names},
            visits=rows[VISITS].fill_null(0).to_numpy(),
            timed=np.ones(len(rows), bool),
        )

    @classmethod
    def of_histories(cls, histories: Ragged) -> Self:
        """Counts from histories, oldest first, without times: each event counts 1 with any half-life. Of
        equal counts, the most recent item comes first.
        """
        inside = histories.where(histories.values >= 0)
        # Reversed, because np.unique gives the first place of each pair, which is then the last event.
        row = inside.row[::-1]
        item_of = inside.values[::-1]
        width = int(item_of.max(initial=0)) + 1
        pair, newest, events = np.unique(
            row * width + item_of, return_index=True, return_counts=True
        )
        row, item = np.divmod(pair, width)
        order = np.lexsort((newest, -events, row))
        counts = events[order].astype(np.float32)
        # In the reversed events, a user's events begin after those of all later users.
        begin = len(item_of) - list_offsets(inside.lengths)[row + 1]
        # Tiny ages, which only keep the order. The days are unknown, so all events count as one day.
        ages = ((newest - begin)[order] * _ORDER).astype(np.float32)
        known = {AGE: ages, SPAN: np.zeros_like(ages), DAYS: np.ones_like(ages)}
        return cls(
            items=Ragged(item[order], row[order], histories.rows),
            of_entry={**dict.fromkeys(HALF_LIVES, counts), **known},
            visits=(histories.lengths > 0).astype(np.float32),
            # An empty history has no events without times.
            timed=histories.lengths == 0,
        )

    @cached_property
    def newest_first(self) -> np.ndarray:
        """Numbers of the entries in the corpus, user by user, the item taken last first."""
        inside = np.flatnonzero(self.items.values >= 0)
        order = np.lexsort((self.of_entry[AGE][inside], self.items.row[inside]))
        return inside[order]

    def take(self, users: np.ndarray) -> Self:
        """The counts of the users of these numbers, [K] int64 ascending."""
        return self._of(self.items.take(users), np.isin(self.items.row, users), users)

    def part(self, start: int, stop: int) -> Self:
        """The counts of users `start` to `stop`."""
        entries = slice(*np.searchsorted(self.items.row, [start, stop]))
        return self._of(self.items.part(start, stop), entries, slice(start, stop))

    def where(self, keep: np.ndarray) -> Self:
        """The same users, with the entries of those alone where `keep`, [U] bool, holds."""
        entries = keep[self.items.row]
        return self._of(self.items.where(entries), entries, slice(None))

    def _of(self, items: Ragged, entries: np.ndarray | slice, users: np.ndarray | slice) -> Self:
        return replace(
            self,
            items=items,
            of_entry={name: values[entries] for name, values in self.of_entry.items()},
            visits=self.visits[users],
            timed=self.timed[users],
        )

    def _and(self, other: Self) -> Self:
        """The entries of both for each user, with what both know of them; all else as it is here."""
        row = np.concatenate([self.items.row, other.items.row])
        order = np.argsort(row, kind="stable")
        values = np.concatenate([self.items.values, other.items.values])
        of_entry = {
            name: np.concatenate([of_self, other.of_entry[name]])[order]
            for name, of_self in self.of_entry.items()
            if name in other.of_entry
        }
        return replace(
            self, items=Ragged(values[order], row[order], self.items.rows), of_entry=of_entry
        )

    def plus(self, newer: Self) -> Self:
        """Adds counts of later events of the same users, which may have more half-lives. Items with the
        highest counts come first, then the most recent.
        """
        both = self._and(newer)
        row, item = both.items.row, both.items.values
        # Items outside the corpus are all -1 and may differ, so each gets a number of its own.
        corpus = int(item.max(initial=-1)) + 1
        item = np.where(item >= 0, item, corpus + np.arange(len(item)))
        width = corpus + len(item)
        pair, place = np.unique(row * width + item, return_inverse=True)
        sums = {
            name: np.bincount(place, weights=values, minlength=len(pair)).astype(np.float32)
            for name, values in both.of_entry.items()
        }
        age = np.full(len(pair), np.inf, np.float32)
        np.minimum.at(age, place, both.of_entry[AGE])
        oldest = np.zeros(len(pair), np.float32)
        np.maximum.at(oldest, place, both.of_entry[AGE] + both.of_entry[SPAN])
        row, item = np.divmod(pair, width)
        item = np.where(item < corpus, item, -1)
        # The last half-life is the longest.
        highest = next((sums[name] for name in reversed(HALF_LIVES) if name in sums), age)
        order = np.lexsort((age, -highest, row))
        of_entry = {**sums, AGE: age, SPAN: oldest - age}
        return type(self)(
            items=Ragged(item[order], row[order], self.items.rows),
            of_entry={name: values[order] for name, values in of_entry.items()},
            visits=self.visits + newer.visits,
            # Later events are of the present, so known times stay known.
            timed=(self.timed & (self.items.lengths > 0)) | newer.timed,
        )

    def or_else(self, other: Self, is_own: np.ndarray) -> Self:
        """These counts for users where `is_own`, [U] bool, holds; for the rest the other counts, which may
        have fewer half-lives.
        """
        return replace(
            self.where(is_own)._and(other.where(~is_own)),
            visits=np.where(is_own, self.visits, other.visits),
            timed=np.where(is_own, self.timed, other.timed),
        )


def half_life_column(name: str) -> str:
    """The column that holds counts with one of `HALF_LIVES`.

    Example:
      >>> half_life_column("60d")
      '_personal_60d'
    """
    return _PREFIX + name


def _flat(lists: pa.ChunkedArray | pa.Array) -> np.ndarray:
    column = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
    values: np.ndarray = column.flatten().to_numpy(zero_copy_only=False)
    return values.astype(np.float32, copy=False)


HALF_LIFE = "60d"
"""Of `HALF_LIVES`: the one of sources that use no other."""


class Sequences(NamedTuple):
    """Users' events as of a moment, each user's newest first.

    Attributes:
      items: U lists of positions in the corpus; events of other items are left out.
      ages: [M] float32, days from each event to the moment, not falling within a list.
    """

    items: Ragged
    ages: np.ndarray

    @classmethod
    def of(cls, table: pa.Table, corpus: pa.Array | pa.ChunkedArray) -> Self:
        """Reads rows of `sequences/` (`feature_schema.sequences_schema`) for a corpus of distinct ids, [C]."""
        items = positions(table["_items"], corpus)
        ages = table["_ages"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        is_inside = items.values >= 0
        return cls(items.where(is_inside), ages[is_inside].astype(np.float32))

    def newest_users(self, most_events: int) -> Self:
        """The users whose last events are the newest, as many as have `most_events` together, but at
        least one. The users stay in their order.
        """
        lengths = self.items.lengths
        if lengths.sum() <= most_events:
            return self
        order = newest_first(self.items, self.ages)
        fitting = int(np.searchsorted(np.cumsum(lengths[order]), most_events, side="right"))
        users = np.sort(order[: max(1, fitting)])
        return type(self)(self.items.take(users), self.ages[np.isin(self.items.row, users)])


class WeightedItems(NamedTuple):
    """Distinct items of each user, with weights: the form in which fitted sources read events and queries.

    Attributes:
      items: U lists of positions in the corpus, each once, the one taken last first.
      weights: [M] float32, how often each was taken; older events count less.
      ages: [M] float32, days since each was taken last.
    """

    items: Ragged
    weights: np.ndarray
    ages: np.ndarray

    @classmethod
    def of(cls, sequences: Sequences, corpus_size: int) -> Self:
        """Sums up events; one that is `HALF_LIFE` old counts half."""
        items, ages = sequences
        days = PERSONAL_HALF_LIVES[half_life_column(HALF_LIFE)]
        pair = items.row * corpus_size + items.values
        _, first, inverse = np.unique(pair, return_index=True, return_inverse=True)
        counted = np.exp2(-ages.astype(np.float64) / days)
        sums = np.bincount(inverse, weights=counted, minlength=len(first))
        # Events come newest first, so the first event of an item is its newest. np.unique has sorted the
        # items by number; this sort restores the order.
        order = np.argsort(first)
        first = first[order]
        distinct = Ragged(items.values[first], items.row[first], items.rows)
        return cls(distinct, sums[order].astype(np.float32), ages[first])

    def first(self, most: int) -> Self:
        """At most `most` items of each user, those taken last."""
        keep = list_places(self.items.lengths) < most
        return type(self)(self.items.where(keep), self.weights[keep], self.ages[keep])


def newest_first(lists: Ragged, ages: np.ndarray) -> np.ndarray:
    """[U] int64, the lists in order of the age of their first entry, empty ones last."""
    youngest = np.full(lists.rows, np.inf, np.float32)
    is_first = list_places(lists.lengths) == 0
    youngest[lists.row[is_first]] = ages[is_first]
    return np.argsort(youngest, kind="stable")


def of_length_one(lists: Ragged, weights: np.ndarray) -> np.ndarray:
    """Weights of lists, [M] float32, divided by the length of the vector that each list stands for."""
    squares = np.bincount(lists.row, weights=weights.astype(np.float64) ** 2, minlength=lists.rows)
    lengths = np.sqrt(squares)[lists.row]
    return np.asarray(weights / np.maximum(lengths, 1e-30), np.float32)
