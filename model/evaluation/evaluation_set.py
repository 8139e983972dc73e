"""What a version is measured on: queries with their answers, in positions of one corpus."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.queries import has_past
from twinspire_core.metrics.intervals import RESAMPLES
from twinspire_core.metrics.list_metrics import popular_items
from twinspire_core.metrics.measure_names import SLICES
from twinspire_core.search.ragged import Ragged, positions
from twinspire_core.sources.personal_counts import PersonalCounts, positions_among
from twinspire_core.sources.popular import popular_order
from twinspire_core.sources.source import Queries


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSet:
    """Queries and what they should have found. U queries, C items of the corpus; items are
    positions in the corpus, -1 stands for any item outside it.

    Attributes:
      queries: U rows that `prepare` was given: raw features, if towers are to encode them, and the
        columns that `prepare` reads.
      truth: true items of each query.
      past: the user's past items, most frequent first.
      popular: [C] int64, the corpus by falling number of events in the count window.
      lately: [C] int64, the corpus by falling number of events of the last days.
      hot: [C] bool, the fewest items that have half of the events of the last days between them; None
        where these days have no events, as after a day that is missing.
      events: [C] int64, events of each item in the count window.
      user: [U] int64, the number of the user of each query, from 0.
      past_events: [U] int64, earlier events of the user.
      personal: decayed counts of past items; None where the queries say nothing of them.
      headline: [U] bool, whether a query counts in the headline; those of newcomers do not.
      days: distinct days of the queries.
      bounds: number of events from which on each slice but the first begins; none for no slices.
      resamples: bootstrap resamples behind the intervals; 0 for no intervals.
      exclude_seen: whether lists without the items that the user has seen are those that count
        (`serving.exclude_seen`).
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
        """What the queries tell candidate sources."""
        return Queries(past=self.past, events=self.past_events, personal=self.personal)

    @property
    def seen(self) -> Ragged:
        """What lists without seen items leave out (`Queries.seen`)."""
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
    """Reads queries and their answers in positions of a corpus.

    Args:
      queries: rows of `evaluation/`, in the order of the query vectors to come: `_user`, `_truth`,
        `_past`, and `_day` if there are several days. Without `_past_events` all queries are in the
        headline, and the number of their past items tells slices of users apart.
      corpus: rows of `corpus/start/`, in the order of the item vectors to come.
      bounds: as in `EvaluationSet`.
      resamples: as in `EvaluationSet`.
      exclude_seen: as in `EvaluationSet`.
    """
    items = corpus.column("_item").combine_chunks()
    past = positions(queries.column("_past"), items)
    lately = popular_order(corpus, "_lately")
    recent_events = corpus.column("_lately").fill_null(0).to_numpy()
    # Numbers instead of ids: resampling counts users, and never names them.
    user = queries.column("_user").combine_chunks().dictionary_encode().indices
    # Past items are distinct, events are not: the number of items is only a stand-in.
    if "_past_events" in queries.column_names:
        past_events = queries.column("_past_events").to_numpy()
    else:
        past_events = past.lengths
    if "_day" in queries.column_names:
        days = pc.count_distinct(queries.column("_day")).as_py()
    else:
        days = 1
    return EvaluationSet(
        queries=queries,
        truth=positions(queries.column("_truth"), items),
        past=past,
        popular=popular_order(corpus, "_popular"),
        lately=lately,
        hot=popular_items(lately, recent_events),
        events=corpus.column("_popular").fill_null(0).to_numpy(),
        user=user.to_numpy().astype(np.int64),
        past_events=past_events,
        personal=PersonalCounts.of_rows(queries, positions_among(items)),
        headline=has_past(queries),
        days=days,
        bounds=tuple(bounds),
        resamples=resamples,
        exclude_seen=exclude_seen,
    )


def prepare_whole(
    queries: pa.Table, corpus: pa.Table, *, exclude_seen: bool = False
) -> EvaluationSet:
    """`prepare` with slices and intervals.

    Args:
      queries: as of `prepare`.
      corpus: as of `prepare`.
      exclude_seen: `serving.exclude_seen`.
    """
    return prepare(queries, corpus, bounds=SLICES, resamples=RESAMPLES, exclude_seen=exclude_seen)


def without_slices(evaluation_set: EvaluationSet) -> EvaluationSet:
    """The same queries, with users and items not told apart."""
    return replace(evaluation_set, bounds=())
