"""The day's queries as a server gets them from users of whom it stores nothing: with a history
without times, and nothing else about the user.
"""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from model.evaluation.evaluation_set import EvaluationSet
from twinspire_core.config.feature_kinds import TimeFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.feature_schema import feature_columns
from twinspire_core.search.ragged import list_lengths, newest_of, positions
from twinspire_core.sources.past import most_frequent_first
from twinspire_core.sources.personal_counts import PersonalCounts


def ask_by_history(
    evaluation_set: EvaluationSet,
    pipeline: Pipeline,
    items: pa.ChunkedArray,
    *,
    most: int,
    seed: int,
) -> EvaluationSet:
    """The queries of users who are not held out, asked with the newest events of their histories.

    A request brings ten items or all that it has, so that short histories are as frequent as long
    ones: their lengths are even on a logarithmic scale.

    Args:
      evaluation_set: with raw features; U queries.
      pipeline: which has a history.
      items: [C] ids of the corpus.
      most: queries at the most, drawn by chance.
      seed: of all chance.
    """
    history = pipeline.history_name
    assert history is not None, "asked for where there is one"
    chance = np.random.default_rng(seed)
    usable = np.flatnonzero(~evaluation_set.queries.column("_holdout").to_numpy())
    if len(usable) > most:
        usable = np.sort(chance.choice(usable, most, replace=False))
    queries = evaluation_set.queries.take(pa.array(usable))
    lists = queries.column(history).combine_chunks()
    lengths = list_lengths(lists)
    kept = np.ceil(lengths ** chance.random(len(lists))).astype(np.int64)
    asked = newest_of(lists, np.minimum(kept, lengths))
    known = positions(asked, items)
    return replace(
        evaluation_set,
        queries=_without_user(queries, pipeline, history, asked),
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
