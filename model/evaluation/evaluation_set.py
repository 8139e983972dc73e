"""What a version is measured on: queries with their answers, in positions of one corpus."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.queries import has_past
from twinspire_core.metrics.diversity import popular_items
from twinspire_core.search.ragged import Ragged, positions
from twinspire_core.sources import baselines


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSet:
    """Queries and what they should have found, in positions of one corpus.

    Attributes:
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
