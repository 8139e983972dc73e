"""Reads the files for measuring lists: recommendations of any system, the truth (items that users really
took), and queries. They are joined by user.

Files are Parquet, JSON Lines or CSV (also with `.gz`), read like logs: columns of a CSV are text. A file of
lists has one row per query with a list, or one row per query and item, best first. List elements are ids, or
objects with a field `item`.

N queries.
"""

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.feature_schema import query_columns
from twinspire_core.errors import BadData, UsageError
from twinspire_core.records.json_lines import JsonObject
from twinspire_core.records.raw_files import Unreadable, kind_of
from twinspire_core.records.record_file import WHOLE, RecordFile
from twinspire_core.search.ragged import arrow_lists, is_list, list_lengths, list_rows

USER_COLUMNS = ("_query", "query", "_user", "user", "user_id")
"""Names of the user column, by preference. If a user has several queries, `query` tells them apart."""
ITEM_COLUMNS = ("items", "recommendations", "_item", "item", "item_id")
TRUTH_COLUMNS = ("_truth", "truth", *ITEM_COLUMNS)
# Names of the column of seen items, by preference.
_PAST_COLUMNS = ("_past", "seen")


class Lists(NamedTuple):
    """A list of items per query.

    Attributes:
      key: [N] distinct strings.
      items: [N] lists of strings, never null.
    """

    key: pa.Array
    items: pa.Array


def read_table(source: str) -> pa.Table:
    """Reads a file, or all Parquet files of a folder.

    Raises:
      UsageError: there is no such file.
      BadData: its content does not match its ending.
    """
    if not storage.exists(source):
        raise UsageError(f"There is no file at {source}. Give a Parquet, JSON Lines or CSV file.")
    files = [f.uri for f in storage.list_files(source) if f.path.endswith(".parquet")] or [source]
    try:
        return pa.concat_tables([_read(file) for file in files], promote_options="default")
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError, EOFError, zlib.error, ValueError) as e:
        raise BadData(
            f"{source} cannot be read: {e}. Its ending (.parquet, .jsonl or .csv, also with .gz)"
            " must match its format. The file may also be truncated. Write it again."
        ) from e


def read_lists(
    table: pa.Table, columns: Sequence[str], *, source: str = "the table", user: str | None = None
) -> Lists:
    """Reads the lists in a table.

    Args:
      table: one row per query with a list column, or one per query and item.
      columns: possible names of the item column, by preference.
      source: name of the table for messages.
      user: one more possible name of the user column.

    Raises:
      BadData: a column is missing or has the wrong type, or a query has two lists.
    """
    items = _column(table, columns, source, "the items")
    if not is_list(items.type):
        return _gather(_key(table, source, user), as_text(items, source))
    lengths = list_lengths(items)
    values = items.flatten()
    if pa.types.is_struct(values.type) and values.type.get_field_index("item") >= 0:
        values = pc.struct_field(values, "item")
    keys = read_keys(table, source=source, user=user)
    return Lists(keys, arrow_lists(lengths, as_text(values, source)))


def read_keys(table: pa.Table, *, source: str = "the table", user: str | None = None) -> pa.Array:
    """The keys of a table with one row per query: [N] distinct strings.

    Raises:
      BadData: there is no user column, or a key has two rows.
    """
    key = _key(table, source, user)
    counts = pc.value_counts(key)
    repeated = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        raise BadData(
            f"A query must have one row; {repeated[0]['values']} has {repeated[0]['counts']} of the"
            f" {len(table)} rows of {source}. If a user has several queries, add a column `query`"
            " with an id for each."
        )
    return key


def places_of(wanted: pa.Array, there: pa.Array, name: str) -> pa.Array:
    """The position of each wanted query among others, [N]; null for a query that is missing.

    Raises:
      BadData: no query is in both.
    """
    position = pc.index_in(wanted, value_set=there)
    if len(wanted) and position.null_count == len(wanted):
        raise BadData(
            f"{name} and the truth must have users in common; found"
            f" {wanted.slice(0, 3).to_pylist()} in the truth, {there.slice(0, 3).to_pylist()} in"
            f" {name}. The files may be of different splits, or write ids differently."
        )
    return position


def distinct(lists: Lists) -> Lists:
    """The lists without repeated items, which keep their first place, and without empty lists."""
    row = list_rows(list_lengths(lists.items))
    values = lists.items.flatten()
    names = pc.unique(values)
    # Row and item become one number, so that one call finds all repeats.
    pair = row * (len(names) + 1) + pc.index_in(values, names).to_numpy()
    first = np.sort(np.unique(pair, return_index=True)[1])
    lengths = np.bincount(row[first], minlength=len(lists.key))
    kept = pa.array(lengths > 0)
    return Lists(lists.key.filter(kept), arrow_lists(lengths, values.take(first)).filter(kept))


def as_text(column: pa.Array, source: str) -> pa.Array:
    """Ids as strings, with whole numbers in decimals; null becomes the empty string.

    Raises:
      BadData: the column has neither strings nor whole numbers.
    """
    if pa.types.is_null(column.type) or pa.types.is_dictionary(column.type):
        column = column.cast(pa.string())
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if not is_text and not pa.types.is_integer(column.type):
        raise BadData(f"Ids must be strings or whole numbers; {source} has {column.type}.")
    return column.cast(pa.string()).fill_null("")


def _read(source: str) -> pa.Table:
    kind = kind_of(source.lower()) or "parquet"
    # The whole file as one block: ids that begin as numbers and become text later must have one type.
    blocks = RecordFile(source, kind).blocks(
        prepare=_with_plain_items, empty_is_null=True, block_bytes=WHOLE
    )
    tables = []
    for block in blocks:
        if isinstance(block, Unreadable):
            raise ValueError(
                f"line {block.number} is {block.reason} ({block.why})"
                if kind == "jsonl"
                else f"row {block.number} has {block.why}, {block.reason}"
            )
        tables.append(block.rows)
    return pa.concat_tables(tables) if tables else pa.table({})


def _with_plain_items(record: JsonObject) -> JsonObject:
    """The record with lists of ids instead of lists of objects."""
    return {
        name: [x["item"] if isinstance(x, dict) and "item" in x else x for x in value]
        if isinstance(value, list)
        else value
        for name, value in record.items()
    }


def _column(table: pa.Table, names: Sequence[str], source: str, meaning: str) -> pa.Array:
    present = [name for name in names if name in table.column_names]
    if not present:
        raise BadData(
            f"{source} needs a column with {meaning}, named {' or '.join(names)}; it has"
            f" {', '.join(table.column_names)}. Rename the column."
        )
    column = table.column(present[0]).combine_chunks()
    if pa.types.is_null(column.type):  # a file without a single list
        return column.cast(pa.list_(pa.string()))
    return column


def _key(table: pa.Table, source: str, user: str | None) -> pa.Array:
    names = (*USER_COLUMNS, user) if user else USER_COLUMNS
    return as_text(_column(table, names, source, "who asked"), source)


def _gather(key: pa.Array, items: pa.Array) -> Lists:
    """Lists from a table with one row per query and item, in the order of rows."""
    encoded = key.dictionary_encode()
    code = encoded.indices.to_numpy()
    lengths = np.bincount(code, minlength=len(encoded.dictionary))
    # A stable sort keeps the order of a query's items, which is best first.
    items = items.take(np.argsort(code, kind="stable"))
    return Lists(encoded.dictionary, arrow_lists(lengths, items))


class AlignedQueries(NamedTuple):
    """The queries in the order of the truth.

    Attributes:
      features: [N] raw query features with the types of the pipeline file; null if the file has no such
        query.
      past: [N] lists of strings, seen items; null if the file does not have them.
      past_is_history: whether `past` is the history, oldest first, because no column has seen items.
      answered: how many queries of the truth are in the file.
    """

    features: pa.Table
    past: pa.ChunkedArray
    past_is_history: bool
    answered: int


def align_queries(queries: pa.Table, wanted: pa.Array, pipeline: Pipeline) -> AlignedQueries:
    """Puts queries in the order of the truth.

    Args:
      queries: one row per query: user, raw features and perhaps seen items.
      wanted: [N] distinct strings, the queries of the truth.

    Raises:
      BadData: no query is in the truth, or a column has the wrong type.
    """
    history = pipeline.history_name
    if history and history not in queries.column_names:
        # As in requests, `history` is another name of the history feature (docs/requests.md).
        queries = queries.rename_columns(
            [history if name == "history" else name for name in queries.column_names]
        )
    keys = read_keys(queries, source="the queries", user=pipeline.columns.user)
    # A query that is only in the truth gets missing values for all features.
    position = places_of(wanted, keys, "the queries")
    features = conform(queries, pipeline).take(position)
    user_id = pipeline.user_id
    if user_id and features.column(user_id).null_count == features.num_rows:
        # The user's id is a feature, but queries need not repeat it: the key has it.
        number = features.column_names.index(user_id)
        features = features.set_column(number, user_id, wanted)
    strings = pa.list_(pa.string())
    named = [name for name in _PAST_COLUMNS if name in queries.column_names]
    past = queries[named[0]].cast(strings) if named else pa.nulls(len(queries), strings)
    past = past.take(position)
    # True also for a column of seen items that is null for all of these queries.
    no_past = past.null_count == len(past)
    if history and no_past:
        past = features.column(history)
    return AlignedQueries(
        features=features,
        past=past,
        past_is_history=no_past,
        answered=len(position) - position.null_count,
    )


def conform(table: pa.Table, pipeline: Pipeline) -> pa.Table:
    """Casts raw query features to their declared types. Columns that do not exist become missing values.

    Raises:
      BadData: a column cannot be cast.
    """
    columns = {}
    missing = pa.nulls(table.num_rows)
    for field in query_columns(pipeline):
        given = table[field.name] if field.name in table.column_names else missing
        try:
            columns[field.name] = given.cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
            raise BadData(
                f"Feature {field.name} must be {field.type}; the queries have {given.type}: {e}."
            ) from e
    return pa.table(columns)
