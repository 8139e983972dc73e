"""The features that a pipeline file is drafted with, by the names and values of columns."""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from keyword import iskeyword
from typing import Any

import polars as pl

from beam_jobs.ingest.columns import holds_bytes
from beam_jobs.scaffold import item_table, log_figures
from beam_jobs.scaffold.column_names import is_context, is_outcome, is_shown, snake

CATEGORY_SIZE = 5_000
_SEPARATORS = ("|", ";", ",", " ")
# A column is a list if at least this share of its values has a separator.
_CUT_SHARE = 0.1
_NUMBER_SHARE = 0.9
_MANY_INTEGERS = 100
_EVERY_PIPELINE: dict[str, dict[str, Any]] = {
    "user": {"tower": "query", "kind": "id"},
    "history": {"kind": "history"},
    "when": {"kind": "time"},
    "item": {"tower": "item", "kind": "id"},
    "clicks_1d": {"kind": "count", "days": 1},
    "clicks_7d": {"kind": "count", "days": 7},
    "item_age": {"kind": "age"},
}
# Chosen in docs/decisions/0012-contexts.md
_CONTEXT_DROPOUT = 0.05
Keys = dict[str, Any]
"""Keys of the table of a feature in the pipeline file."""
# Keys of features by table: their tower, and the table that they come from.
_SIDES: dict[str, Keys] = {
    "events": {"tower": "query"},
    "items": {"tower": "item"},
    "users": {"tower": "query", "from": "users"},
}


def feature_lines(
    events: pl.DataFrame,
    used: set[str | None],
    item: str,
    snapshots: Mapping[str, pl.DataFrame],
    own_keys: Mapping[str, str],
    figures: log_figures.LogFigures,
) -> list[str]:
    """Lines of the drafted file, a table for each feature; features that are left out become comments.

    Args:
      events: a sample of the events.
      used: columns of the events that have another use already.
      item: column of the items in the events.
      snapshots: samples of `items` and `users`, if there are any.
      own_keys: the columns of ids in `items` and `users`.
      figures: what the users of the log do.
    """
    lines: list[str] = []
    for name, keys in _EVERY_PIPELINE.items():
        reason = log_figures.why_left_out(figures, keys["kind"])
        lines += _feature_table(name, keys, reason)
        lines += [log_figures.length_line(figures)] if name == "history" else []
    names = set(_EVERY_PIPELINE)
    listed = snapshots["items"].columns if "items" in snapshots else []
    of_items = item_table.columns_of_items(events, item)
    drafted = list(_features_of("events", events, used | {*listed} & {*of_items}, of_items))
    for table, rows in snapshots.items():
        drafted += _features_of(table, rows, {own_keys[table]})
    for table, column, keys, reason in drafted:
        name = snake(column)
        # TensorFlow uses the name of a feature as the name of an argument.
        if name in names or iskeyword(name):
            name = f"{table}_{name}"
        # Different columns may have the same letters, such as "Price" and "price!".
        same = sum(re.fullmatch(rf"{name}(_\d+)?", other) is not None for other in names)
        name += f"_{same + 1}" if same else ""
        names.add(name)
        lines += _feature_table(name, {**_SIDES[table], "column": column, **keys}, reason)
    train = list(log_figures.train_lines(figures))
    if any(table != "items" and not reason for table, _, _, reason in drafted):
        train += [
            "# A share of the queries is trained without the features of events and users, so that a",
            "# request that leaves them out, as of a user nobody knows, is answered well too.",
            f"context_dropout = {_CONTEXT_DROPOUT}",
        ]
    return [*lines, "", "[train]", *train]


def _feature_table(name: str, keys: Keys, reason: str = "") -> list[str]:
    """The table of a feature; a comment, if there is a reason to leave it out."""
    values = {key: json.dumps(value, ensure_ascii=False) for key, value in keys.items()}
    lines = [f"[features.{name}]", *(f"{key} = {value}" for key, value in values.items())]
    if reason:
        return ["", f"# Left out: {reason}.", *(f"# {line}" for line in lines)]
    return ["", *lines]


def _features_of(
    table: str,
    rows: pl.DataFrame,
    used: Collection[str | None],
    of_items: Collection[str] = (),
) -> Iterator[tuple[str, str, Keys, str]]:
    """Table, column and keys of each feature, and the reason if it is left out, else empty. Columns of
    events are the context of a query, except those in `of_items`, which describe the item.
    """
    for column in rows.columns:
        if column in used:
            continue
        keys, reason = kind(column, rows[column])
        if table == "events" and is_outcome(column):
            reason = "looks like an outcome of the event, not known before it"
        elif column in of_items:
            reason = (
                "the same in every event of an item, so it describes the item: `twinspire partition"
                " --items-of` writes a table of items, which `init --items` reads"
            )
        elif table == "events" and not reason and not is_context(column):
            reason = "it may be an outcome, known only after the event, as what was paid or skipped"
        elif table != "events" and not reason and re.search(r"id$", column, re.I):
            reason = "looks like an id"
        yield table, column, keys, reason


def kind(column: str, values: pl.Series) -> tuple[Keys, str]:
    """Keys of a feature that reads the column, and why it is left out; no reason if it is not."""
    dtype = values.dtype
    present = values.drop_nulls()
    distinct = 0 if dtype.is_nested() else present.n_unique()
    left_out: Keys = {"kind": "category"}
    if present.is_empty():
        return left_out, "no values in the sample"
    if holds_bytes(dtype):
        return left_out, "bytes, which need not be text"
    if isinstance(dtype, pl.List | pl.Array):
        return _list_kind(present), ""
    if dtype.is_temporal():
        return left_out, 'a time; of items, kind = "age" can count from it'
    if dtype.is_nested():
        return left_out, "a nested column"
    if distinct == 1:
        return left_out, "one value only in the sample"
    # Few different integers, such as a number of stars, are categories.
    many_integers = dtype.is_integer() and (distinct > _MANY_INTEGERS or not is_category(values))
    if dtype.is_float() or many_integers:
        return {"kind": "number", "log": bool((present >= 0).all())}, ""
    if dtype == pl.String and not is_shown(column, values) and (separator := _separator(present)):
        return {"kind": "categories", "separator": separator}, ""
    if dtype == pl.String and (example := _number_in_text(present)):
        return left_out, (
            f'numbers written as text, such as {example}; kind = "number" reads them from CSV and JSON'
            " Lines; in Parquet, make them numbers first"
        )
    if dtype == pl.String and distinct > min(CATEGORY_SIZE, 0.5 * len(present)):
        return {"kind": "text"}, ""
    if is_category(values):
        return {"kind": "category"}, ""
    reason = f"{distinct} values in {len(values)} rows, too many to tell that they are categories"
    return left_out, reason


def _list_kind(present: pl.Series) -> Keys:
    """Decimals in lists of one length are a vector; other lists are categories."""
    dtype = present.dtype
    lengths = present.list.len() if isinstance(dtype, pl.List) else present.arr.len()
    if dtype.inner.is_float() and lengths.n_unique() == 1:  # type: ignore[attr-defined]
        return {"kind": "vector", "size": int(lengths[0])}
    return {"kind": "categories"}


def _number_in_text(present: pl.Series) -> str | None:
    """The first number, if nearly all values are numbers and some are decimals: digits alone may be an id."""
    is_number = present.cast(pl.Float64, strict=False).is_not_null()
    has_point = present.str.contains(".", literal=True)
    if is_number.mean() < _NUMBER_SHARE or not (is_number & has_point).any():  # type: ignore[operator]
        return None
    return str(present.filter(is_number)[0])


def is_category(values: pl.Series) -> bool:
    """Whether the values repeat as those of a category do."""
    dtype = values.dtype
    if dtype.is_float() or dtype.is_temporal() or dtype.is_nested() or holds_bytes(dtype):
        return False
    return 1 < values.drop_nulls().n_unique() <= min(CATEGORY_SIZE, max(2, len(values) // 20))


def _separator(present: pl.Series) -> str | None:
    """The separator in strings such as `Drama|Crime`, if there are far fewer parts than combinations."""
    frequent = (
        separator
        for separator in _SEPARATORS
        if present.str.contains(separator, literal=True).sum() >= _CUT_SHARE * len(present)
    )
    separator = next(frequent, None)
    if separator is None:
        return None
    parts = present.str.split(separator).explode().str.strip_chars()
    distinct = parts.n_unique()
    # Cut at the spaces of a title or an address, there are almost as many parts as texts.
    repeat = distinct <= min(CATEGORY_SIZE, max(2, len(parts) // 20))
    return separator if repeat and 2 * distinct <= present.n_unique() else None
