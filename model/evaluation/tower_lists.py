"""Lists of a version's two towers for the queries of evaluation sets, from raw features.

U queries of a set, Q distinct queries of all sets, C items of the corpus, D dimensions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import tensorflow as tf

from model.evaluation.evaluation_set import EvaluationSet
from model.evaluation.ranked_lists import RankedLists, nearest, with_and_without_seen
from model.towers.auxiliary_head import LabelledClicks
from twinspire_core.contracts import feature_schema, model_bundle
from twinspire_core.contracts.model_bundle import Tower
from twinspire_core.search.ragged import Ragged, list_lengths

Towers = Mapping[str, Tower]
"""Both towers, by side: `query` and `item`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Vectors of the queries of several evaluation sets, and of the corpus.

    Evaluation sets share many queries, and the events of a basket are one query: each distinct
    query is encoded, and later searched for, once.

    Attributes:
      distinct: [Q, D] float32, vectors of the distinct queries.
      place: by evaluation set, [U] int64: which of the distinct queries each query is.
      items: [C, D] float32.
    """

    distinct: np.ndarray
    place: Mapping[str, np.ndarray]
    items: np.ndarray

    def queries(self, name: str) -> np.ndarray:
        """Vectors of the queries of an evaluation set, [U, D] float32."""
        vectors: np.ndarray = self.distinct[self.place[name]]
        return vectors


def load(folder: Path) -> Tower:
    """Loads a tower."""
    return Tower(tf.saved_model.load(str(folder)))


def load_both(attempt: Path) -> Towers:
    """Loads the towers of a train attempt from its local folder."""
    return {side: load(attempt / name) for side, name in model_bundle.TOWERS.items()}


def rank_with_towers(
    towers: Towers, corpus: pa.Table, evaluation_sets: Mapping[str, EvaluationSet], k: int
) -> dict[str, RankedLists]:
    """The lists of two towers, from raw features.

    Args:
      towers: by side.
      corpus: rows of `corpus/start/`, for which the evaluation sets were prepared.
      evaluation_sets: by name.
      k: length of the lists.

    Returns: lists by evaluation set.
    """
    return rank_encoded(encode(towers, corpus, evaluation_sets), evaluation_sets, k)


def encode(
    towers: Towers, corpus: pa.Table, evaluation_sets: Mapping[str, EvaluationSet]
) -> Encoded:
    """Vectors of the corpus and of all queries; arguments as those of `rank_with_towers`."""
    read = {"_user", *towers["query"].inputs}
    tables = []
    for evaluation_set in evaluation_sets.values():
        columns = [name for name in evaluation_set.queries.column_names if name in read]
        tables.append(evaluation_set.queries.select(columns))
    queries = pa.concat_tables(tables, promote_options="default")
    first, place = distinct_rows(queries)
    ends = np.cumsum([table.num_rows for table in tables])[:-1]
    return Encoded(
        distinct=towers["query"](queries.take(first)),
        place=dict(zip(evaluation_sets, np.split(place, ends), strict=True)),
        items=towers["item"](corpus),
    )


def rank_encoded(
    encoded: Encoded, evaluation_sets: Mapping[str, EvaluationSet], k: int
) -> dict[str, RankedLists]:
    """Lists of k items by evaluation set, out of `encode`'s vectors."""
    # Equal queries of two sets may have seen different items: a query's search must be long enough
    # for whichever excludes most.
    excluded = np.zeros(len(encoded.distinct), np.int64)
    seen = {name: evaluation_sets[name].seen for name in encoded.place}
    for name, place in encoded.place.items():
        np.maximum.at(excluded, place, seen[name].lengths)
    ranked = nearest(encoded.distinct, encoded.items, k, excluded)
    return {
        name: with_and_without_seen(ranked.take(place), seen[name], k)
        for name, place in encoded.place.items()
    }


def labelled_clicks(evaluation_set: EvaluationSet, name: str, encoded: Encoded) -> LabelledClicks:
    """The next-click queries that have a label, and whose item is in the corpus.

    Args:
      evaluation_set: next-click queries, each with one true item, and with labels.
      name: the name of the set in `encoded`.
      encoded: its vectors, by the towers whose head is to predict the labels.
    """
    label = evaluation_set.queries.column(feature_schema.LABEL).to_numpy()
    item = evaluation_set.truth.values
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
    if not pa.types.is_list(column.type):
        return _value_codes(column)[:, np.newaxis]
    lists = Ragged.of_lengths(_value_codes(column.flatten()), list_lengths(column))
    return lists.padded().astype(np.int32)


def _value_codes(values: pa.Array) -> np.ndarray:
    codes = values.dictionary_encode().indices.fill_null(-1)
    numbers: np.ndarray = codes.to_numpy(zero_copy_only=False)
    return numbers
