"""Checks a pipeline file against real data in seconds: does each column exist, and hold what the
file says?
"""

from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import NamedTuple

import polars as pl

from beam_jobs.ingest.column_values import holds_bytes
from beam_jobs.partitioning.log_tables import format_of, read
from twinspire_core import storage
from twinspire_core.config.feature_kinds import AgeFeature, CategoriesFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import BadData

_ROWS = 50_000
_LISTED_DAYS = 4
_MOST_NULL_KEYS = 0.5
_NUMBERS = ("number", "reward", "label")


@dataclass(frozen=True, slots=True)
class CheckedColumn:
    """One column looked at.

    Attributes:
      use: what the pipeline file uses it for.
      ok: whether it can be used.
      found: what is there, in words.
    """

    table: str
    column: str
    use: str
    ok: bool
    found: str


def validate(pipeline: Pipeline, day: date, scratch: Path) -> list[CheckedColumn]:
    """Looks at the first rows of the day's events and of the newest snapshots.

    Args:
      pipeline: the parsed file.
      day: a day whose events are there.
      scratch: folder for files that have to be downloaded.

    Raises:
      BadData: a declared table has no files.
    """
    checked: list[CheckedColumn] = []
    templates = {
        "events": pipeline.source.events,
        "items": pipeline.source.items,
        "users": pipeline.source.users,
    }
    for table, template in templates.items():
        if template is None:
            continue
        rows, is_text = _first_rows(pipeline, table, template, day, scratch)
        for use in _uses(pipeline, table):
            column = _look(rows, table, use)
            can_be_text = is_text and use.role in _NUMBERS
            if not column.ok and can_be_text and rows.schema.get(use.column) == pl.String:
                column = _numbers_as_text(rows[use.column], column, pipeline.source.max_rejected)
            if use.role == "label" and column.ok:
                column = _in_range(pipeline, rows, column)
            checked.append(column)
    return checked


class _Use(NamedTuple):
    """What the pipeline file uses a column for.

    Attributes:
      words: for people.
      column: its name.
      role: `user`, `item`, `time`, `reward`, …; of a feature, its kind.
      separator: that cuts its strings into categories.
    """

    words: str
    column: str
    role: str
    separator: str | None = None


def _uses(pipeline: Pipeline, table: str) -> list[_Use]:
    """All columns of a table that the pipeline file names."""
    columns = pipeline.columns
    keys: dict[str, dict[str, str | None]] = {
        "events": {
            "user": columns.user,
            "item": columns.item,
            "time": columns.time,
            "reward": columns.reward,
            "label": columns.label,
            "event": columns.event,
        },
        "items": {"item": columns.items_key or columns.item},
        "users": {"user": columns.users_key or columns.user},
    }
    uses = [_Use(role, column, role) for role, column in keys[table].items() if column]
    for name, column in pipeline.columns_of(table).items():
        feature = pipeline.features[name]
        separator = feature.separator if isinstance(feature, CategoriesFeature) else None
        words = f"features.{name} ({feature.kind})"
        uses.append(_Use(words, column, feature.kind, separator))
    if table == "items":
        for name, age in pipeline.of_kind(AgeFeature).items():
            if age.column:
                uses.append(_Use(f"features.{name} (age)", age.column, "age"))
        corpus = pipeline.corpus
        shown = {
            "display": corpus.display,
            "attributes": corpus.attributes,
            "filter": corpus.filter,
        }
        for key, names in shown.items():
            uses += [_Use(f"corpus.{key}", column, f"corpus.{key}") for column in names]
    return uses


def _look(rows: pl.DataFrame, table: str, use: _Use) -> CheckedColumn:
    """Whether a column is there, and can be what it is used for."""

    def checked(ok: bool, found: str) -> CheckedColumn:
        return CheckedColumn(table, use.column, use.words, ok, found)

    if use.column not in rows.columns:
        return checked(False, f"no such column; there are: {', '.join(rows.columns)}")
    values = rows[use.column]
    kind = values.dtype
    nulls = values.null_count() / max(1, len(values))
    distinct = "?" if kind.is_nested() else values.n_unique()
    words = f"{kind}, {distinct} values in {len(values)} rows, {nulls:.0%} missing"
    if use.role == "categories" and kind == pl.String and not use.separator:
        hint = "categories in a string need the feature's separator, or a list column"
        return checked(False, f"{words}; {hint}")
    if not _can_be(use.role, kind, nulls):
        hint = ""
        if isinstance(kind, pl.Struct):
            inside = f"{use.column}.{kind.fields[0].name}" if kind.fields else "each"
            hint = f": it is nested; `twinspire partition` makes a column of each field, {inside}"
        return checked(False, f"{words}; cannot be used as {use.role}{hint}")
    return checked(True, words)


def _can_be(role: str, kind: pl.DataType, nulls: float) -> bool:
    """Whether a column of a type, of which a share is null, can have a role."""
    if holds_bytes(kind):
        return False
    match role:
        # A key that is a decimal was an integer with nulls in pandas: 7 would be the user "7.0".
        case "user" | "item" | "time":
            return not (kind.is_nested() or kind.is_float() or nulls > _MOST_NULL_KEYS)
        case "number" | "reward":
            return kind.is_numeric()
        case "vector":
            return kind.is_nested()
        case "label":
            return _is_number(kind)
        case _:
            return True


def _numbers_as_text(
    values: pl.Series, column: CheckedColumn, max_rejected: float
) -> CheckedColumn:
    """The column again, if it is one of a CSV or of JSON Lines: its text is read as numbers, and
    records with another one are rejected.
    """
    texts = values.str.strip_chars()
    wrong = values.filter(texts.cast(pl.Float64, strict=False).is_null() & (texts != ""))
    found, _, _ = column.found.rpartition(";")
    if wrong.is_empty():
        return replace(column, ok=True, found=f"{found}; numbers")
    share = len(wrong) / len(values)
    return replace(
        column,
        ok=share <= max_rejected,
        found=f"{found}; {len(wrong):,} are no numbers, {wrong[0][:40]!r} say: their records"
        " are rejected",
    )


def _is_number(kind: pl.DataType) -> bool:
    return kind.is_numeric() or kind in (pl.Boolean, pl.Null)


def _in_range(pipeline: Pipeline, rows: pl.DataFrame, label: CheckedColumn) -> CheckedColumn:
    """The label again, with what the loss of `train.auxiliary` thinks of the labels."""
    auxiliary = pipeline.train.auxiliary
    values = rows[label.column].cast(pl.Float64, strict=False).drop_nans().drop_nulls()
    wrong = values.filter((values < 0) | (values > 1))
    if not auxiliary.weight or auxiliary.loss != "logistic" or wrong.is_empty():
        return label
    words = (
        f'{label.found}; found {wrong[0]:g}, and train.auxiliary.loss = "logistic" takes labels'
        " from 0 to 1"
    )
    return replace(label, ok=False, found=words)


def _first_rows(
    pipeline: Pipeline, table: str, template: str, day: date, scratch: Path
) -> tuple[pl.DataFrame, bool]:
    """Rows of the day's events, or of the newest snapshot that the day knows; and whether
    numbers of theirs may be text.
    """
    head, _, _ = template.partition("{date}")
    folder, _, prefix = head.rpartition("/")
    names = storage.list_names(folder)
    days = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    # Events are of the day itself; a snapshot is the newest one that the day can have used.
    chosen: str | None = str(day)
    if table != "events":
        chosen = max((found for found in days if found <= str(day)), default=None)
    files = storage.list_files(template.replace("{date}", chosen)) if chosen else []
    files = [file for file in files if not file.path.startswith(("_", "."))]
    if not files:
        listed = ", ".join(days) or "none"
        if len(days) > _LISTED_DAYS:
            listed = ", ".join([*days[:2], "…", *days[-2:]])
        raise BadData(
            f"source.{table} has no files for {day} at {template}; days there: {listed}."
            " Lay the raw files out with `twinspire partition`, or choose another --date."
        )
    file = storage.localize(files[0].uri, scratch)
    first_table = next(read(file, lambda malformed: None, pipeline.source.format))
    is_text = format_of(file, pipeline.source.format) != "parquet"
    return pl.DataFrame(first_table.slice(0, _ROWS)), is_text
