"""Who is asked what: rows of `evaluation/` and of `examples/` that a version is measured on
(SEMANTICS 4.1).

next-day    one query per user with a past and a positive on the day, as things stood at its start
newcomers   the same for users without a past in the history window, asked with the context of their first event of the
            day and what is known of them otherwise. They count in their slice alone, not in the
            headline
next-click  one query per event, as things stood just before it
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from model.item_fingerprint import fingerprint
from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.contracts.stage_context import StageContext
from twinspire_core.search.ragged import arrow_lists, list_lengths, list_offsets, list_places

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
      earlier: days before it whose held-out users may be taken (model/evaluation/queries.py).
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


def has_past(rows: pa.Table) -> np.ndarray:
    """[U] bool: whether a query counts in the headline. All do where no `_past_events` says who is
    a newcomer.
    """
    if "_past_events" not in rows.column_names:
        return np.ones(rows.num_rows, bool)
    known: np.ndarray = rows.column("_past_events").to_numpy() > 0
    return known


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
    lengths = list_lengths(lists)
    last = list_offsets(lengths)[1:] - 1
    backwards = np.repeat(last, lengths) - list_places(lengths)
    return arrow_lists(lengths, lists.flatten().take(pa.array(backwards)))


_ROW = "_row"


class SelectedRows:
    """The Parquet files of a folder.

    Attributes:
      narrow: the columns by which rows are chosen, of all rows, and their number, `_row`.
    """

    def __init__(
        self, folder: Path, narrow: Sequence[str], columns: Sequence[str], none: pa.Table
    ) -> None:
        """Reads the narrow columns.

        Args:
          folder: it may not be there.
          narrow: columns to choose by.
          columns: columns of the rows that are chosen.
          none: what a folder without files holds.
        """
        self._files, self._columns = sorted(folder.glob("*.parquet")), list(columns)
        self._none = none.select(self._columns)
        dataset = (
            ds.dataset([str(file) for file in self._files], format="parquet")
            if self._files
            else None
        )
        found = dataset.to_table(columns=list(narrow)) if dataset else none.select(list(narrow))
        self.narrow = found.append_column(_ROW, pa.array(np.arange(found.num_rows)))

    def whole(self, chosen: pa.Table) -> pa.Table:
        """Rows of `narrow`, in its order, with all columns."""
        rows, first, found = chosen.column(_ROW).to_numpy(), 0, [self._none]
        for path in self._files:
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    size = file.metadata.row_group(group).num_rows
                    inside = rows[
                        np.searchsorted(rows, first) : np.searchsorted(rows, first + size)
                    ]
                    if len(inside):
                        part = file.read_row_group(group, self._columns).select(self._columns)
                        found.append(part.take(pa.array(inside - first)))
                    first += size
        return pa.concat_tables(found, promote_options="default")


Shares = Mapping[str, float]
"""By day, for the days that held-out users are taken from: the smallest share held out by whoever
trained on it.
"""


def unseen_users_on(ctx: StageContext) -> set[date]:
    """Earlier days whose users held out by today's share neither the day's version nor its parent
    was trained on.
    """
    shares, share = _of_parent(ctx), ctx.pipeline.evaluation.holdout
    return {day for day in _recent(ctx.day) if shares.get(str(day), 1.0) >= share}


def shares_after(ctx: StageContext, days: Collection[date]) -> Shares:
    """What the version of the day records.

    Args:
      ctx: pipeline, day, mode and parent.
      days: trained on now.
    """
    before = _of_parent(ctx) if ctx.mode == "incremental" else {}
    recent = [*_recent(ctx.day), ctx.day]
    own = {str(day): ctx.pipeline.evaluation.holdout for day in recent if day in days}
    return {str(day): before[str(day)] for day in recent if str(day) in before} | own


def _of_parent(ctx: StageContext) -> Shares:
    """The parent's record. Of a version that has none it is unknown on whom it was trained: nobody
    is a stranger.
    """
    if ctx.parent is None:
        return {}
    unknown = {str(day): 0.0 for day in _recent(ctx.day)}
    parent = DayMetrics.find(ctx.parent.home)
    recorded = parent.held_out_shares if parent else None
    return unknown if recorded is None else recorded


def _recent(day: date) -> list[date]:
    """The days before that held-out users may be taken from, oldest first."""
    return [day - timedelta(days=back) for back in range(HOLDOUT_DAYS - 1, 0, -1)]
