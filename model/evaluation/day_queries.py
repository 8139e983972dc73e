"""Chooses the queries on which versions are measured, from the attempt of the features stage.

next-day    One query for each user with earlier events and a positive on the day, as of its start.
newcomers   The same for users without earlier events. Their context is that of their first event of the
            day. They count in a slice of their own, not in the headline.
next-click  One query for each event, as of the moment before it.
by history  Next-day queries as a server gets them from unknown users: with a history without times. The
            ranker is fitted on these, too.

A user is held out of training on a day if the hash of user and day is below `evaluation.holdout`. This
share may change. A held-out user of an earlier day is unseen only if the share was at least as large each
time that the version or one of its ancestors was trained on that day. So each version records the shares
of its ancestors (`held_out_shares`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

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
"""The most users to measure. With so many, intervals are narrow enough to judge a version."""
MAX_CLICKS = 2_000
"""The most events to measure. The report shows them; nothing is decided by them."""
HOLDOUT_DAYS = 7
"""The most days whose held-out users are pooled: the day itself and six before it."""
NEXT_DAY = "next day"
"""Name of the evaluation set of the day's users: one query per user."""
HELD_OUT = "next day, held out"
"""The same for held-out users; also of earlier days if the day has too few."""
NEXT_CLICK = "next click"
"""Name of the evaluation set of the day's events: one query per event."""
HELD_OUT_CLICKS = "next click, held out"
"""The same for held-out users."""
BY_HISTORY = "next day, by history"
"""The day's users who are not held out, asked by their history alone. Missing without a ranker or a
history feature.
"""

Shares = Mapping[str, float]
"""By day: the smallest share that was held out when a version or its ancestors were trained on the day."""

_ROW = "_row"


@dataclass(frozen=True, slots=True, kw_only=True)
class DayQueries:
    """The queries of a day.

    Attributes:
      corpus: rows of `corpus/start/`: the items with their counts as of the start of the day.
      queries: a row per query, by the names above: raw features, and the columns that `prepare` reads.
      by_history: the queries of `NEXT_DAY` that `BY_HISTORY` asks again; None if it is missing.
      events: a row per example of the day: `_user`, `_item`, `_time`, `_holdout`.
    """

    corpus: pa.Table
    queries: Mapping[str, pa.Table]
    by_history: np.ndarray | None
    events: pa.Table

    def of(self, names: Sequence[str]) -> dict[str, pa.Table]:
        """The queries of these evaluation sets, without sets that the day does not have."""
        return {name: self.queries[name] for name in names if name in self.queries}


def read_queries(ctx: StageContext, features: Path) -> DayQueries:
    """Reads the queries of a day.

    Args:
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
    """`local_parts` of the features attempt: the parts that `read_queries` reads, and the named ones."""
    examples = storage.join(feature_schema.EXAMPLES, feature_schema.day_folder(ctx.day))
    read = (feature_schema.EVALUATION, feature_schema.CORPUS_START, examples)
    return local_parts(ctx.inputs["features"], [*read, *names], folder)


def local_parts(uri: str, names: Sequence[str], folder: Path) -> Path:
    """The path itself if it is local; else `folder`, with the named parts downloaded into it."""
    if not storage.is_remote(uri):
        return Path(uri)
    for name in names:
        storage.localize(storage.join(uri, name), folder / name)
    return folder


def not_held_out(events: pa.Table) -> pa.Table:
    """The events of users that were not held out of training."""
    return events.filter(pc.invert(events.column("_holdout")))


class SelectedRows:
    """Reads few chosen rows of large Parquet files.

    A day of millions of users has millions of histories, of which ten thousand are evaluated. So a
    few narrow columns are read for all rows, to choose rows by them. Of the other columns only chosen
    rows are kept in memory.

    Attributes:
      narrow: the narrow columns of all rows, and the row's number, `_row`.
    """

    def __init__(
        self, folder: Path, narrow: Sequence[str], columns: Sequence[str], empty: pa.Table
    ) -> None:
        """Reads the narrow columns.

        Args:
          folder: folder of the files; it may be missing.
          narrow: columns to choose rows by.
          columns: columns that `read` returns.
          empty: an empty table with all columns, for a folder without files.
        """
        files = [str(file) for file in sorted(folder.glob("*.parquet"))]
        self._empty = empty.select(list(columns))
        self._dataset = ds.dataset(files, format="parquet") if files else ds.dataset(empty)
        table = self._dataset.to_table(columns=list(narrow))
        self.narrow = table.append_column(_ROW, pa.array(np.arange(table.num_rows)))

    def read(self, chosen: pa.Table) -> pa.Table:
        """Rows of `narrow`, ascending by number, with all columns."""
        table = self._dataset.take(
            chosen.column(_ROW).combine_chunks(),
            columns=self._empty.column_names,
            # One file and one part of it at a time, as histories take much memory.
            batch_readahead=1,
            fragment_readahead=1,
        )
        return pa.concat_tables([self._empty, table], promote_options="default")


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
    """The day's own queries: at most `max_users` of users with earlier events, and as many of newcomers."""
    return _at_most(evaluation.filter(pc.equal(evaluation.column("_day"), day)), max_users)


def holdout_rows(
    evaluation: pa.Table, day: date, *, earlier: Collection[date], min_users: int, max_users: int
) -> pa.Table:
    """Queries of held-out users: those of the day; if these are too few, also those of earlier days.

    Args:
      evaluation: rows of the folder `evaluation/`, with at least the narrow columns.
      day: the day that was trained on.
      earlier: earlier days whose held-out users may be used, from `unseen_users_on`.
      min_users: distinct users with earlier events that are enough to judge a version.
      max_users: the most queries of users with earlier events, and the most of newcomers.
    """
    held_out = evaluation.filter(evaluation.column("_holdout"))
    # Whole days are added, so that the choice of users does not depend on the order of rows.
    for back in range(HOLDOUT_DAYS):
        days = [d for d in (*earlier, day) if timedelta(0) <= day - d <= timedelta(days=back)]
        is_near = pc.is_in(held_out.column("_day"), value_set=pa.array(days, pa.date32()))
        chosen = held_out.filter(is_near)
        with_past = chosen.filter(pa.array(has_past(chosen)))
        if pc.count_distinct(with_past.column("_user")).as_py() >= min_users:
            break
    return _at_most(chosen, max_users)


def has_past(rows: pa.Table) -> np.ndarray:
    """Whether each query counts in the headline, [U] bool. Those of newcomers do not. Without a column
    `_past_events`, newcomers cannot be told apart, and all queries count.
    """
    if "_past_events" in rows.column_names:
        return np.asarray(rows.column("_past_events")) > 0
    return np.ones(rows.num_rows, bool)


def _at_most(rows: pa.Table, limit: int) -> pa.Table:
    """At most `limit` rows of users with earlier events, and as many of newcomers."""
    has_events = has_past(rows)
    if max(has_events.sum(), (~has_events).sum()) <= limit:
        return rows
    chosen_rows = [
        group[_first_by_hash(rows.column("_user").take(group), limit)]
        for group in (np.flatnonzero(has_events), np.flatnonzero(~has_events))
    ]
    return rows.take(np.sort(np.concatenate(chosen_rows)))


def _first_by_hash(keys: pa.ChunkedArray, limit: int) -> np.ndarray:
    """Positions of the `limit` keys with the lowest hashes, ascending."""
    return np.sort(np.argsort(fingerprint(keys), kind="stable")[:limit])


def _example_rows(ctx: StageContext, features: Path) -> SelectedRows:
    """The day's examples without the features of items; no rows if the day has none."""
    narrow = ["_user", "_item", "_time", "_holdout"]
    if ctx.pipeline.train.auxiliary.weight:
        narrow.append(feature_schema.LABEL)
    query_features = [column.name for column in feature_schema.query_columns(ctx.pipeline)]
    # Without features of items: the item vectors are those of the corpus.
    return SelectedRows(
        features / feature_schema.EXAMPLES / feature_schema.day_folder(ctx.day),
        narrow,
        [*narrow, *query_features],
        feature_schema.example_schema(ctx.pipeline).empty_table(),
    )


def _next_click_queries(ctx: StageContext, examples: SelectedRows) -> dict[str, pa.Table]:
    # All events of the day, also of held-out users: the parent was trained on none of them.
    events = examples.narrow
    chosen = {NEXT_CLICK: events, HELD_OUT_CLICKS: events.filter(events.column("_holdout"))}
    return {
        name: next_click_rows(
            examples.read(at_most_events(rows, MAX_CLICKS)), ctx.pipeline.history_name
        )
        for name, rows in chosen.items()
    }


def at_most_events(examples: pa.Table, max_events: int) -> pa.Table:
    """At most `max_events` rows, in the order of the table."""
    if examples.num_rows <= max_events:
        return examples
    # Chosen by hash, so that the choice does not depend on the order in which a job wrote the rows.
    time = examples.column("_time").cast(pa.int64()).cast(pa.string())
    keys = pc.binary_join_element_wise(
        examples.column("_user"), time, examples.column("_item"), "|"
    )
    return examples.take(_first_by_hash(keys, max_events))


def next_click_rows(examples: pa.Table, history: str | None) -> pa.Table:
    """One query per event: `_truth` (its item), `_past` (its history, newest first), and all columns of
    the example.

    Args:
      history: the column with earlier events, oldest first; None if there is none.
    """
    items = examples.column("_item").combine_chunks()
    truth = pa.ListArray.from_arrays(pa.array(np.arange(len(items) + 1, dtype=np.int32)), items)
    past = pa.nulls(len(items), pa.list_(pa.string()))
    if history:
        past = examples.column(history).combine_chunks()
    lengths = list_lengths(past)
    # Reverses each list: entry n from the start becomes entry n from the end. Null becomes empty.
    backwards = np.repeat(list_offsets(lengths)[1:] - 1, lengths) - list_places(lengths)
    newest_first = arrow_lists(lengths, past.flatten().take(pa.array(backwards)))
    return examples.append_column("_truth", truth).append_column("_past", newest_first)


def queries_by_history(
    queries: pa.Table, pipeline: Pipeline, *, most: int, seed: int
) -> tuple[np.ndarray, pa.Table]:
    """Queries of users who are not held out, with the newest events of their histories and nothing else.

    Args:
      queries: rows of users, with their raw features.
      most: the most queries. If there are more users, this many are drawn.

    Returns: the positions of these queries, [K] int64 ascending, and their K rows.
    """
    history = pipeline.history_name
    assert history is not None, "called only with a history feature"
    chance = np.random.default_rng(seed)
    usable = np.flatnonzero(~queries.column("_holdout").to_numpy())
    if len(usable) > most:
        usable = np.sort(chance.choice(usable, most, replace=False))
    queries = queries.take(pa.array(usable))
    lists = queries.column(history).combine_chunks()
    lengths = list_lengths(lists)
    # A request may have ten items or all. Lengths are uniform on a logarithmic scale, so that short
    # histories are as frequent as long ones.
    kept = np.ceil(lengths ** chance.random(len(lists))).astype(np.int64)
    asked = newest_of(lists, np.minimum(kept, lengths))
    # All other features of the user are missing, but a request always has a time.
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
    """Earlier days on which neither the day's version nor its ancestors were trained on the users whom
    today's share holds out.
    """
    shares = _shares_of_parent(ctx)
    now = ctx.pipeline.evaluation.holdout
    return {day for day in _recent_days(ctx.day) if shares.get(str(day), 1.0) >= now}


def shares_after(ctx: StageContext, days: Collection[date]) -> Shares:
    """The shares that the day's version records, after training on `days`."""
    # A version trained from scratch has seen nothing that its parent had seen.
    before = _shares_of_parent(ctx) if ctx.mode == "incremental" else {}
    recent = [*_recent_days(ctx.day), ctx.day]
    inherited = {str(day): before[str(day)] for day in recent if str(day) in before}
    added = {str(day): ctx.pipeline.evaluation.holdout for day in recent if day in days}
    return inherited | added


def _shares_of_parent(ctx: StageContext) -> Shares:
    """The shares that the parent recorded."""
    if ctx.parent is None:
        return {}
    parent = DayMetrics.find(ctx.parent.home)
    shares = parent.held_out_shares if parent else {}
    # Without a record, any user may have been trained on: a share of 0 holds nobody out.
    return shares or {str(day): 0.0 for day in _recent_days(ctx.day)}


def _recent_days(day: date) -> list[date]:
    """The days before `day` that held-out users may be taken from, oldest first."""
    return [day - timedelta(days=back) for back in range(HOLDOUT_DAYS - 1, 0, -1)]
