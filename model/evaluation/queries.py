"""Which rows of `evaluation/` and of `examples/` a version is measured on.

next-day    One query per user with a past and a positive on the day, as things stood at its start.
newcomers   The same for users without an event in the longest window of users. They are asked with the
            context of their first event of the day, and with what is known of them otherwise. They
            count in their own slice, and not in the headline.
next-click  One query per event, as things stood just before it.

Users are held out of training by a hash of user and day: those whose hash lies below
`evaluation.holdout`. So the users of a smaller share are among the users of a larger one. Whoever
today's share holds out of an earlier day was unseen by a version only if the share was no smaller
each time that the version, or an ancestor of it, was trained on that day. Each version therefore
records the shares of its line (`held_out_shares`).
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
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.search.ragged import arrow_lists, list_lengths, list_offsets, list_places

HOLDOUT_DAYS = 7
"""The most days whose held-out users are put together: the day itself and six before it."""

Shares = Mapping[str, float]
"""By day: the smallest share that was held out whenever a version of the line was trained on it."""

_ROW = "_row"


class SelectedRows:
    """Parquet files of which few rows are wanted whole.

    A day of millions of users has millions of histories, of which ten thousand are evaluated. So a
    few narrow columns are read of all rows, rows are chosen by them, and the other columns are read
    of the row groups that hold chosen rows.

    Attributes:
      narrow: the columns by which rows are chosen, of all rows, and the row's number, `_row`.
    """

    def __init__(
        self, folder: Path, narrow: Sequence[str], columns: Sequence[str], empty: pa.Table
    ) -> None:
        """Reads the narrow columns.

        Args:
          folder: where the files are; it may not exist.
          narrow: columns to choose rows by.
          columns: columns of the chosen rows.
          empty: the table that a folder without files stands for.
        """
        self._files = sorted(folder.glob("*.parquet"))
        self._columns = list(columns)
        self._empty = empty.select(self._columns)
        if self._files:
            dataset = ds.dataset([str(file) for file in self._files], format="parquet")
            table = dataset.to_table(columns=list(narrow))
        else:
            table = empty.select(list(narrow))
        self.narrow = table.append_column(_ROW, pa.array(np.arange(table.num_rows)))

    def read(self, chosen: pa.Table) -> pa.Table:
        """Rows of `narrow`, ascending by number, with all columns."""
        rows = chosen.column(_ROW).to_numpy()
        tables = [self._empty]
        first = 0
        for path in self._files:
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    end = first + file.metadata.row_group(group).num_rows
                    inside = rows[np.searchsorted(rows, first) : np.searchsorted(rows, end)]
                    if len(inside):
                        table = file.read_row_group(group, self._columns).select(self._columns)
                        tables.append(table.take(pa.array(inside - first)))
                    first = end
        return pa.concat_tables(tables, promote_options="default")


def progressive_rows(evaluation: pa.Table, day: date, max_users: int) -> pa.Table:
    """The day's own queries: at most `max_users` of users with a past, and as many of newcomers.

    Beyond that, the users whose hash comes first are taken, in the order of the table.
    """
    return _at_most(evaluation.filter(pc.equal(evaluation.column("_day"), day)), max_users)


def holdout_rows(
    evaluation: pa.Table, day: date, *, earlier: Collection[date], min_users: int, max_users: int
) -> pa.Table:
    """Queries of users held out of training: the day's and, if they are too few, earlier days'.

    Args:
      evaluation: rows of `evaluation/`.
      day: the day that was trained on.
      earlier: earlier days whose held-out users may be taken, from `unseen_users_on`.
      min_users: distinct users with a past that are enough to judge a version.
      max_users: the most queries of users with a past, and the most of newcomers.
    """
    days = pa.array([*earlier, day], pa.date32())
    allowed = pc.is_in(evaluation.column("_day"), value_set=days)
    held_out = evaluation.filter(pc.and_(evaluation.column("_holdout"), allowed))
    # Whole days are added, so that who judges a version does not depend on the order of rows.
    for back in range(HOLDOUT_DAYS):
        first = day - timedelta(days=back)
        chosen = held_out.filter(_between(held_out.column("_day"), first, day))
        with_past = chosen.filter(pa.array(has_past(chosen)))
        if pc.count_distinct(with_past.column("_user")).as_py() >= min_users:
            break
    return _at_most(chosen, max_users)


def at_most_events(examples: pa.Table, max_events: int) -> pa.Table:
    """At most `max_events` rows, in the order of the table.

    Those rows are taken whose hash of user, time and item comes first, so that the choice does not
    depend on the order in which a job wrote them.
    """
    if examples.num_rows <= max_events:
        return examples
    texts = []
    for name in ("_user", "_time", "_item"):
        column = examples.column(name)
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64()).cast(pa.string())
        texts.append(column)
    return examples.take(_first_by_hash(pc.binary_join_element_wise(*texts, "|"), max_events))


def next_click_rows(examples: pa.Table, history: str | None) -> pa.Table:
    """A query per event: `_truth` (its one item), `_past` (its history, newest first), and all
    columns of the example.

    Args:
      examples: rows of `examples/dt=D/`.
      history: the column with the events before, oldest first; None if there is none.
    """
    items = examples.column("_item").combine_chunks()
    if history:
        past = examples.column(history).combine_chunks()
    else:
        past = pa.nulls(len(items), pa.list_(pa.string()))
    offsets = pa.array(np.arange(len(items) + 1, dtype=np.int32))
    truth = pa.ListArray.from_arrays(offsets, items)
    return examples.append_column("_truth", truth).append_column("_past", _reversed(past))


def has_past(rows: pa.Table) -> np.ndarray:
    """[U] bool: whether a query counts in the headline, as those of newcomers do not.

    Without a column `_past_events` nothing tells newcomers apart, and all queries count.
    """
    if "_past_events" not in rows.column_names:
        return np.ones(rows.num_rows, bool)
    known: np.ndarray = rows.column("_past_events").to_numpy() > 0
    return known


def unseen_users_on(ctx: StageContext) -> set[date]:
    """Earlier days on which users held out by today's share are unseen: neither the day's version
    nor its parent was trained on them.
    """
    shares = _shares_of_parent(ctx)
    share = ctx.pipeline.evaluation.holdout
    return {day for day in _recent_days(ctx.day) if shares.get(str(day), 1.0) >= share}


def shares_after(ctx: StageContext, days: Collection[date]) -> Shares:
    """The shares that the version of the day records.

    Args:
      ctx: pipeline, day, mode and parent.
      days: the days that it was trained on now.
    """
    # Trained from scratch, a version has seen nothing of what its parent had seen.
    before = _shares_of_parent(ctx) if ctx.mode == "incremental" else {}
    recent = [*_recent_days(ctx.day), ctx.day]
    inherited = {str(day): before[str(day)] for day in recent if str(day) in before}
    own = {str(day): ctx.pipeline.evaluation.holdout for day in recent if day in days}
    return inherited | own


def _shares_of_parent(ctx: StageContext) -> Shares:
    """What the parent recorded.

    Of a parent without a record nobody knows whom its line was trained on, so no user is unseen: a
    share of 0 held nobody out.
    """
    if ctx.parent is None:
        return {}
    parent = DayMetrics.find(ctx.parent.home)
    shares = parent.held_out_shares if parent else {}
    return shares or {str(day): 0.0 for day in _recent_days(ctx.day)}


def _recent_days(day: date) -> list[date]:
    """The days before `day` that held-out users may be taken from, oldest first."""
    return [day - timedelta(days=back) for back in range(HOLDOUT_DAYS - 1, 0, -1)]


def _between(days: pa.ChunkedArray, first: date, last: date) -> pa.ChunkedArray:
    return pc.and_(pc.greater_equal(days, first), pc.less_equal(days, last))


def _at_most(rows: pa.Table, limit: int) -> pa.Table:
    """At most `limit` rows of users with a past, and as many of newcomers."""
    known = has_past(rows)
    if max(known.sum(), (~known).sum()) <= limit:
        return rows
    user = rows.column("_user")
    kept = []
    for group in (np.flatnonzero(known), np.flatnonzero(~known)):
        kept.append(group[_first_by_hash(user.take(group), limit)])
    return rows.take(np.sort(np.concatenate(kept)))


def _first_by_hash(keys: pa.ChunkedArray, limit: int) -> np.ndarray:
    """Positions of the `limit` keys whose hash comes first, ascending."""
    return np.sort(np.argsort(fingerprint(keys), kind="stable")[:limit])


def _reversed(lists: pa.ListArray) -> pa.ListArray:
    """The same lists, each back to front; null becomes empty."""
    lengths = list_lengths(lists)
    last = list_offsets(lengths)[1:] - 1
    backwards = np.repeat(last, lengths) - list_places(lengths)
    return arrow_lists(lengths, lists.flatten().take(pa.array(backwards)))
