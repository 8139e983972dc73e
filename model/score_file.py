"""Measures a file of recommendations of any system on the items that users really took (the truth).

Files are Parquet, JSON Lines or CSV (also with `.gz`), read like logs: columns of a CSV are text. A file of
lists has one row per query with a list, or one row per query and item, best first. List elements are ids, or
objects with a field `item`. Recommendations and truth are joined by user.

N queries.
"""

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from twinspire_core import storage
from twinspire_core.errors import BadData, UsageError
from twinspire_core.metrics.intervals import intervals, resampled_means
from twinspire_core.metrics.list_metrics import by_user, exposure, means
from twinspire_core.records.json_lines import JsonObject
from twinspire_core.records.raw_files import Unreadable, kind_of
from twinspire_core.records.record_file import WHOLE, RecordFile
from twinspire_core.search.ragged import arrow_lists, is_list, list_lengths, list_rows, positions

USER_COLUMNS = ("_query", "query", "_user", "user", "user_id")
"""Names of the user column, by preference. If a user has several queries, `query` tells them apart."""
ITEM_COLUMNS = ("items", "recommendations", "_item", "item", "item_id")
TRUTH_COLUMNS = ("_truth", "truth", *ITEM_COLUMNS)


def score_file(
    recs: str | pa.Table,
    truth: str | pa.Table,
    ks: Sequence[int],
    corpus: str | pa.Table | None = None,
    *,
    resamples: int = 0,
) -> dict[str, Any]:
    """Measures a file of recommendations.

    Every query with a true item counts; without recommendations it counts as a miss. Other queries are
    ignored.

    Args:
      recs: recommended items per query, best first: a file or a table.
      truth: true items per query; repeated items count once.
      ks: the lengths of lists to measure.
      corpus: the items that can be recommended, with a column `_item` or `item`. True and recommended
        items outside it are misses. Without a corpus, there is no coverage and no Gini coefficient.
      resamples: bootstrap resamples for `intervals`; 0 for none. Several queries of one user count as
        several users.

    Returns: means by measure, with `users` (queries with a true item), `answered` (those of them
    that have a list) and `longest` (items of the longest list).
    """
    wanted = _distinct(_read_lists(truth, TRUTH_COLUMNS))
    given = _read_lists(recs, ITEM_COLUMNS)
    if corpus is None:
        items = pc.unique(pa.chunked_array([given.items.flatten(), wanted.items.flatten()]))
        corpus_size = None  # the union of two files is not a corpus, so a share of it means nothing
    else:
        items = pc.unique(_read_corpus(corpus))
        corpus_size = len(items)
    position = _places_of(wanted.key, given.key)
    is_answered = position.is_valid().to_numpy(zero_copy_only=False)
    # A query without recommendations keeps an empty list, so that it counts as a miss.
    ranked = np.full((len(wanted.key), max(ks)), -1, np.int64)
    answers = given.items.take(position.drop_null())
    ranked[is_answered] = positions(answers, items).padded(max(ks))
    values = by_user(ranked, positions(wanted.items, items), ks)
    measured: dict[str, Any] = {
        "users": len(wanted.key),
        "answered": int(is_answered.sum()),
        "longest": int(list_lengths(answers).max(initial=0)),
        **means(values),
        **exposure(ranked[is_answered], ks, corpus_size),
    }
    if resamples:
        resampled = resampled_means(values, np.arange(len(wanted.key)), resamples)
        measured["intervals"] = {name: list(span) for name, span in intervals(resampled).items()}
    return measured


def _read_corpus(corpus: str | pa.Table) -> pa.Array:
    """The ids of a corpus: its item column, else its first column."""
    table, _ = _read_table(corpus)
    given = table.column_names
    name = next((name for name in ("_item", "item", "item_id") if name in given), given[0])
    return _as_text(table.column(name).combine_chunks(), "the corpus")


class Lists(NamedTuple):
    """A list of items per query.

    Attributes:
      key: [N] distinct strings.
      items: [N] lists of strings, never null.
    """

    key: pa.Array
    items: pa.Array


def _read_table(source: str | pa.Table) -> tuple[pa.Table, str]:
    """A file, or all Parquet files of a folder; and its name for messages.

    Raises:
      UsageError: there is no such file.
      BadData: its content does not match its ending.
    """
    if not isinstance(source, str):
        return source, "the table"
    if not storage.exists(source):
        raise UsageError(f"There is no file at {source}. Give a Parquet, JSON Lines or CSV file.")
    files = [f.uri for f in storage.list_files(source) if f.path.endswith(".parquet")] or [source]
    try:
        return pa.concat_tables(
            [_read_file(file) for file in files], promote_options="default"
        ), source
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError, EOFError, zlib.error, ValueError) as e:
        raise BadData(
            f"{source} cannot be read: {e}. Its ending (.parquet, .jsonl or .csv, also with .gz)"
            " must match its format. The file may also be truncated. Write it again."
        ) from e


def _read_lists(given: str | pa.Table, columns: Sequence[str]) -> Lists:
    """Reads lists, in either form.

    Args:
      columns: possible names of the item column, by preference.

    Raises:
      BadData: a column is missing or has the wrong type, or a query has two lists.
    """
    table, source = _read_table(given)
    key = _as_text(_column(table, USER_COLUMNS, source, "who asked"), source)
    items = _column(table, columns, source, "the items")
    if not is_list(items.type):
        return _gather(key, _as_text(items, source))
    _refuse_repeated(key, source)
    lengths = list_lengths(items)
    values = items.flatten()
    if pa.types.is_struct(values.type) and values.type.get_field_index("item") >= 0:
        values = pc.struct_field(values, "item")
    return Lists(key, arrow_lists(lengths, _as_text(values, source)))


def _refuse_repeated(key: pa.Array, source: str) -> None:
    counts = pc.value_counts(key)
    repeated = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        raise BadData(
            f"A query must have one row; {repeated[0]['values']} has {repeated[0]['counts']} of the"
            f" {len(key)} rows of {source}. If a user has several queries, add a column `query`"
            " with an id for each."
        )


def _places_of(wanted: pa.Array, there: pa.Array) -> pa.Array:
    """The position of each query of the truth among the recommendations, [N]; null where it is missing."""
    position = pc.index_in(wanted, value_set=there)
    if len(wanted) and position.null_count == len(wanted):
        raise BadData(
            "The recommendations and the truth must have users in common; found"
            f" {wanted.slice(0, 3).to_pylist()} in the truth, {there.slice(0, 3).to_pylist()} in"
            " the recommendations. The files may be of different splits, or write ids differently."
        )
    return position


def _distinct(lists: Lists) -> Lists:
    """The lists without repeated items, which keep their first place, and without empty lists."""
    row = list_rows(list_lengths(lists.items))
    values = lists.items.flatten()
    names = pc.unique(values)
    # Row and item become one number, so that one call finds all repeats.
    pair = row * (len(names) + 1) + pc.index_in(values, names).to_numpy()
    first = np.sort(np.unique(pair, return_index=True)[1])
    lengths = np.bincount(row[first], minlength=len(lists.key))
    has_items = pa.array(lengths > 0)
    return Lists(
        lists.key.filter(has_items), arrow_lists(lengths, values.take(first)).filter(has_items)
    )


def _as_text(column: pa.Array, source: str) -> pa.Array:
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


def _read_file(source: str) -> pa.Table:
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
    if not table.column_names:
        raise BadData(f"{source} is empty. Give a file with rows.")
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


def _gather(key: pa.Array, items: pa.Array) -> Lists:
    """Lists from a table with one row per query and item, in the order of rows."""
    encoded = key.dictionary_encode()
    code = encoded.indices.to_numpy()
    lengths = np.bincount(code, minlength=len(encoded.dictionary))
    # A stable sort keeps the order of a query's items, which is best first.
    items = items.take(np.argsort(code, kind="stable"))
    return Lists(encoded.dictionary, arrow_lists(lengths, items))
