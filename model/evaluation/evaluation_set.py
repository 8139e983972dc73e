"""Evaluation sets: queries with the items that users then took, as positions in one corpus. They come from a
day or from files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.day_queries import (
    BY_HISTORY,
    HELD_OUT,
    NEXT_DAY,
    has_past,
    read_queries,
)
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.metrics.intervals import RESAMPLES
from twinspire_core.metrics.list_metrics import popular_items
from twinspire_core.metrics.measure_names import SLICES
from twinspire_core.search.ragged import Ragged, positions
from twinspire_core.sources.popular_and_history import popular_order
from twinspire_core.sources.source import Queries
from twinspire_core.sources.user_histories import ITEMS, PersonalCounts


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSet:
    """Queries with their true items. U queries, C items of the corpus. Items are positions in the corpus; -1
    is any item outside it.

    Attributes:
      queries: the U rows given to `prepare`: the columns that it reads, and raw features for towers.
      truth: true items of each query.
      past: the user's past items, most frequent first.
      popular: [C] int64, the corpus by falling number of events in the count window.
      lately: [C] int64, the corpus by falling number of events of the last days.
      hot: [C] bool, the fewest items that together have half of the events of the last days; None if
        these days have no events, such as after a missing day.
      events: [C] int64, events of each item in the count window.
      user: [U] int64, a number for the user of each query, from 0.
      past_events: [U] int64, earlier events of the user.
      personal: decayed counts of past items; None if the queries have none.
      headline: [U] bool, whether a query counts in the headline; queries of new users do not.
      days: number of distinct days of the queries.
      bounds: the least number of events of each slice but the first; empty for no slices.
      resamples: bootstrap resamples for the intervals; 0 for no intervals.
      exclude_seen: whether the main lists leave out seen items (`serving.exclude_seen`).
    """

    queries: pa.Table
    truth: Ragged
    past: Ragged
    popular: np.ndarray
    lately: np.ndarray
    hot: np.ndarray | None
    events: np.ndarray
    user: np.ndarray
    past_events: np.ndarray
    personal: PersonalCounts | None
    headline: np.ndarray
    days: int
    bounds: tuple[int, ...]
    resamples: int
    exclude_seen: bool = False

    @property
    def source_queries(self) -> Queries:
        """The queries as candidate sources read them."""
        return Queries(past=self.past, events=self.past_events, personal=self.personal)

    @property
    def seen(self) -> Ragged:
        """The items that lists without seen items leave out (`Queries.seen`)."""
        return self.source_queries.seen

    @property
    def items(self) -> int:
        """Size of the corpus."""
        return len(self.popular)

    @property
    def users(self) -> int:
        """Distinct users in the headline."""
        return self.users_among(self.headline)

    def users_among(self, chosen: np.ndarray) -> int:
        """Distinct users of the chosen queries, [U] bool."""
        return int(np.count_nonzero(np.bincount(self.user[chosen])))


def prepare(
    queries: pa.Table,
    corpus: pa.Table,
    *,
    bounds: Sequence[int] = (),
    resamples: int = 0,
    exclude_seen: bool = False,
) -> EvaluationSet:
    """Makes an evaluation set of tables.

    Args:
      queries: rows of `evaluation/`, in the order of the query vectors: `_user`, `_truth`, `_past`, and
        `_day` if there are several days. Without `_past_events`, all queries are in the headline, and
        users are sliced by their number of past items.
      corpus: rows of `corpus/start/`, in the order of the item vectors.
      bounds: as in `EvaluationSet`; no slices by default.
      resamples: as in `EvaluationSet`; no intervals by default.
      exclude_seen: `serving.exclude_seen` of the pipeline file.
    """
    items = corpus.column("_item").combine_chunks()
    past = positions(queries.column("_past"), items)
    lately = popular_order(corpus, "_lately")
    # Numbers instead of ids, because resampling only counts users.
    user = queries.column("_user").combine_chunks().dictionary_encode().indices
    given = queries.column_names
    return EvaluationSet(
        queries=queries,
        truth=positions(queries.column("_truth"), items),
        past=past,
        popular=popular_order(corpus, "_popular"),
        lately=lately,
        hot=popular_items(lately, corpus.column("_lately").fill_null(0).to_numpy()),
        events=corpus.column("_popular").fill_null(0).to_numpy(),
        user=user.to_numpy().astype(np.int64),
        # Past items are distinct, events are not, so the number of items is only an approximation.
        past_events=queries["_past_events"].to_numpy() if "_past_events" in given else past.lengths,
        personal=PersonalCounts.of_rows(
            queries, positions(queries[ITEMS], items) if ITEMS in given else None
        ),
        headline=has_past(queries),
        days=pc.count_distinct(queries["_day"]).as_py() if "_day" in given else 1,
        bounds=tuple(bounds),
        resamples=resamples,
        exclude_seen=exclude_seen,
    )


def prepare_whole(
    queries: pa.Table, corpus: pa.Table, *, exclude_seen: bool = False
) -> EvaluationSet:
    """`prepare`, with the slices and intervals that reports show."""
    return prepare(queries, corpus, bounds=SLICES, resamples=RESAMPLES, exclude_seen=exclude_seen)


def ask_by_history(
    evaluation_set: EvaluationSet, usable: np.ndarray, queries: pa.Table, history: Ragged
) -> EvaluationSet:
    """The evaluation set of queries by history, which `queries_by_history` made of another one.

    Args:
      evaluation_set: U queries, those of all users.
      usable: [K] int64 ascending, the queries that were used.
      queries: the K rows that were made of them.
      history: the histories of these rows, in positions of the corpus.
    """
    counts = PersonalCounts.of_histories(history)
    return replace(
        evaluation_set,
        queries=queries,
        # The true items stay the same, however little the query says about the user.
        truth=evaluation_set.truth.take(usable),
        past=counts.items,
        user=evaluation_set.user[usable],
        # All that a server would know about this user.
        past_events=history.lengths,
        personal=counts,
        headline=evaluation_set.headline[usable],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DayData:
    """The data of a day that versions are measured on.

    Attributes:
      corpus: rows of `corpus/start/`: the items with their counts as of the start of the day.
      evaluation_sets: by the names of day_queries.py, all in positions of `corpus`.
      events: a row per example of the day: `_user`, `_item`, `_time`, `_holdout`.
    """

    corpus: pa.Table
    evaluation_sets: Mapping[str, EvaluationSet]
    events: pa.Table

    def held_out_of(self, day: date) -> np.ndarray:
        """The held-out next-day queries of this day, [U] bool. Others are of earlier days."""
        days = self.evaluation_sets[HELD_OUT].queries.column("_day")
        return np.asarray(pc.equal(days, pa.scalar(day, pa.date32())))


def read_day(ctx: StageContext, features: Path) -> DayData:
    """Reads the data of a day. Arguments are those of `read_queries`."""
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
