"""What a day's version is measured on, read from the attempt of the features stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.evaluation_set import EvaluationSet, prepare_whole
from model.evaluation.history_queries import ask_by_history, queries_by_history
from model.evaluation.queries import (
    SelectedRows,
    at_most_events,
    holdout_rows,
    next_click_rows,
    progressive_rows,
    unseen_users_on,
)
from twinspire_core import storage
from twinspire_core.contracts import feature_schema, ranking_rows
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.search.ragged import positions
from twinspire_core.storage import parquet_files

MAX_USERS = 10_000
"""The most users measured: intervals of so many are narrow enough to judge a version."""
NEXT_DAY = "next day"
"""Name of the evaluation set of the day's users: one query per user."""
HELD_OUT = "next day, held out"
"""The same of users held out of training, if they are few also of earlier days."""
NEXT_CLICK = "next click"
"""Name of the evaluation set of the day's events: one query per event."""
HELD_OUT_CLICKS = "next click, held out"
"""The same of users held out of training."""
BY_HISTORY = "next day, by history"
"""Name of the evaluation set of the day's users who are not held out, asked as if nothing were stored
of them: what the ranker is fitted on besides. Not there without a ranker, and without histories.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayQueries:
    """What versions are asked on a day.

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
        """The queries of some evaluation sets, as far as these are there."""
        return {name: self.queries[name] for name in names if name in self.queries}


@dataclass(frozen=True, slots=True, kw_only=True)
class DayData:
    """What a version of the day is measured on.

    Attributes:
      corpus: rows of `corpus/start/`: the items with their counts as of the start of the day.
      evaluation_sets: by the names above, all in positions of `corpus`.
      events: a row per example of the day: `_user`, `_item`, `_time`, `_holdout`.
    """

    corpus: pa.Table
    evaluation_sets: Mapping[str, EvaluationSet]
    events: pa.Table

    def held_out_of(self, day: date) -> np.ndarray:
        """Which held-out next-day queries are of a day, [U] bool: earlier days may fill them up."""
        days = self.evaluation_sets[HELD_OUT].queries.column("_day")
        is_of_day: np.ndarray = pc.equal(days, pa.scalar(day, pa.date32())).to_numpy()
        return is_of_day

    @property
    def trained_events(self) -> pa.Table:
        """The events of users that were not held out of training."""
        return not_held_out(self.events)


def not_held_out(events: pa.Table) -> pa.Table:
    """The events of users that were not held out of training."""
    return events.filter(pc.invert(events.column("_holdout")))


def read_queries(ctx: StageContext, features: Path) -> DayQueries:
    """Reads what versions are asked on a day.

    Args:
      ctx: pipeline, day and parent.
      features: local folder of the attempt of the features stage.
    """
    examples = _example_rows(ctx, features)
    queries = {
        **_next_day_queries(ctx, _evaluation_rows(ctx, features)),
        **_next_click_queries(ctx, examples),
    }
    by_history = None
    if ctx.pipeline.sources.several and ctx.pipeline.history_name:
        by_history, queries[BY_HISTORY] = queries_by_history(
            queries[NEXT_DAY],
            ctx.pipeline,
            most=ranking_rows.MOST_OF_A_DAY,
            seed=ctx.day.toordinal(),
        )
    return DayQueries(
        corpus=read_table(features / feature_schema.CORPUS_START),
        queries=queries,
        by_history=by_history,
        events=examples.narrow,
    )


def read_day(ctx: StageContext, features: Path) -> DayData:
    """Reads what a version of the day is measured on; arguments as those of `read_queries`."""
    asked = read_queries(ctx, features)
    evaluation_sets = {
        name: prepare_whole(table, asked.corpus, exclude_seen=ctx.pipeline.serving.exclude_seen)
        for name, table in asked.queries.items()
        if name != BY_HISTORY
    }
    if asked.by_history is not None:
        queries = asked.queries[BY_HISTORY]
        history = queries.column(str(ctx.pipeline.history_name)).combine_chunks()
        evaluation_sets[BY_HISTORY] = ask_by_history(
            evaluation_sets[NEXT_DAY],
            asked.by_history,
            queries,
            positions(history, asked.corpus.column("_item")),
        )
    return DayData(corpus=asked.corpus, evaluation_sets=evaluation_sets, events=asked.events)


def localize(ctx: StageContext, names: Sequence[str], folder: Path) -> Path:
    """The features attempt if it is local; else `folder`, with what `read_queries` reads, and some
    more parts, downloaded into it.
    """
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


def read_table(folder: Path) -> pa.Table:
    """All rows of a folder of Parquet files."""
    return parquet_files.read_folder(str(folder))


def _next_day_queries(ctx: StageContext, evaluation: SelectedRows) -> dict[str, pa.Table]:
    pipeline = ctx.pipeline
    held_out = holdout_rows(
        evaluation.narrow,
        ctx.day,
        earlier=unseen_users_on(ctx),
        min_users=pipeline.gate.min_users,
        max_users=MAX_USERS,
    )
    of_day = progressive_rows(evaluation.narrow, ctx.day, MAX_USERS)
    return {NEXT_DAY: evaluation.read(of_day), HELD_OUT: evaluation.read(held_out)}


def _next_click_queries(ctx: StageContext, examples: SelectedRows) -> dict[str, pa.Table]:
    history = ctx.pipeline.history_name
    # All events of the day, those of users held out too: the parent was trained on none of them.
    events = examples.narrow
    held_out = events.filter(events.column("_holdout"))
    queries = {}
    for name, rows in ((NEXT_CLICK, events), (HELD_OUT_CLICKS, held_out)):
        chosen = examples.read(at_most_events(rows, MAX_USERS))
        queries[name] = next_click_rows(chosen, history)
    return queries


def _evaluation_rows(ctx: StageContext, features: Path) -> SelectedRows:
    schema = feature_schema.evaluation_schema(ctx.pipeline)
    narrow = ["_user", "_day", "_holdout", "_past_events"]
    return SelectedRows(
        features / feature_schema.EVALUATION, narrow, schema.names, schema.empty_table()
    )


def _example_rows(ctx: StageContext, features: Path) -> SelectedRows:
    """The day's examples without the features of items; no rows if the day has none."""
    narrow = ["_user", "_item", "_time", "_holdout"]
    if ctx.pipeline.train.auxiliary.weight:
        narrow.append(feature_schema.LABEL)
    query_features = [column.name for column in feature_schema.query_columns(ctx.pipeline)]
    # What is known of items comes from the corpus, whose vectors are searched.
    return SelectedRows(
        features / feature_schema.EXAMPLES / feature_schema.day_folder(ctx.day),
        narrow,
        [*narrow, *query_features],
        feature_schema.example_schema(ctx.pipeline).empty_table(),
    )
