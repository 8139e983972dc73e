"""The day's queries as a server gets them from users it stores nothing about: with a history
without times, and nothing else about the user.
"""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from model.evaluation.evaluation_set import EvaluationSet
from twinspire_core.config.feature_kinds import TimeFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.feature_schema import feature_columns
from twinspire_core.search.ragged import Ragged, list_lengths, newest_of
from twinspire_core.sources.history import most_frequent_first
from twinspire_core.sources.personal_counts import PersonalCounts


def queries_by_history(
    queries: pa.Table, pipeline: Pipeline, *, most: int, seed: int
) -> tuple[np.ndarray, pa.Table]:
    """The queries of users who are not held out, asked with the newest events of their histories.

    A request brings ten items or all that it has, so that short histories are as frequent as long
    ones: their lengths are even on a logarithmic scale.

    Args:
      queries: raw features of U users.
      pipeline: which has a history.
      most: queries at the most, drawn by chance.
      seed: of all chance.

    Returns: which of the queries these are, ascending, and their rows.
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
    return usable, _without_user(queries, pipeline, history, asked)


def ask_by_history(
    evaluation_set: EvaluationSet, usable: np.ndarray, queries: pa.Table, known: Ragged
) -> EvaluationSet:
    """What `queries_by_history` has chosen of an evaluation set.

    Args:
      evaluation_set: U queries.
      usable: which of them.
      queries: their rows.
      known: their histories, in positions of the corpus.
    """
    return replace(
        evaluation_set,
        queries=queries,
        truth=evaluation_set.truth.take(usable),
        past=most_frequent_first(known),
        user=evaluation_set.user[usable],
        past_events=known.lengths,
        personal=PersonalCounts.of_histories(known),
        headline=evaluation_set.headline[usable],
    )


def _without_user(queries: pa.Table, pipeline: Pipeline, history: str, asked: pa.Array) -> pa.Table:
    """The rows with these histories and the time of the request; other features are missing."""
    for name, feature in pipeline.tower("query").items():
        if isinstance(feature, TimeFeature):
            continue
        for column in feature_columns(name, feature):
            place = queries.schema.get_field_index(column.name)
            if place < 0:
                continue
            values = asked if name == history else pa.nulls(len(queries), column.type)
            queries = queries.set_column(place, queries.schema.field(place), values)
    return queries
