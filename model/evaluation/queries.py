"""Who is asked what: rows of `evaluation/` and of `examples/` that a version is measured on
(SEMANTICS 4.1).

next-day    one query per user with a past and a positive on the day, as things stood at its start
newcomers   the same for users without a past in the history window, asked with the context of their first event of the
            day and what is known of them otherwise. They count in their slice alone, not in the
            headline
next-click  one query per event, as things stood just before it
"""

from collections.abc import Collection
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.item_fingerprint import fingerprint
from twinspire_core.search.ragged import Ragged

HOLDOUT_DAYS = 7
"""Days of held-out users that are put together at most."""


def progressive_rows(evaluation: pa.Table, day: date, max_users: int) -> pa.Table:
    """The day's own queries; of those with a past, and of newcomers, `max_users` at the most.

    Beyond that, those whose user's hash comes first, in the table's order.
    """
    return _at_most(evaluation.filter(pc.equal(evaluation.column("_day"), day)), max_users)


def holdout_rows(
    evaluation: pa.Table, day: date, *, earlier: Collection[date], min_users: int, max_users: int
) -> pa.Table:
    """Queries of users held out of training: the day's, and while they are too few, those of the
    days before.

    Args:
      evaluation: rows of `evaluation/`.
      day: the day trained on.
      earlier: days before it whose held-out users may be taken (model/evaluation/held_out_days.py).
      min_users: distinct users with a past that are enough to judge.
      max_users: the most queries with a past, and the most of newcomers.
    """
    days = pa.array([*earlier, day], pa.date32())
    held = evaluation.filter(
        pc.and_(evaluation.column("_holdout"), pc.is_in(evaluation.column("_day"), value_set=days))
    )
    for back in range(HOLDOUT_DAYS):
        chosen = held.filter(_between(held.column("_day"), day - timedelta(days=back), day))
        if (
            pc.count_distinct(chosen.filter(pa.array(has_past(chosen))).column("_user")).as_py()
            >= min_users
        ):
            break
    return _at_most(chosen, max_users)


def at_most_events(examples: pa.Table, max_events: int) -> pa.Table:
    """`max_events` rows at the most: those whose hash of user, time and item comes first, in the
    table's order.
    """
    if examples.num_rows <= max_events:
        return examples
    parts = (examples.column(name) for name in ("_user", "_time", "_item"))
    text = (
        part.cast(pa.int64()).cast(pa.string()) if pa.types.is_timestamp(part.type) else part
        for part in parts
    )
    return examples.take(_first(pc.binary_join_element_wise(*text, "|"), max_events))


def next_click_rows(examples: pa.Table, history: str | None) -> pa.Table:
    """A query per event: `_user`, `_truth` (its one item), `_past` (its history, newest first), and
    all other columns.

    Args:
      examples: rows of `examples/dt=D/`.
      history: the column that holds the events before, oldest first; None if there is none.
    """
    items = examples.column("_item").combine_chunks()
    past = (
        examples.column(history).combine_chunks()
        if history
        else pa.nulls(len(items), pa.list_(pa.string()))
    )
    truth = pa.ListArray.from_arrays(pa.array(np.arange(len(items) + 1, dtype=np.int32)), items)
    return examples.append_column("_truth", truth).append_column("_past", _reversed(past))


def distinct_rows(rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Tells equal rows, for what is asked several times.

    Args:
      rows: N of them; a list may be null, which is as good as empty.

    Returns: the first row of each kind, [Q] int64; and which of these each row equals, [N] int64.
    """
    codes = np.ascontiguousarray(
        np.concatenate([_codes(column.combine_chunks()) for column in rows.columns], axis=1)
    )
    whole = codes.view(np.dtype((np.void, codes.itemsize * codes.shape[1])))
    _, first, place = np.unique(whole.ravel(), return_index=True, return_inverse=True)
    return first, place


def _codes(column: pa.Array) -> np.ndarray:
    """A column's values as numbers, equal ones as equal numbers: [N, 1] int32, or of lists [N, L];
    -1 is none.
    """
    if not pa.types.is_list(column.type):
        return _numbered(column)[:, None]
    lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    lists = Ragged(
        _numbered(column.flatten()), np.repeat(np.arange(len(column)), lengths), len(column)
    )
    return lists.padded().astype(np.int32)


def _numbered(values: pa.Array) -> np.ndarray:
    return values.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)


def has_past(rows: pa.Table) -> np.ndarray:
    """[U] bool: whether a query counts in the headline. All do where no `_past_events` says who is
    a newcomer.
    """
    if "_past_events" not in rows.column_names:
        return np.ones(rows.num_rows, bool)
    return rows.column("_past_events").to_numpy() > 0


def _between(days: pa.ChunkedArray, first: date, last: date) -> pa.ChunkedArray:
    return pc.and_(pc.greater_equal(days, first), pc.less_equal(days, last))


def _at_most(rows: pa.Table, limit: int) -> pa.Table:
    known = has_past(rows)
    if max(known.sum(), (~known).sum()) <= limit:
        return rows
    user = rows.column("_user")
    kept = [
        kind[_first(user.take(kind), limit)]
        for kind in (np.flatnonzero(known), np.flatnonzero(~known))
    ]
    return rows.take(np.sort(np.concatenate(kept)))


def _first(keys: pa.ChunkedArray, limit: int) -> np.ndarray:
    """Places of the `limit` keys whose hash comes first, ascending."""
    return np.sort(np.argsort(fingerprint(keys), kind="stable")[:limit])


def _reversed(lists: pa.ListArray) -> pa.ListArray:
    lengths = (
        pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    )
    ends = np.cumsum(lengths)
    row = np.repeat(np.arange(len(lengths)), lengths)
    backwards = (ends - 1)[row] - (np.arange(len(row)) - (ends - lengths)[row])
    offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, lists.flatten().take(pa.array(backwards)))
