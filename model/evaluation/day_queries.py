"""The queries by which versions are measured on a day: rows that are chosen from the attempt
of the features stage.

next-day    One query for each user with a past and a positive on the day, as of the day's start.
newcomers   The same for users without an event in the longest window of users. Their context is that
            of their first event of the day. They count in a slice of their own, not in the headline.
next-click  One query for each event, as of the moment before it.
by history  Next-day queries as a server gets them from users it stores nothing about: with a
            history without times. The ranker is fitted on these too.

Users are held out of training whose hash of user and day is below `evaluation.holdout`. Those whom
today's share holds out of an earlier day are unseen by a version only if the share was at least as
large each time that the version, or an ancestor of it, was trained on that day. So each version
records the shares of its line (`held_out_shares`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from model.item_fingerprint import fingerprint
from twinspire_core import storage
from twinspire_core.config.feature_kinds import TimeFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import feature_schema, ranker_files
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.search.ragged import (
    arrow_lists,
    list_lengths,
    list_offsets,
    list_places,
    newest_of,
)
from twinspire_core.storage import parquet_files

MAX_USERS = 10_000
"""The most users measured: intervals of so many are narrow enough to judge a version."""
HOLDOUT_DAYS = 7
"""The most days whose held-out users are put together: the day itself and six before it."""
NEXT_DAY = "next day"
"""Name of the evaluation set of the day's users: one query per user."""
HELD_OUT = "next day, held out"
"""The same of users held out of training; of earlier days too, where the day has too few."""
NEXT_CLICK = "next click"
"""Name of the evaluation set of the day's events: one query per event."""
HELD_OUT_CLICKS = "next click, held out"
"""The same of users held out of training."""
BY_HISTORY = "next day, by history"
"""The day's users who are not held out, asked by a history alone. Not there without a ranker or a
history.
"""

Shares = Mapping[str, float]
"""By day: the smallest share that was held out whenever a version of the line was trained on it."""

_ROW = "_row"


@dataclass(frozen=True, slots=True, kw_only=True)
class DayQueries:
    """The queries by which versions are measured on a day.

    Attributes:
      corpus: rows of `corpus/start/`: the items with their counts as of the start of the day.
      queries: by the names above, a row per query: raw features, and what `prepare` reads.
      by_history: which queries of `NEXT_DAY` are those of `BY_HISTORY`; None without such.
      events: a row per example of the day: `_user`, `_item`, `_time`, `_holdout`.
    """

    corpus: pa.Table
    queries: Mapping[str, pa.Table]
    by_history: np.ndarray | None
    events: pa.Table

    def of(self, names: Sequence[str]) -> dict[str, pa.Table]:
        """The queries of those of the evaluation sets that the day has."""
        return {name: self.queries[name] for name in names if name in self.queries}


def read_queries(ctx: StageContext, features: Path) -> DayQueries:
    """Reads the queries by which versions are measured on a day.

    Args:
      ctx: says which day, and what its pipeline holds out and measures.
      features: local folder of the attempt of the features stage.
    """
    examples = _example_rows(ctx, features)
    queries = _next_day_queries(ctx, features) | _next_click_queries(ctx, examples)
    by_history = None
    if ctx.pipeline.sources.several and ctx.pipeline.history_name:
        by_history, queries[BY_HISTORY] = queries_by_history(
            queries[NEXT_DAY],
            ctx.pipeline,
            most=ranker_files.MOST_OF_A_DAY,
            seed=ctx.day.toordinal(),
        )
    return DayQueries(
        corpus=parquet_files.read_folder(str(features / feature_schema.CORPUS_START)),
        queries=queries,
        by_history=by_history,
        events=examples.narrow,
    )


def localize(ctx: StageContext, names: Sequence[str], folder: Path) -> Path:
    """`local_parts` of the features attempt: what `read_queries` reads, and the named parts."""
    examples = storage.join(feature_schema.EXAMPLES, feature_schema.day_folder(ctx.day))
    read = (feature_schema.EVALUATION, feature_schema.CORPUS_START, examples)
    return local_parts(ctx.inputs["features"], [*read, *names], folder)


def local_parts(uri: str, names: Sequence[str], folder: Path) -> Path:
    """The place itself if it is local; else `folder`, with the named parts downloaded into it."""
    if not storage.is_remote(uri):
        return Path(uri)
    for name in names:
        storage.localize(storage.join(uri, name), folder / name)
    return folder


def not_held_out(events: pa.Table) -> pa.Table:
    """The events of users that were not held out of training."""
    return events.filter(pc.invert(events.column("_holdout")))


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
          folder: of the files; it may not exist.
          narrow: columns that rows are chosen by.
          columns: what `read` returns of the chosen rows.
          empty: the table that a folder without files stands for.
        """
        self._files = sorted(folder.glob("*.parquet"))
        self._empty = empty.select(list(columns))
        table = empty.select(list(narrow))
        if self._files:
            dataset = ds.dataset([str(file) for file in self._files], format="parquet")
            table = dataset.to_table(columns=list(narrow))
        self.narrow = table.append_column(_ROW, pa.array(np.arange(table.num_rows)))

    def read(self, chosen: pa.Table) -> pa.Table:
        """Rows of `narrow`, ascending by number, with all columns."""
        rows = chosen.column(_ROW).to_numpy()
        columns = self._empty.column_names
        tables = [self._empty]  # has the columns where no row is chosen
        first = 0
        for path in self._files:
            with pq.ParquetFile(path) as file:
                # Group by group: all histories of a file need not fit in memory at a time.
                for group in range(file.num_row_groups):
                    end = first + file.metadata.row_group(group).num_rows
                    inside = rows[np.searchsorted(rows, first) : np.searchsorted(rows, end)]
                    if len(inside):
                        table = file.read_row_group(group, columns).select(columns)
                        tables.append(table.take(pa.array(inside - first)))
                    first = end
        return pa.concat_tables(tables, promote_options="default")


def _next_day_queries(ctx: StageContext, features: Path) -> dict[str, pa.Table]:
    schema = feature_schema.evaluation_schema(ctx.pipeline)
    rows = SelectedRows(
        features / feature_schema.EVALUATION,
        ["_user", "_day", "_holdout", "_past_events"],
        schema.names,
        schema.empty_table(),
    )
    held_out = holdout_rows(
        rows.narrow,
        ctx.day,
        earlier=unseen_users_on(ctx),
        min_users=ctx.pipeline.gate.min_users,
        max_users=MAX_USERS,
    )
    return {
        NEXT_DAY: rows.read(progressive_rows(rows.narrow, ctx.day, MAX_USERS)),
        HELD_OUT: rows.read(held_out),
    }


def progressive_rows(evaluation: pa.Table, day: date, max_users: int) -> pa.Table:
    """The day's own queries: at most `max_users` of users with a past, and as many of newcomers.

    Of more, those whose hash comes first are taken, in the order of the table.
    """
    return _at_most(evaluation.filter(pc.equal(evaluation.column("_day"), day)), max_users)


def holdout_rows(
    evaluation: pa.Table, day: date, *, earlier: Collection[date], min_users: int, max_users: int
) -> pa.Table:
    """Queries of users held out of training: the day's and, if they are too few, earlier days'.

    Args:
      evaluation: rows of the folder `evaluation/`, with at least the narrow columns.
      day: the day that was trained on.
      earlier: earlier days whose held-out users may be taken, from `unseen_users_on`.
      min_users: distinct users with a past that are enough to judge a version.
      max_users: the most queries of users with a past, and the most of newcomers.
    """
    held_out = evaluation.filter(evaluation.column("_holdout"))
    # Whole days are added, so that who judges a version does not depend on the order of rows.
    for back in range(HOLDOUT_DAYS):
        days = [d for d in (*earlier, day) if timedelta(0) <= day - d <= timedelta(days=back)]
        is_near = pc.is_in(held_out.column("_day"), value_set=pa.array(days, pa.date32()))
        chosen = held_out.filter(is_near)
        with_past = chosen.filter(pa.array(has_past(chosen)))
        if pc.count_distinct(with_past.column("_user")).as_py() >= min_users:
            break
    return _at_most(chosen, max_users)


def has_past(rows: pa.Table) -> np.ndarray:
    """[U] bool: whether a query counts in the headline, as those of newcomers do not.

    Without a column `_past_events` nothing tells newcomers apart, and all queries count.
    """
    if "_past_events" in rows.column_names:
        return np.asarray(rows.column("_past_events")) > 0
    return np.ones(rows.num_rows, bool)


def _at_most(rows: pa.Table, limit: int) -> pa.Table:
    """At most `limit` rows of users with a past, and as many of newcomers."""
    has_events = has_past(rows)
    if max(has_events.sum(), (~has_events).sum()) <= limit:
        return rows
    kept = [
        group[_first_by_hash(rows.column("_user").take(group), limit)]
        for group in (np.flatnonzero(has_events), np.flatnonzero(~has_events))
    ]
    return rows.take(np.sort(np.concatenate(kept)))


def _first_by_hash(keys: pa.ChunkedArray, limit: int) -> np.ndarray:
    """Positions of the `limit` keys whose hash comes first, ascending."""
    return np.sort(np.argsort(fingerprint(keys), kind="stable")[:limit])


def _example_rows(ctx: StageContext, features: Path) -> SelectedRows:
    """The day's examples without the features of items; no rows if the day has none."""
    narrow = ["_user", "_item", "_time", "_holdout"]
    if ctx.pipeline.train.auxiliary.weight:
        narrow.append(feature_schema.LABEL)
    query_features = [column.name for column in feature_schema.query_columns(ctx.pipeline)]
    # Features of items come from the corpus, whose vectors are searched.
    return SelectedRows(
        features / feature_schema.EXAMPLES / feature_schema.day_folder(ctx.day),
        narrow,
        [*narrow, *query_features],
        feature_schema.example_schema(ctx.pipeline).empty_table(),
    )


def _next_click_queries(ctx: StageContext, examples: SelectedRows) -> dict[str, pa.Table]:
    # All events of the day, those of users held out too: the parent was trained on none of them.
    events = examples.narrow
    chosen = {NEXT_CLICK: events, HELD_OUT_CLICKS: events.filter(events.column("_holdout"))}
    return {
        name: next_click_rows(
            examples.read(at_most_events(rows, MAX_USERS)), ctx.pipeline.history_name
        )
        for name, rows in chosen.items()
    }


def at_most_events(examples: pa.Table, max_events: int) -> pa.Table:
    """At most `max_events` rows, in the order of the table.

    Those whose hash of user, time and item comes first are taken, so that the choice does not
    depend on the order in which a job wrote them.
    """
    if examples.num_rows <= max_events:
        return examples
    time = examples.column("_time").cast(pa.int64()).cast(pa.string())
    keys = pc.binary_join_element_wise(
        examples.column("_user"), time, examples.column("_item"), "|"
    )
    return examples.take(_first_by_hash(keys, max_events))


def next_click_rows(examples: pa.Table, history: str | None) -> pa.Table:
    """A query per event: `_truth` (its one item), `_past` (its history, newest first), and all
    columns of the example.

    Args:
      history: the column with the events before, oldest first; None if there is none.
    """
    items = examples.column("_item").combine_chunks()
    truth = pa.ListArray.from_arrays(pa.array(np.arange(len(items) + 1, dtype=np.int32)), items)
    past = pa.nulls(len(items), pa.list_(pa.string()))
    if history:
        past = examples.column(history).combine_chunks()
    lengths = list_lengths(past)
    # Each list back to front: from its last entry, as many places back as an entry stands from its
    # first. Null becomes empty.
    backwards = np.repeat(list_offsets(lengths)[1:] - 1, lengths) - list_places(lengths)
    newest_first = arrow_lists(lengths, past.flatten().take(pa.array(backwards)))
    return examples.append_column("_truth", truth).append_column("_past", newest_first)


def queries_by_history(
    queries: pa.Table, pipeline: Pipeline, *, most: int, seed: int
) -> tuple[np.ndarray, pa.Table]:
    """The queries of users who are not held out, asked with the newest events of their histories.

    A request may bring ten items or all that it has: lengths are drawn evenly on a logarithmic
    scale, so that short histories are as frequent as long ones.

    Args:
      queries: rows of users, with their raw features.
      most: the most queries that are made; of more users, so many are drawn by chance.

    Returns: which of the queries these are, [K] int64 ascending, and their K rows.
    """
    history = pipeline.history_name
    assert history is not None, "asked for where there is one"
    chance = np.random.default_rng(seed)
    usable = np.flatnonzero(~queries.column("_holdout").to_numpy())
    if len(usable) > most:
        usable = np.sort(chance.choice(usable, most, replace=False))
    queries = queries.take(pa.array(usable))
    lists = queries.column(history).combine_chunks()
    lengths = list_lengths(lists)
    kept = np.ceil(lengths ** chance.random(len(lists))).astype(np.int64)
    asked = newest_of(lists, np.minimum(kept, lengths))
    # All else that a query says of the user is missing; the time of the request is not.
    missing = {
        column.name: pa.nulls(len(queries), column.type)
        for name, feature in pipeline.tower("query").items()
        if not isinstance(feature, TimeFeature)
        for column in feature_schema.feature_columns(name, feature)
    }
    values = {**dict(zip(queries.column_names, queries.columns, strict=True)), **missing}
    values[history] = asked
    return usable, pa.table([values[f.name] for f in queries.schema], schema=queries.schema)


def unseen_users_on(ctx: StageContext) -> set[date]:
    """Earlier days on which neither the day's version nor its parent was trained on the users whom
    today's share holds out.
    """
    shares = _shares_of_parent(ctx)
    now = ctx.pipeline.evaluation.holdout
    return {day for day in _recent_days(ctx.day) if shares.get(str(day), 1.0) >= now}


def shares_after(ctx: StageContext, days: Collection[date]) -> Shares:
    """The shares that the version of the day records; `days` are those that it was trained on now."""
    # Trained from scratch, a version has seen nothing of what its parent had seen.
    before = _shares_of_parent(ctx) if ctx.mode == "incremental" else {}
    recent = [*_recent_days(ctx.day), ctx.day]
    inherited = {str(day): before[str(day)] for day in recent if str(day) in before}
    added = {str(day): ctx.pipeline.evaluation.holdout for day in recent if day in days}
    return inherited | added


def _shares_of_parent(ctx: StageContext) -> Shares:
    """What the parent recorded.

    Without a record nobody knows whom the parent's line was trained on, so no user is unseen: a
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
