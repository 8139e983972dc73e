"""What users took before: decayed counts, as the feature job made them or from a request's history; event by
event, which fitted sources are made of; and as distinct items with weights. No user has an id here.

U users, M events or items of theirs, C items of the corpus.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa

from twinspire_core.contracts.feature_schema import (
    PERSONAL_DAYS,
    PERSONAL_HALF_LIVES,
    PERSONAL_SPAN,
    VISITS,
)
from twinspire_core.search.ragged import Ragged, list_lengths, list_offsets, list_places, positions

ITEMS = "_personal"
AGE = "_personal_age"
COLUMNS = (ITEMS, *PERSONAL_HALF_LIVES, AGE, PERSONAL_SPAN, PERSONAL_DAYS, VISITS)
"""Columns of `evaluation/` and `users/`: lists with a value for each item of a user, and visits. A version
has all of them only for a ranker.
"""
_PREFIX = "_personal_"
HALF_LIVES = tuple(column.removeprefix(_PREFIX) for column in PERSONAL_HALF_LIVES)
# Days that are put between events of which only the order is known.
_ORDER = 1e-6


@dataclass(frozen=True, kw_only=True)
class PersonalCounts:
    """What U users took before: M entries, each a user and an item. Entries of all users lie end to end.

    Attributes:
      entries: U lists of numbers of entries.
      item: [M] int64, positions, distinct within a user, -1 outside the corpus.
      counts: by half-life, [M] float32.
      age: [M] float32, days since the last event; close to 0 where only the order is known.
      span: [M] float32, days from the first event to the last, 0 where only the order is known.
      days: [M] float32, number of days with events.
      visits: [U] float32, number of days on which a user took anything.
      timed: [U] bool, whether the times of a user's events are known; None where all are. Without
        times, a count is the same with any half-life.
    """

    entries: Ragged
    item: np.ndarray
    counts: Mapping[str, np.ndarray]
    age: np.ndarray
    span: np.ndarray
    days: np.ndarray
    visits: np.ndarray
    timed: np.ndarray | None = None

    @classmethod
    def of_rows(cls, rows: pa.Table, place: Callable[[pa.Array], np.ndarray]) -> Self | None:
        """The counts of the feature job; None where it made none.

        Args:
          rows: U rows with some of `COLUMNS`; null lists are empty.
          place: gives the positions of ids in the corpus, -1 outside.
        """
        names = set(rows.column_names)  # once, because Arrow makes a new list each time
        if ITEMS not in names:
            return None
        items = _chunk(rows[ITEMS])
        lengths = list_lengths(items)
        counted = [name for name in HALF_LIVES if half_life_column(name) in names]
        return cls(
            entries=Ragged.of_lengths(np.arange(lengths.sum()), lengths),
            item=place(items.flatten()).astype(np.int64),
            counts={name: _flat(rows[half_life_column(name)]) for name in counted},
            age=_flat(rows[AGE]),
            span=_flat(rows[PERSONAL_SPAN]),
            days=_flat(rows[PERSONAL_DAYS]),
            visits=rows[VISITS].fill_null(0).to_numpy(),
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
        later = (newest - begin)[order]
        return cls(
            entries=Ragged(np.arange(len(order)), row[order], histories.rows),
            item=item[order],
            counts=dict.fromkeys(HALF_LIVES, counts),
            # Tiny ages, which only keep the order.
            age=(later * _ORDER).astype(np.float32),
            span=np.zeros(len(order), np.float32),
            # The days are unknown, so all events count as one day.
            days=np.ones(len(order), np.float32),
            visits=(histories.lengths > 0).astype(np.float32),
            # An empty history has no events without times.
            timed=histories.lengths == 0,
        )

    @cached_property
    def newest_first(self) -> Ragged:
        """U lists of numbers of the entries in the corpus, the item taken last first."""
        inside = self.entries.where(self.item[self.entries.values] >= 0)
        order = np.lexsort((self.age[inside.values], inside.row))
        return inside._replace(values=inside.values[order])

    def take(self, users: np.ndarray) -> Self:
        """The counts of the users of these numbers, [K] int64 ascending."""
        return self._of(self.entries.take(users), users)

    def part(self, start: int, stop: int) -> Self:
        """The counts of users `start` to `stop`."""
        return self._of(self.entries.part(start, stop), slice(start, stop))

    def _of(self, entries: Ragged, users: np.ndarray | slice) -> Self:
        timed = None if self.timed is None else self.timed[users]
        return replace(self, entries=entries, timed=timed, visits=self.visits[users])

    def plus(self, newer: Self) -> Self:
        """Adds counts of later events of the same users, which may have more half-lives. Items with the
        highest counts come first, then the most recent.
        """
        row = np.concatenate([self.entries.row, newer.entries.row])
        number = np.concatenate([self.entries.values, newer.entries.values + len(self.item)])
        item = np.concatenate([self.item, newer.item])[number]
        # Items outside the corpus are all -1 and may differ, so each gets a number of its own.
        corpus = int(item.max(initial=-1)) + 1
        item = np.where(item >= 0, item, corpus + np.arange(len(item)))
        width = corpus + len(item)
        pair, place = np.unique(row * width + item, return_inverse=True)
        counts = {}
        for name in self.counts:
            of_event = np.concatenate([self.counts[name], newer.counts[name]])[number]
            sums = np.bincount(place, weights=of_event, minlength=len(pair))
            counts[name] = sums.astype(np.float32)
        age = np.full(len(pair), np.inf, np.float32)
        np.minimum.at(age, place, np.concatenate([self.age, newer.age])[number])
        first = np.concatenate([self.age + self.span, newer.age + newer.span])[number]
        oldest = np.zeros(len(pair), np.float32)
        np.maximum.at(oldest, place, first)
        of_event = np.concatenate([self.days, newer.days])[number]
        days = np.bincount(place, weights=of_event, minlength=len(pair)).astype(np.float32)
        row, item = np.divmod(pair, width)
        item = np.where(item < corpus, item, -1)
        # The last half-life is the longest.
        highest = next(reversed(counts.values()), np.zeros(len(pair), np.float32))
        order = np.lexsort((age, -highest, row))
        return type(self)(
            entries=Ragged(np.arange(len(order)), row[order], self.entries.rows),
            item=item[order],
            counts={name: values[order] for name, values in counts.items()},
            age=age[order],
            span=(oldest - age)[order],
            days=days[order],
            visits=self.visits + newer.visits,
            # Later events are of the present, so known times stay known.
            timed=(self.is_timed & (self.entries.lengths > 0)) | newer.is_timed,
        )

    def or_else(self, other: Self, is_own: np.ndarray) -> Self:
        """These counts for users where `is_own`, [U] bool, holds; for the rest the other counts, which may
        have fewer half-lives.
        """
        own = self.entries.where(is_own[self.entries.row])
        others = other.entries.where(~is_own[other.entries.row])
        row = np.concatenate([own.row, others.row])
        # Entries are positions in the arrays below, where the other counts come second.
        number = np.concatenate([own.values, others.values + len(self.item)])
        order = np.argsort(row, kind="stable")
        return type(self)(
            entries=Ragged(number[order], row[order], self.entries.rows),
            item=np.concatenate([self.item, other.item]),
            counts={
                name: np.concatenate([self.counts[name], counts])
                for name, counts in other.counts.items()
            },
            age=np.concatenate([self.age, other.age]),
            span=np.concatenate([self.span, other.span]),
            days=np.concatenate([self.days, other.days]),
            visits=np.where(is_own, self.visits, other.visits),
            timed=np.where(is_own, self.is_timed, other.is_timed),
        )

    @property
    def is_timed(self) -> np.ndarray:
        """[U] bool, as `timed`."""
        if self.timed is None:
            return np.ones(self.entries.rows, bool)
        return self.timed


def half_life_column(name: str) -> str:
    """The column that holds counts with one of `HALF_LIVES`.

    Example:
      >>> half_life_column("60d")
      '_personal_60d'
    """
    return _PREFIX + name


def positions_among(items: pa.Array | pa.ChunkedArray) -> Callable[[pa.Array], np.ndarray]:
    """A function that gives the positions of ids among `items`, [C] distinct strings."""

    def place(ids: pa.Array) -> np.ndarray:
        one_list = pa.ListArray.from_arrays(pa.array([0, len(ids)], pa.int32()), ids)
        return positions(one_list, items).values

    return place


def _chunk(column: pa.ChunkedArray | pa.Array) -> pa.ListArray:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _flat(lists: pa.ChunkedArray | pa.Array) -> np.ndarray:
    values: np.ndarray = _chunk(lists).flatten().to_numpy(zero_copy_only=False)
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
        return cls(items, ages.astype(np.float32)).where(items.values >= 0)

    def where(self, keep: np.ndarray) -> Self:
        """Only the events where `keep`, [M] bool, holds."""
        return type(self)(self.items.where(keep), self.ages[keep])

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
    def of(cls, sequences: Sequences, corpus_size: int, half_life: str = HALF_LIFE) -> Self:
        """Sums up events; one that is a half-life, of `HALF_LIVES`, old counts half."""
        items, ages = sequences
        days = PERSONAL_HALF_LIVES[half_life_column(half_life)]
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

    def part(self, start: int, stop: int) -> Self:
        """Users `start` to `stop`."""
        first, last = np.searchsorted(self.items.row, [start, stop])
        return type(self)(
            self.items.part(start, stop), self.weights[first:last], self.ages[first:last]
        )


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
