"""Vectors of a day's queries and corpus by a version's two towers, from raw features; and which of
these features are missing for the towers.

U queries of a set, Q distinct queries of all sets, C items of the corpus, D dimensions.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from model.towers.auxiliary_head import LabelledClicks
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import feature_schema, model_bundle
from twinspire_core.contracts.feature_schema import feature_columns
from twinspire_core.contracts.model_bundle import Input, Tower
from twinspire_core.contracts.trained_day import Encoded
from twinspire_core.search.ragged import Ragged, list_lengths

Towers = Mapping[str, Tower]
"""Both towers, by side: `query` and `item`."""


def load(folder: Path) -> Tower:
    """Loads one tower."""
    return Tower(tf.saved_model.load(str(folder)))


def load_both(attempt: Path) -> Towers:
    """Loads both towers of a train attempt from its local folder."""
    return {side: load(attempt / name) for side, name in model_bundle.TOWERS.items()}


def encode(towers: Towers, corpus: pa.Table, queries: Mapping[str, pa.Table]) -> Encoded:
    """Vectors of the corpus, rows of `corpus/start/`, and of all queries, rows of raw features by
    evaluation set.
    """
    # Columns that the tower does not read must not tell equal queries apart.
    read = {"_user", *towers["query"].inputs}
    tables = [
        table.select([name for name in table.column_names if name in read])
        for table in queries.values()
    ]
    together = pa.concat_tables(tables, promote_options="default")
    first, place = distinct_rows(together)
    ends = np.cumsum([table.num_rows for table in tables])[:-1]
    # Many queries are equal, such as those by one item: each is encoded once.
    return Encoded(
        distinct=towers["query"](together.take(first)),
        place=dict(zip(queries, np.split(place, ends), strict=True)),
        items=towers["item"](corpus),
    )


def labelled_clicks(
    queries: pa.Table, items: pa.ChunkedArray, name: str, encoded: Encoded
) -> LabelledClicks:
    """The next-click queries that have a label, and whose item is in the corpus.

    Args:
      queries: rows with an item each, and with a label or nan.
      items: ids of the corpus, in its order.
      name: what the evaluation set is called in `encoded`.
      encoded: vectors by the towers whose head is to predict the labels.
    """
    label = queries.column(feature_schema.LABEL).to_numpy()
    position = pc.index_in(queries.column("_item"), value_set=items.combine_chunks())
    item = position.fill_null(-1).to_numpy()
    usable = np.flatnonzero(np.isfinite(label) & (item >= 0))
    return LabelledClicks(
        query=encoded.queries(name)[usable],
        item=encoded.items[item[usable]],
        label=label[usable],
    )


def distinct_rows(rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Finds equal rows.

    Args:
      rows: [N]; a null list equals an empty one.

    Returns: the first row of each kind, [Q] int64; and which of these each row equals, [N] int64.
    """
    codes = np.concatenate([_codes(column.combine_chunks()) for column in rows.columns], axis=1)
    codes = np.ascontiguousarray(codes)
    # Seen as one opaque value, a row of codes is compared as a whole by np.unique.
    row_type = np.dtype((np.void, codes.itemsize * codes.shape[1]))
    _, first, place = np.unique(
        codes.view(row_type).ravel(), return_index=True, return_inverse=True
    )
    return first, place


def _codes(column: pa.Array) -> np.ndarray:
    """Numbers that are equal where values are: [N, 1] int32, or [N, L] of lists; -1 is none."""
    is_list = pa.types.is_list(column.type)
    values = column.flatten() if is_list else column
    codes = np.asarray(values.dictionary_encode().indices.fill_null(-1))
    if not is_list:
        return codes[:, np.newaxis]
    return Ragged.of_lengths(codes, list_lengths(column)).padded().astype(np.int32)


def missing_columns(towers: Towers, pipeline: Pipeline) -> list[str]:
    """Columns that an earlier day's towers read and that are missing for them now, as the pipeline file
    no longer makes them, each with the reason.
    """
    declared = {side: declared_inputs(pipeline, side) for side in towers}
    return [
        f"{column} (now {_describe(now)}, was {_describe(was)})"
        for side, tower in towers.items()
        for column, was in tower.inputs.items()
        if (now := declared[side].get(column)) != was
    ]


def declared_inputs(pipeline: Pipeline, side: str) -> dict[str, Input]:
    """The raw columns of a tower as the pipeline file declares them."""
    inputs = {}
    for name, feature in pipeline.tower(side).items():
        for column in feature_columns(name, feature):
            is_list = pa.types.is_list(column.type)
            value_type = column.type.value_type if is_list else column.type
            # Arrow's name of the type is `float`.
            dtype = "float32" if pa.types.is_float32(value_type) else str(value_type)
            inputs[column.name] = Input(dtype, is_list, feature.vector_size)
    return inputs


def _describe(column: Input | None) -> str:
    if column is None:
        return "gone"
    value = "text" if column.dtype == "string" else "number"
    if not column.listed:
        return f"a {value}"
    if column.width:
        return f"a list of {column.width} {value}s"
    return f"a list of {value}s"
