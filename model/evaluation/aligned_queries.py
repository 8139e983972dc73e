"""Queries of a file, in the order of the truth that they are measured by.

N queries of the truth.
"""

from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.list_files import read_keys
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.feature_schema import query_columns
from twinspire_core.errors import BadData

_PAST_COLUMNS = ("_past", "seen")
"""Names of the column of items seen, by preference."""


class AlignedQueries(NamedTuple):
    """A query per row of the truth.

    Attributes:
      features: [N] raw query features, typed as the pipeline file declares them; null where the
        file has no such query.
      past: [N] lists of strings, items seen; null where the file does not say.
      past_is_history: whether `past` is the history, oldest first, as no column holds items seen.
      answered: how many of the queries are in the file.
    """

    features: pa.Table
    past: pa.ChunkedArray
    past_is_history: bool
    answered: int


def align_queries(queries: pa.Table, wanted: pa.Array, pipeline: Pipeline) -> AlignedQueries:
    """Brings queries into the order of the truth.

    Args:
      queries: one row per query: user, raw features and perhaps items seen.
      wanted: [N] distinct strings, the queries of the truth.
      pipeline: declares the features.

    Raises:
      BadData: no query is in the truth, or a column cannot be read as its type.
    """
    queries = _with_declared_history(queries, pipeline)
    keys = read_keys(queries, place="the queries", user=pipeline.columns.user)
    place = places_of(wanted, keys, "the queries")
    features = _with_user_id(conform(queries, pipeline).take(place), wanted, pipeline)
    past = _past_column(queries).take(place)
    history = pipeline.history_name
    # Also if there is a column of items seen, but it says nothing of any of these queries.
    no_past = past.null_count == len(past)
    if history and no_past:
        past = features.column(history)
    return AlignedQueries(
        features=features,
        past=past,
        past_is_history=no_past,
        answered=len(place) - place.null_count,
    )


def places_of(wanted: pa.Array, there: pa.Array, name: str) -> pa.Array:
    """Where each wanted query stands, [N], null where it does not.

    Raises:
      BadData: no query stands in both.
    """
    place = pc.index_in(wanted, value_set=there)
    if len(wanted) and place.null_count == len(wanted):
        raise BadData(
            f"{name} and the truth are joined by user; none is in both:"
            f" {wanted.slice(0, 3).to_pylist()} in the truth, {there.slice(0, 3).to_pylist()} in"
            f" {name}. They may be of another split, or the ids written differently."
        )
    return place


def conform(table: pa.Table, pipeline: Pipeline) -> pa.Table:
    """Brings raw query features to their declared types; columns that are not there are missing
    values.

    Raises:
      BadData: a column cannot be read as its type.
    """
    columns = {}
    for field in query_columns(pipeline):
        if field.name in table.column_names:
            given = table.column(field.name)
        else:
            given = pa.nulls(table.num_rows)
        try:
            columns[field.name] = given.cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
            raise BadData(
                f"Feature {field.name} is {field.type}; the queries hold {given.type}: {e}."
            ) from e
    return pa.table(columns)


def _with_declared_history(queries: pa.Table, pipeline: Pipeline) -> pa.Table:
    """Names the history as its feature is named: requests may call it `history`
    (docs/requests.md).
    """
    declared = pipeline.history_name
    if declared is None or declared in queries.column_names:
        return queries
    names = [declared if name == "history" else name for name in queries.column_names]
    return queries.rename_columns(names)


def _past_column(queries: pa.Table) -> pa.ChunkedArray | pa.Array:
    """Items seen, nulls if no column holds them."""
    strings = pa.list_(pa.string())
    for name in _PAST_COLUMNS:
        if name in queries.column_names:
            return queries.column(name).cast(strings)
    return pa.nulls(queries.num_rows, strings)


def _with_user_id(features: pa.Table, key: pa.Array, pipeline: Pipeline) -> pa.Table:
    """Fills the user's own id, if it is a feature, from the key where the queries leave it out."""
    name = pipeline.user_id
    if name is None or features.column(name).null_count < features.num_rows:
        return features
    return features.set_column(features.column_names.index(name), name, key)
