"""What a version is measured on: queries with their answers, in positions of one corpus."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.queries import (
    SelectedRows,
    at_most_events,
    has_past,
    holdout_rows,
    next_click_rows,
    progressive_rows,
    unseen_users_on,
)
from twinspire_core.config.tables.quality import EvaluationConfig
from twinspire_core.contracts.stage_context import StageContext
from twinspire_core.metrics.diversity import popular_items
from twinspire_core.search.ragged import Ragged, positions
from twinspire_core.sources import baselines


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSet:
    """Queries and what they should have found, in positions of one corpus.

    Attributes:
      queries: the rows that were prepared: raw features, if towers are to encode them, and what
        `prepare` reads.
      truth: true items of each query, -1 outside the corpus.
      past: the user's past items, most frequent first, -1 outside the corpus.
      popular: the corpus by events in the count window, [C].
      lately: the corpus by events of the last days, [C].
      hot: the fewest items that have half of the events of the last days between them, [C] bool.
      events: events of each item in the count window, [C].
      user: number of the user who asks, from 0, [U].
      past_events: events of the user before, [U].
      headline: whether a query counts in the headline, [U] bool; newcomers do not.
      days: distinct days among the queries.
      bounds: where slices by number of events begin; none for no slices.
      resamples: bootstrap resamples behind the intervals; 0 for none.
    """

    queries: pa.Table
    truth: Ragged
    past: Ragged
    popular: np.ndarray
    lately: np.ndarray
    hot: np.ndarray
    events: np.ndarray
    user: np.ndarray
    past_events: np.ndarray
    headline: np.ndarray
    days: int
    bounds: tuple[int, ...]
    resamples: int

    @property
    def items(self) -> int:
        """Size of the corpus."""
        return len(self.popular)

    @property
    def users(self) -> int:
        """Distinct users in the headline."""
        return self.users_among(self.headline)

    def users_among(self, chosen: np.ndarray) -> int:
        """Distinct users of the queries chosen, [U] bool."""
        return int(np.count_nonzero(np.bincount(self.user[chosen])))


def prepare(
    evaluation: pa.Table, corpus: pa.Table, *, bounds: Sequence[int] = (), resamples: int = 0
) -> EvaluationSet:
    """Reads the queries of a day against its catalogue.

    Args:
      evaluation: rows of `evaluation/` in the order of the query vectors to come: `_user`,
        `_truth`, `_past`, and `_day` where there are several. Without `_past_events` all queries
        are in the headline, and the number of their past items tells them apart.
      corpus: rows of `corpus/start/`, in the order of the item vectors to come.
      bounds: see `Split`.
      resamples: see `Split`.
    """
    items = corpus.column("_item").combine_chunks()
    past, columns = positions(evaluation.column("_past"), items), evaluation.column_names
    lately, recent = (
        baselines.popular_order(corpus, "_lately"),
        corpus.column("_lately").fill_null(0).to_numpy(),
    )
    user = evaluation.column("_user").combine_chunks().dictionary_encode()
    return EvaluationSet(
        queries=evaluation,
        truth=positions(evaluation.column("_truth"), items),
        past=past,
        popular=baselines.popular_order(corpus, "_popular"),
        lately=lately,
        hot=popular_items(lately, recent),
        events=corpus.column("_popular").fill_null(0).to_numpy(),
        user=user.indices.to_numpy().astype(np.int64),
        past_events=evaluation.column("_past_events").to_numpy()
        if "_past_events" in columns
        else past.lengths,
        headline=has_past(evaluation),
        days=pc.count_distinct(evaluation.column("_day")).as_py() if "_day" in columns else 1,
        bounds=tuple(bounds),
        resamples=resamples,
    )


DAY, HELD, CLICKS, HELD_CLICKS = "day", "held out", "clicks", "held out clicks"
"""The exams of a day: next-day of all users and of those held out of training; next-click of
both.
"""


def prepare_as_configured(
    queries: pa.Table, corpus: pa.Table, settings: EvaluationConfig
) -> EvaluationSet:
    """`prepare` with the slices and the resamples of the pipeline file's `evaluation`."""
    return prepare(queries, corpus, bounds=settings.slices, resamples=settings.resamples)


def day_evaluation_sets(
    ctx: StageContext, evaluation: SelectedRows, examples: SelectedRows, corpus: pa.Table
) -> dict[str, EvaluationSet]:
    """What a version of the day is measured on, by name.

    Args:
      ctx: pipeline and day.
      evaluation: rows of `evaluation/`.
      examples: the day's rows of `examples/`.
      corpus: rows of `corpus/start/`.
    """
    p, limit = ctx.pipeline, ctx.pipeline.evaluation.max_users
    history = p.history_name
    earlier = unseen_users_on(ctx)
    users, events = evaluation.narrow, examples.narrow
    held = holdout_rows(
        users, ctx.day, earlier=earlier, min_users=p.gate.min_users, max_users=limit
    )
    chosen = {DAY: progressive_rows(users, ctx.day, limit), HELD: held}
    asked = {name: evaluation.whole(rows) for name, rows in chosen.items()}
    clicks = {CLICKS: events, HELD_CLICKS: events.filter(events.column("_holdout"))}
    chosen = {name: at_most_events(rows, limit) for name, rows in clicks.items()}
    asked |= {name: next_click_rows(examples.whole(rows), history) for name, rows in chosen.items()}
    return {name: prepare_as_configured(rows, corpus, p.evaluation) for name, rows in asked.items()}
