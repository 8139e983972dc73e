"""Checks a pipeline file against real data in seconds: does each column exist, and hold what the
file says?
"""

from dataclasses import dataclass, replace
from datetime import date
from typing import NamedTuple

import polars as pl

from beam_jobs.ingest import timestamps
from beam_jobs.ingest.column_values import holds_bytes
from beam_jobs.scaffold import day_values
from beam_jobs.scaffold.day_sample import TableSample, declared_tables, sample_of
from beam_jobs.scaffold.day_values import Remark
from twinspire_core.config.feature_kinds import AgeFeature, CategoriesFeature
from twinspire_core.config.pipeline import Pipeline

_NUMBERS = ("number", "reward", "label")


@dataclass(frozen=True, slots=True)
class CheckedColumn:
    """One column looked at.

    Attributes:
      use: what the pipeline file uses it for.
      ok: whether it can be used.
      found: what is there, in words.
      doubt: whether something in it looks wrong, though it can be used.
    """

    table: str
    column: str
    use: str
    ok: bool
    found: str
    doubt: bool = False

    def with_remark(self, remark: Remark | None) -> "CheckedColumn":
        """The column again, with what else is to say of it."""
        if remark is None:
            return self
        found = f"{self.found}; {remark.words}"
        return replace(
            self, found=found, ok=self.ok and not remark.is_error, doubt=not remark.is_error
        )


@dataclass(frozen=True, slots=True)
class CheckedDay:
    """What a day was looked at for.

    Attributes:
      columns: all that the pipeline file names.
      sampled: what was read of larger tables, in words; empty if all was.
    """

    columns: list[CheckedColumn]
    sampled: str


def validate(pipeline: Pipeline, day: date) -> CheckedDay:
    """Looks at the day's events and the newest snapshots: at all rows, or of large tables at the
    first ones of each file.

    Args:
      pipeline: the parsed file.
      day: a day whose events are there.

    Raises:
      BadData: a declared table has no files, or one cannot be read.
    """
    checked: list[CheckedColumn] = []
    samples = [sample_of(pipeline, table, day) for table in declared_tables(pipeline)]
    for sample in samples:
        for use in _uses(pipeline, sample.table):
            column = _look(sample.rows, sample.table, use)
            if use.column in sample.rows.columns:
                column = _look_closer(pipeline, day, sample, use, column)
            checked.append(column)
    return CheckedDay(checked, ", ".join(filter(None, (sample.extent for sample in samples))))


def _look_closer(
    pipeline: Pipeline, day: date, sample: TableSample, use: "_Use", column: CheckedColumn
) -> CheckedColumn:
    """The column again, by what its values are."""
    values = sample.rows[use.column]
    can_be_text = sample.is_text and use.role in _NUMBERS
    if not column.ok and can_be_text and values.dtype == pl.String:
        column = _numbers_as_text(values, column, pipeline.source.max_rejected)
    if not column.ok:
        return column
    match use.role:
        case "user" | "item":
            return column.with_remark(day_values.missing_ids(pipeline, values))
        case "time":
            return column.with_remark(day_values.times(pipeline, day, values))
        case "event":
            return column.with_remark(day_values.event_types(pipeline, sample))
        case "corpus.filter":
            return column.with_remark(day_values.filtered(pipeline, sample, use.column))
        case _:
            return column


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
    distinct = "?" if kind.is_nested() else f"{values.n_unique():,}"
    absent = day_values.share(values.null_count(), len(values))
    words = f"{kind}, {distinct} values in {len(values):,} rows, {absent} missing"
    if use.role == "categories" and kind == pl.String and not use.separator:
        hint = "categories in a string need the feature's separator, or a list column"
        return checked(False, f"{words}; {hint}")
    if not _can_be(use.role, kind):
        hint = ""
        if use.role in ("user", "item") and kind.is_float():
            hint = ": ids are text or integers; pandas makes decimals of integers with gaps"
        if isinstance(kind, pl.Struct):
            inside = f"{use.column}.{kind.fields[0].name}" if kind.fields else "each"
            hint = f": it is nested; `twinspire partition` makes a column of each field, {inside}"
        return checked(False, f"{words}; cannot be used as {use.role}{hint}")
    return checked(True, words)


def _can_be(role: str, kind: pl.DataType) -> bool:
    """Whether a column of a type can have a role."""
    if holds_bytes(kind):
        return False
    match role:
        # A key that is a decimal was an integer with nulls in pandas: 7 would be the user "7.0".
        case "user" | "item":
            return not (kind.is_nested() or kind.is_float())
        case "time":
            return timestamps.accepts(kind)
        case "number" | "reward":
            return kind.is_numeric()
        case "vector":
            return kind.is_nested()
        case "label":
            return kind.is_numeric() or kind in (pl.Boolean, pl.Null)
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
