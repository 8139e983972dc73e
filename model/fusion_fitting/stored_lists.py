"""Lists of several days, to fit on together: today's, and those that the parent's measure attempt kept.

A day's lists come from its parent's two-tower and from the other sources as of the day's start, so
that nothing in them has seen the day. A small shop has too few users on one day, and one day of news
may be like no other: of each slice of users as many of the newest days are kept as have enough
users between them, at most `MOST_OF_A_DAY` of each and at most `MAX_DAYS`. Each attempt holds what the
next one needs, so that a day asks its parent alone.

U queries, L places of a list.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa

from twinspire_core import storage
from twinspire_core.contracts import day_tables, measured_lists
from twinspire_core.fusion.fuse import DEPTH
from twinspire_core.metrics.slices import slice_of
from twinspire_core.search.ragged import Ragged, arrow_lists, list_lengths
from twinspire_core.sources.queries import ScoredLists

MAX_DAYS = 28
"""Days before a day whose lists may still be fitted on."""
MOST_OF_A_DAY = 1_000
"""Users of a slice that are kept of one day: no day decides alone (docs/decisions/0051)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayLists:
    """What sources listed for users of one day, and what these took.

    Attributes:
      day: the day.
      two_tower: the version whose two-tower listed.
      past_events: [U] int64, events of the user before the day.
      held_out: [U] bool, held out of the day's training.
      taken: U lists of items taken, -1 outside the corpus.
      lists: by source.
      exclude_seen: whether the lists are without what the users had before.
    """

    day: date
    two_tower: str
    past_events: np.ndarray
    held_out: np.ndarray
    taken: Ragged
    lists: Mapping[str, ScoredLists]
    exclude_seen: bool = False

    @property
    def users(self) -> int:
        """Queries, those held out included."""
        return len(self.past_events)

    def take(self, rows: np.ndarray) -> Self:
        """Some of the queries, [K] int64 ascending."""
        return replace(
            self,
            past_events=self.past_events[rows],
            held_out=self.held_out[rows],
            taken=self.taken.take(rows),
            lists={name: lists.take(rows) for name, lists in self.lists.items()},
        )

    def to_table(self) -> pa.Table:
        """Rows of twinspire_core/contracts/measured_lists.py."""
        columns: dict[str, pa.Array] = {
            measured_lists.PAST_EVENTS: pa.array(self.past_events),
            measured_lists.HELD_OUT: pa.array(self.held_out),
            measured_lists.TAKEN: _to_arrow(self.taken.lengths, self.taken.values),
        }
        for name, (items, scores) in self.lists.items():
            listed = items >= 0
            lengths = listed.sum(1)
            columns[measured_lists.LIST_PREFIX + name] = _to_arrow(lengths, items[listed])
            columns[measured_lists.SCORE_PREFIX + name] = arrow_lists(
                lengths, pa.array(scores[listed])
            )
        metadata = measured_lists.metadata(self.two_tower, exclude_seen=self.exclude_seen)
        return pa.table(columns).replace_schema_metadata(metadata)

    @classmethod
    def of_table(cls, day: date, two_tower: str, table: pa.Table) -> Self:
        """Reads what `to_table` made."""
        prefix = measured_lists.LIST_PREFIX
        lists = {}
        for column in table.column_names:
            if column.startswith(prefix):
                name = column.removeprefix(prefix)
                lists[name] = ScoredLists.empty(len(table), DEPTH)
                lists[name].items[:] = _of_arrow(table.column(column)).padded(DEPTH)
                scores = table.column(measured_lists.SCORE_PREFIX + name).combine_chunks()
                lists[name].scores[lists[name].items >= 0] = scores.flatten().to_numpy()
        return cls(
            day=day,
            two_tower=two_tower,
            past_events=table.column(measured_lists.PAST_EVENTS).to_numpy(),
            held_out=table.column(measured_lists.HELD_OUT).to_numpy(),
            taken=_of_arrow(table.column(measured_lists.TAKEN)),
            lists=lists,
            exclude_seen=measured_lists.exclude_seen(table.schema),
        )


def read(attempt: str) -> list[DayLists]:
    """The lists of a measure attempt, of the newest day first; none where they are gone, or are of
    another format.

    Args:
      attempt: place of the attempt, local or remote.
    """
    days = []
    for day, table in day_tables.read_days(storage.join(attempt, measured_lists.FOLDER)):
        two_tower = measured_lists.two_tower_of(table.schema)
        if two_tower is not None:
            days.append(DayLists.of_table(day, two_tower, table))
    return days


def write(attempt: Path, days: Iterable[DayLists]) -> None:
    """Writes a file per day that has queries."""
    tables = {lists.day: lists.to_table() for lists in days if lists.users}
    day_tables.write_days(attempt / measured_lists.FOLDER, tables)


def keep_needed(
    days: Iterable[DayLists],
    today: date,
    *,
    sources: Sequence[str],
    bounds: Sequence[int],
    enough: int,
    exclude_seen: bool = False,
) -> list[DayLists]:
    """What weights are fitted on: of each slice of users the newest days that have enough users.

    Args:
      days: distinct days, none after today, in any order.
      today: the day.
      sources: lists of days that lack one of them, because it was not a source then, are left out.
      bounds: where slices of users begin.
      enough: users of a slice, those held out aside.
      exclude_seen: the kind of lists that counts; days that kept the other one are left out.

    Returns: of the newest day first, at most `MOST_OF_A_DAY` users of each slice and day to fit on,
    and as many who were held out.
    """
    oldest = today - timedelta(days=MAX_DAYS)
    users = np.zeros(len(bounds) + 1, np.int64)
    needed = []
    for lists in sorted(days, key=lambda lists: lists.day, reverse=True):
        if lists.exclude_seen != exclude_seen:
            continue
        if lists.day < oldest or not lists.lists.keys() >= set(sources):
            continue
        user_slice = slice_of(lists.past_events, bounds)
        rows = [np.zeros(0, np.int64)]
        for number in np.flatnonzero(users < enough):
            for held_out in (False, True):
                chosen = (user_slice == number) & (lists.held_out == held_out)
                rows.append(evenly(np.flatnonzero(chosen), MOST_OF_A_DAY))
        kept = lists.take(np.sort(np.concatenate(rows)))
        users += users_by_slice([kept], bounds)
        if kept.users:
            needed.append(kept)
    return needed


def users_by_slice(days: Iterable[DayLists], bounds: Sequence[int]) -> np.ndarray:
    """Users of each slice who were not held out, [S] int64."""
    users = np.zeros(len(bounds) + 1, np.int64)
    for lists in days:
        of_day = slice_of(lists.past_events[~lists.held_out], bounds)
        users += np.bincount(of_day, minlength=len(users))
    return users


def evenly(rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the rows, [R] int64, evenly out of all."""
    places = np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)
    chosen: np.ndarray = rows[places]
    return chosen


def _to_arrow(lengths: np.ndarray, values: np.ndarray) -> pa.Array:
    return arrow_lists(lengths, pa.array(values.astype(np.int32)))


def _of_arrow(lists: pa.ChunkedArray) -> Ragged:
    lists = lists.combine_chunks()
    values = lists.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
    return Ragged.of_lengths(values, list_lengths(lists))
