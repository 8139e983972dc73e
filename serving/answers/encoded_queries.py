"""The inputs of the sources: a request's vector from the query tower, and the user's purchase history.

The version stores one part of the history, and the request may contain another. A version stores the items of the whole
window as of its day, the most frequent first (`_past`), the number of their events, and the newest events
in order, the stored history. A request's history is often short, and may begin before the version's day.
The two parts overlap where the end of the stored history equals the start of the request's.

    stored history     a b c d e
    request's              c d e b f      new: b f
                     z a b c d e b f      new: b f, of a history longer than the stored one
                                 b f      new: b f, as nothing overlaps

Only new events are added to the stored ones, so no event counts twice. If a version stores no events in
order, all items that are not stored are new.

Sources that use the last items want an order instead: all stored items, then the stored history, then
the request's.

B queries, E entries: pairs of a query and an item.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from serving.requests.json_values import Refused
from serving.requests.query_rows import (
    STORED_EVENTS,
    STORED_HISTORY,
)
from serving.requests.request_model import SEEN
from serving.version.loaded_version import Version
from serving.version.user_store import STORED_PAST
from twinspire_core.config.source_registry import POPULAR, RANKED, TWO_TOWER
from twinspire_core.fusion.rank_fusion import FixedOrder
from twinspire_core.search.ragged import Ragged, list_lengths, list_places
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.source import Queries
from twinspire_core.sources.user_histories import ITEMS, PersonalCounts

_LISTS = (SEEN, STORED_PAST, STORED_HISTORY, ITEMS)
# B lists of rows of the corpus (-1 outside), by the column of item ids that they are read from.
_Positions = Mapping[str, Ragged]


class EncodedQueries(NamedTuple):
    """The inputs for the lists of B queries.

    Attributes:
      vectors: [B, D] float32, of the query tower; [B, 0] if the two-tower is not needed.
      queries: the queries as all other sources read them.
      fixed_order: the version's fixed order at this moment. Events may change it during an answer.
      sources: the version's other sources at this moment, which events may change as well.
      is_popular: [B] bool, queries that get recently popular items instead of the two-tower's list; None
        if there are none.
    """

    vectors: np.ndarray
    queries: Queries
    fixed_order: FixedOrder | None = None
    sources: CandidateSources | None = None
    is_popular: np.ndarray | None = None

    def take(self, queries: np.ndarray) -> "EncodedQueries":
        """The queries with the given numbers, [K] int64 ascending."""
        popular = None if self.is_popular is None else self.is_popular[queries]
        return self._replace(
            vectors=self.vectors[queries], queries=self.queries.take(queries), is_popular=popular
        )


def encode_queries(
    version: Version, table: pa.Table, source: str, is_popular: np.ndarray | None = None
) -> EncodedQueries:
    """Prepares only the inputs that a source needs for B requests.

    Args:
      table: [B] rows of `serving.requests.query_rows.complete`.
      source: the source of the lists, as `Version.choose_source` gives it.
      is_popular: [B] bool, queries that get recently popular items instead of the two-tower's list.

    Raises:
      Refused: the query tower has no finite vector for a request.
    """
    if source == TWO_TOWER:
        nothing = np.zeros(0, np.int64)
        no_history = Ragged(nothing, nothing, len(table))
        encoded = EncodedQueries(encode_finite(version, table), Queries.of_past(no_history))
        if is_popular is None or not is_popular.any():
            return encoded
        return encoded._replace(sources=version.candidate_sources, is_popular=is_popular)
    # The order first: updates replace the sources before the fixed order that names them, so a newer
    # order never meets older sources.
    order = version.fixed_order
    sources = version.candidate_sources
    if source != RANKED and TWO_TOWER not in version.sources_of(source):
        queries = read_queries(version, table, personal=source != POPULAR)
        return EncodedQueries(np.zeros((len(table), 0), np.float32), queries, order, sources)
    queries = read_queries(version, table, personal=True)
    return EncodedQueries(encode_finite(version, table), queries, order, sources)


def encode_finite(version: Version, table: pa.Table) -> np.ndarray:
    """The query tower's vectors of B completed requests, [B, D] float32.

    Raises:
      Refused: the tower has no finite vector for a request.
    """
    vectors = version.encode(table)
    bad = np.flatnonzero(~np.isfinite(vectors).all(1))
    if len(bad):
        raise Refused(
            int(bad[0]),
            "The query tower must return finite vectors; for these features it does not. A number is"
            " probably far outside the range of the training data. Check the numbers",
            "out_of_range",
        )
    return vectors


def read_queries(version: Version, table: pa.Table, *, personal: bool) -> Queries:
    """The purchase histories of B requests: the requests' own, joined with the stored ones.

    Args:
      table: [B] rows of `serving.requests.query_rows.complete`.
      personal: whether to read decayed counts as well.
    """
    places = _positions(version, table)
    new = newer_events(table, places[SEEN])
    past, events = _read_past(table, places, new)
    counts = _read_personal(table, places, new, past) if personal else None
    return Queries(past=past, events=events, personal=counts)


def _read_past(table: pa.Table, places: _Positions, new: Ragged) -> tuple[Ragged, np.ndarray]:
    """The items that users had, the most frequent first, and of equals the most recent; and [B] int64, the
    number of events.
    """
    if STORED_PAST not in places:
        return PersonalCounts.of_histories(new).items, new.lengths
    stored_events = table[STORED_EVENTS].fill_null(0).to_numpy()
    past = places[STORED_PAST]
    # Counts are needed only for users with new items, to rank stored items against them.
    counts = np.ones(len(past.values), np.int64)
    moves = (new.lengths > 0)[past.row]
    if STORED_HISTORY in places and moves.any():
        counts[moves] = least_counts(past.where(moves), places[STORED_HISTORY])
    return joined(past, counts, new), stored_events + new.lengths


def _read_personal(
    table: pa.Table, places: _Positions, new: Ragged, past: Ragged
) -> PersonalCounts:
    """Decayed counts of the items that users had: the stored counts plus 1 for each newer event. Without
    stored counts, 1 for each known event.
    """
    # A weight of 1 is the weight of an event of this moment, because requests have no times.
    stored = PersonalCounts.of_rows(table, places.get(ITEMS))
    if stored is not None and not len(new.values):
        return stored
    if stored is None:
        return PersonalCounts.of_histories(_known_events(places, past))
    has_new = new.lengths > 0
    counts = PersonalCounts.of_histories(new)
    moving = stored.where(has_new)
    if len(moving.items.values):  # most requests with a history are of unknown users
        counts = moving.plus(counts)
    return counts.or_else(stored, has_new)


def _known_events(places: _Positions, past: Ragged) -> Ragged:
    """All known events, stored or in a request: B lists of rows, oldest first, -1 outside the corpus. Each
    item is listed once, where it was taken last.
    """
    events = places[SEEN]
    if not {STORED_PAST, STORED_HISTORY} & places.keys():
        return events
    if STORED_HISTORY in places:
        events = _followed_by(places[STORED_HISTORY], events)
    # All other stored items were taken earlier, at unknown times. The most frequent come last.
    reverse = np.lexsort((-list_places(past.lengths), past.row))
    return _followed_by(past._replace(values=past.values[reverse]), events)


def newer_events(table: pa.Table, history: Ragged) -> Ragged:
    """The events in requests' histories that are newer than the stored ones: B lists of rows, oldest
    first, -1 outside the corpus. Without stored events, the whole history.

    Args:
      table: [B] rows of `serving.requests.query_rows.complete`.
      history: B lists of rows, the requests' whole histories.
    """
    if STORED_PAST not in table.column_names:
        return history
    stored = table[STORED_PAST].combine_chunks()
    both = np.flatnonzero((history.lengths > 0) & (list_lengths(stored) > 0))
    if not len(both):
        return history
    return history.where(_newer(table, table[SEEN].combine_chunks(), stored, both))


def overlap(stored: np.ndarray, history: np.ndarray) -> int:
    """The number of entries at the start of a request's history that are stored already, or are older.

    Args:
      stored: [L] int64, items of the newest stored events, oldest first.
      history: [M] int64, items of a request's history, oldest first.

    Returns: the position after the stored events, if the history contains all of them; else the length of
    the longest start of the history that is an end of the stored events; else 0.
    """
    width = stored.itemsize
    known = stored.tobytes()
    given = history.tobytes()
    # A history that goes further back has all stored events in its middle. The search is in bytes, so a
    # match must begin at the start of a number.
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
    """The least number of times that users had each item of their stored history, [E] int64. It is exact if
    the stored events are all events of the window.

    Args:
      past: B lists of distinct rows, the most frequent first.
      tail: B lists of rows, the newest events.
    """
    width = 2 + max(int(past.values.max(initial=0)), int(tail.values.max(initial=0)))
    keys, of_tail = np.unique(tail.row * width + tail.values + 1, return_counts=True)
    wanted = past.row * width + past.values + 1
    counts = np.ones(len(wanted), np.int64)
    if not len(keys):  # no stored events in order: each item was had once at least
        return counts
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    is_there = (keys[place] == wanted) & (past.values >= 0)
    counts[is_there] = of_tail[place[is_there]]
    # Lists are ordered by frequency, so an item has at least the count of any item after it: the largest
    # count so far, from the end of each list. A step for each list keeps lists apart.
    step = int(counts.max(initial=0)) + 1
    lift = (past.rows - past.row) * step
    return np.maximum.accumulate((counts + lift)[::-1])[::-1] - lift


def joined(past: Ragged, counts: np.ndarray, new: Ragged) -> Ragged:
    """Stored histories with newer events, the most frequent items first, then the most recent.

    Args:
      past: B lists of rows, as stored.
      counts: [E] int64, how often each of these was had.
      new: B lists of rows, newer events, oldest first; -1 is left out.
    """
    if not len(new.values):
        return past
    # Most queries have no new items. Their histories stay as they are, which saves time.
    moves = (new.lengths > 0)[past.row]
    moving = past.where(moves)
    query = np.concatenate([moving.row, new.row])
    item = np.concatenate([moving.values, new.values])
    count = np.concatenate([counts[moves], np.ones(len(new.values), np.int64)])
    # Stored items are older than new ones, and are in order among themselves.
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


def _in_order(first: Ragged, then: Ragged) -> Ragged:
    """Joins the lists, with the values of `first` before those of `then` in each list."""
    row = np.concatenate([first.row, then.row])
    order = np.argsort(row, kind="stable")
    return Ragged(np.concatenate([first.values, then.values])[order], row[order], first.rows)


def _newer(table: pa.Table, histories: pa.Array, stored: pa.Array, both: np.ndarray) -> np.ndarray:
    """Whether each entry of the requests' histories is newer than the stored events, [M] bool.

    Args:
      both: the requests that have a history, and whose users have a stored one.
    """
    lengths = list_lengths(histories)
    added = np.ones(int(lengths.sum()), bool)
    ends = np.cumsum(lengths)
    has_tail = STORED_HISTORY in table.column_names
    other = table[STORED_HISTORY].combine_chunks() if has_tail else stored
    # Ids get new numbers here. As rows of the corpus, all unknown items would be -1, and so equal.
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
    """Lists followed by later lists. An item in both stays only in the later one."""
    width = 2 + max(int(earlier.values.max(initial=0)), int(later.values.max(initial=0)))
    again = np.isin(earlier.row * width + earlier.values, later.row * width + later.values)
    return _in_order(earlier.where(~again), later)


def _positions(version: Version, table: pa.Table) -> _Positions:
    """The columns of item ids in a table, as rows of the corpus."""
    places: dict[str, Ragged] = {}
    for name in _LISTS:
        if name in table.column_names:
            lists = table[name].combine_chunks()
            rows = version.rows(lists.flatten()).astype(np.int64)
            places[name] = Ragged.of_lengths(rows, list_lengths(lists))
    return places
