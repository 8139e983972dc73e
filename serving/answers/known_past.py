"""What users had before: what a version stores of them, and what a request's history has that is
newer.

A version stores the items of the whole window as of its day, the most frequent first (`_past`), how
many events that were, and the newest events in order, the stored history. A request's history is
often short, the last ten say, and of these some happened before the version's day and some after.
What happened before is where the two histories overlap: the stored history ends with what the
request's begins with.

    stored history     a b c d e
    request's              c d e b f      new: b f
                     z a b c d e b f      new: b f, of a history longer than the stored one
                                 b f      new: b f, as nothing overlaps

What is new counts beside what is stored, and nothing counts twice. A version that stores no history
cannot tell: then what is not among the stored items is new.

Sources that use what was taken last want an order instead: all stored items, then the stored history,
then the request's.

B queries, C items of the corpus, E entries: pairs of a query and an item.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa

from serving.requests.query_rows import STORED_EVENTS, STORED_HISTORY
from serving.requests.request_model import SEEN
from serving.version.loaded_version import Version
from serving.version.user_store import STORED_PAST
from twinspire_core.search.ragged import Ragged, list_lengths, list_places
from twinspire_core.sources.history import most_frequent_first
from twinspire_core.sources.personal_counts import ITEMS, PersonalCounts
from twinspire_core.sources.source import Queries

_LISTS = (SEEN, STORED_PAST, STORED_HISTORY, ITEMS)
_Places = Mapping[str, Ragged]
"""B lists of positions by column: of the requests' histories, and of what is stored."""


def read_queries(version: Version, table: pa.Table, *, personal: bool) -> Queries:
    """What B requests say of pasts, together with what is stored of their users.

    Args:
      version: what answers.
      table: [B] rows of `serving.requests.query_rows.complete`.
      personal: whether decayed counts are wanted.
    """
    places = _positions(version, table)
    new = newer_events(table, places[SEEN])
    past, events = _read_past(table, places, new)
    counts = _read_personal(table, places, new, past) if personal else None
    return Queries(past=past, events=events, personal=counts)


def _read_past(table: pa.Table, places: _Places, new: Ragged) -> tuple[Ragged, np.ndarray]:
    """What users had before, the most frequent first, then the most recent; and how many events
    that were, [B] int64.

    Args:
      table: as above.
      places: of `_positions`.
      new: of `newer_events`.
    """
    if STORED_PAST not in places:
        return most_frequent_first(new), new.lengths
    stored_events = table[STORED_EVENTS].fill_null(0).to_numpy()
    past = places[STORED_PAST]
    counts = np.ones(len(past.values), np.int64)
    if len(new.values) and STORED_HISTORY in places:
        counts = least_counts(past, places[STORED_HISTORY])
    return joined(past, counts, new), stored_events + new.lengths


def _read_personal(table: pa.Table, places: _Places, new: Ragged, past: Ragged) -> PersonalCounts:
    """Decayed counts of what users had before: those of the version, and 1 for each newer event, as
    nobody knows its time; of a version without counts, 1 for each event that is known of.

    Args:
      table: as above.
      places: of `_positions`.
      new: of `newer_events`.
      past: of `_read_past`.
    """
    stored = PersonalCounts.of_rows(table, lambda _: places[ITEMS].values)
    if stored is not None and not len(new.values):
        return stored
    if stored is None:
        return PersonalCounts.of_histories(_known_events(places, past))
    has_new = new.lengths > 0
    moving = replace(stored, entries=stored.entries.where(has_new[stored.entries.row]))
    return moving.plus(PersonalCounts.of_histories(new)).or_else(stored, has_new)


def _known_events(places: _Places, past: Ragged) -> Ragged:
    """What is known of what users took, whoever tells it: B lists of positions, oldest first, -1 outside
    the corpus. An item stands where it was taken last; how often it was taken before is not told.

    Args:
      places: of `_positions`.
      past: of `_read_past`.
    """
    events = places[SEEN]
    if not {STORED_PAST, STORED_HISTORY} & places.keys():
        return events
    if STORED_HISTORY in places:
        events = _followed_by(places[STORED_HISTORY], events)
    # When the others were taken nobody knows, but that it was earlier. The most frequent come last.
    reverse = np.lexsort((-list_places(past.lengths), past.row))
    return _followed_by(past._replace(values=past.values[reverse]), events)


def newer_events(table: pa.Table, history: Ragged) -> Ragged:
    """What of the requests' histories is newer than what is stored of the users: B lists of
    positions, oldest first, -1 outside the corpus. Of users without stored events, all of it.

    Args:
      table: [B] rows of `serving.requests.query_rows.complete`.
      history: B lists of positions, of the requests' histories.
    """
    if STORED_PAST not in table.column_names:
        return history
    ids = table[SEEN].combine_chunks()
    return history.where(_newer(table, ids, table[STORED_PAST].combine_chunks()))


def overlap(stored: np.ndarray, history: np.ndarray) -> int:
    """How many entries of a history, from its start, are of the time that is stored.

    Args:
      stored: [L] int64, numbers of the newest stored events, oldest first.
      history: [M] int64, those of a request's history, oldest first.

    Returns: the end of the longest stretch of the history that is the end of what is stored, and
    that is all of it unless the history begins with it; 0 without one.
    """
    width = stored.itemsize
    known = stored.tobytes()
    given = history.tobytes()
    # All that is stored, somewhere in a history that goes further back.
    if len(known) and len(given) > len(known):
        end = given.rfind(known)
        while end > 0 and end % width:
            end = given.rfind(known, 0, end + len(known) - 1)
        if end >= 0:
            return (end + len(known)) // width
    for length in range(min(len(stored), len(history)), 0, -1):
        if known.endswith(given[: length * width]):
            return length
    return 0


def least_counts(past: Ragged, tail: Ragged) -> np.ndarray:
    """How often users had each item of their past, at the least, [E] int64.

    The stored order is by frequency, so that an item was had no less often than any behind it. The
    counts are exact where the stored history holds all events of the window.

    Args:
      past: B lists of positions, distinct ones, the most frequent first.
      tail: B lists of positions, the newest events.
    """
    width = 2 + max(int(past.values.max(initial=0)), int(tail.values.max(initial=0)))
    keys, of_tail = np.unique(tail.row * width + tail.values + 1, return_counts=True)
    wanted = past.row * width + past.values + 1
    counts = np.ones(len(wanted), np.int64)
    if not len(keys):
        return counts
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    is_there = (keys[place] == wanted) & (past.values >= 0)
    counts[is_there] = of_tail[place[is_there]]
    # From each list's end the largest so far; adding a step per list keeps lists apart.
    step = int(counts.max(initial=0)) + 1
    lift = (past.rows - past.row) * step
    largest: np.ndarray = np.maximum.accumulate((counts + lift)[::-1])[::-1] - lift
    return largest


def joined(past: Ragged, counts: np.ndarray, new: Ragged) -> Ragged:
    """The past with newer events, in its order: the most frequent first, then the most recent.

    Args:
      past: B lists of positions, as stored.
      counts: [E] int64, how often each was had.
      new: B lists of positions, newer events, oldest first. -1 is left out.
    """
    if not len(new.values):
        return past
    # Of a busy server's queries most bring nothing new: their pasts stay as they are.
    moves = (new.lengths > 0)[past.row]
    moving = past.where(moves)
    query = np.concatenate([moving.row, new.row])
    item = np.concatenate([moving.values, new.values])
    count = np.concatenate([counts[moves], np.ones(len(new.values), np.int64)])
    # Stored items are older than new ones; among themselves they stand in order already.
    recency = np.concatenate([-1 - list_places(moving.lengths), list_places(new.lengths)])
    known = item >= 0
    width = int(item.max()) + 1
    pair, entry = np.unique((query * width + item)[known], return_inverse=True)
    counts_of = np.bincount(entry, weights=count[known], minlength=len(pair))
    newest = np.full(len(pair), np.iinfo(np.int64).min)
    np.maximum.at(newest, entry, recency[known])
    query, item = np.divmod(pair, max(width, 1))
    order = np.lexsort((-newest, -counts_of, query))
    return _in_order(past.where(~moves), Ragged(item[order], query[order], past.rows))


def _in_order(one: Ragged, other: Ragged) -> Ragged:
    """The lists of both, those of `one` first where a list has values of both."""
    row = np.concatenate([one.row, other.row])
    order = np.argsort(row, kind="stable")
    return Ragged(np.concatenate([one.values, other.values])[order], row[order], one.rows)


def _newer(table: pa.Table, histories: pa.Array, stored: pa.Array) -> np.ndarray:
    """Which entries of the requests' histories are newer than what is stored, [M] bool."""
    lengths = list_lengths(histories)
    added = np.ones(int(lengths.sum()), bool)
    ends = np.cumsum(lengths)
    both = np.flatnonzero((lengths > 0) & (list_lengths(stored) > 0))
    if not len(both):
        return added
    has_tail = STORED_HISTORY in table.column_names
    other = table[STORED_HISTORY].combine_chunks() if has_tail else stored
    # Ids as numbers: items outside the corpus are told apart too.
    values = pa.concat_arrays([histories.flatten(), other.flatten().cast(pa.string())])
    codes = values.dictionary_encode().indices.to_numpy(zero_copy_only=False).astype(np.int64)
    given = codes[: len(added)]
    known = codes[len(added) :]
    other_ends = np.cumsum(list_lengths(other))
    other_lengths = list_lengths(other)
    for row in both:
        start = ends[row] - lengths[row]
        of_row = slice(start, ends[row])
        of_user = known[other_ends[row] - other_lengths[row] : other_ends[row]]
        if has_tail:
            added[start : start + overlap(of_user, given[of_row])] = False
        else:
            added[of_row] = ~np.isin(given[of_row], of_user)
    return added


def _followed_by(earlier: Ragged, later: Ragged) -> Ragged:
    """Lists, and behind them later ones, whose items stand there alone."""
    width = 2 + max(int(earlier.values.max(initial=0)), int(later.values.max(initial=0)))
    again = np.isin(earlier.row * width + earlier.values, later.row * width + later.values)
    return _in_order(earlier.where(~again), later)


def _positions(version: Version, table: pa.Table) -> _Places:
    """The lists of ids in a table as positions in the corpus, -1 outside."""
    places: dict[str, Ragged] = {}
    for name in _LISTS:
        if name in table.column_names:
            lists = table[name].combine_chunks()
            rows = version.rows(lists.flatten()).astype(np.int64)
            places[name] = Ragged.of_lengths(rows, list_lengths(lists))
    return places
