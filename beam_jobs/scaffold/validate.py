"""Checks a pipeline file against real data in seconds: whether each column exists and has a type that
fits; and what the type does not tell: missing ids, times of other days, declared values that never occur.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import date
from difflib import get_close_matches
from typing import NamedTuple

import polars as pl

from beam_jobs.ingest import timestamps
from beam_jobs.ingest.columns import holds_bytes
from beam_jobs.ingest.records import DayBounds
from beam_jobs.ingest.timestamps import TimeForm, forms_of, to_instants
from beam_jobs.scaffold.samples import TableSample, declared_tables, sample_of
from twinspire_core.config.feature_kinds import AgeFeature, CategoriesFeature
from twinspire_core.config.pipeline import Pipeline

_MOST_MISPLACED = 0.5
_SHOWN = 6
_NUMBERS = ("number", "reward", "label")


class Remark(NamedTuple):
    """What is odd about the values of a column.

    Attributes:
      is_error: whether a run would fail because of it, or have nothing to learn from.
    """

    words: str
    is_error: bool


@dataclass(frozen=True, slots=True)
class CheckedColumn:
    """A column that the pipeline file names.

    Attributes:
      use: what the pipeline file uses it for.
      ok: whether it can be used.
      found: its type and its values, in words.
      doubt: whether something looks wrong, though it can be used.
    """

    table: str
    column: str
    use: str
    ok: bool
    found: str
    doubt: bool = False

    def with_remark(self, remark: Remark | None) -> "CheckedColumn":
        """The column, with a remark added to `found`."""
        if remark is None:
            return self
        words = f"{self.found}; {remark.words}"
        return replace(
            self, found=words, ok=self.ok and not remark.is_error, doubt=not remark.is_error
        )


@dataclass(frozen=True, slots=True)
class CheckedDay:
    """The check of a day.

    Attributes:
      columns: all columns that the pipeline file names.
      sampled: what was read of larger tables, in words; empty if all was.
    """

    columns: list[CheckedColumn]
    sampled: str


class _Use(NamedTuple):
    """What the pipeline file uses a column for.

    Attributes:
      words: the use, as messages say it.
      role: `user`, `item`, `time`, `reward`, …; for a feature, its kind.
      separator: text between the categories in its strings.
    """

    words: str
    column: str
    role: str
    separator: str | None = None


def validate(pipeline: Pipeline, day: date) -> CheckedDay:
    """Looks at the day's events and the newest snapshots: at all rows, or of large tables at the first
    rows of each file. The events of the day have to be there.

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
    absent = _share(values.null_count(), len(values))
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


def _share(part: int, total: int) -> str:
    """A share in words: 0% only where there is nothing."""
    if part == 0:
        return "0%"
    percent = 100 * part / total
    return f"{percent:.0f}%" if percent >= 1 else f"{part:,} ({max(percent, 0.01):.2g}%)"


def _look_closer(
    pipeline: Pipeline, day: date, sample: TableSample, use: "_Use", column: CheckedColumn
) -> CheckedColumn:
    """The column, with what its values show."""
    values = sample.rows[use.column]
    can_be_text = sample.is_text and use.role in _NUMBERS
    if not column.ok and can_be_text and values.dtype == pl.String:
        column = _numbers_as_text(values, column, pipeline.source.max_rejected)
    if not column.ok:
        return column
    match use.role:
        case "user" | "item":
            return column.with_remark(_missing_ids(pipeline, values))
        case "time":
            return column.with_remark(_times(pipeline, day, values))
        case "event":
            return column.with_remark(_event_types(pipeline, sample))
        case "corpus.filter":
            return column.with_remark(_filtered(pipeline, sample, use.column))
        case _:
            return column


def _numbers_as_text(
    values: pl.Series, column: CheckedColumn, max_rejected: float
) -> CheckedColumn:
    """A text column of CSV or JSON Lines whose use is a number: it is read as numbers, and records with
    other text are rejected.
    """
    texts = values.str.strip_chars()
    wrong = values.filter(texts.cast(pl.Float64, strict=False).is_null() & (texts != ""))
    found, _, _ = column.found.rpartition(";")
    if wrong.is_empty():
        return replace(column, ok=True, found=f"{found}; numbers")
    _share = len(wrong) / len(values)
    return replace(
        column,
        ok=_share <= max_rejected,
        found=f"{found}; {len(wrong):,} are no numbers, {wrong[0][:40]!r} say: their records"
        " are rejected",
    )


def _missing_ids(p: Pipeline, values: pl.Series) -> Remark | None:
    """A remark on records without an id, which are rejected."""
    missing = int((values.is_null() | (values.cast(pl.String) == "")).sum())
    return _rejected(p, missing, len(values), "no id") if missing else None


def _times(p: Pipeline, day: date, values: pl.Series) -> Remark | None:
    """A remark on times in another unit or form than declared, or of other days."""
    unit = p.columns.time_unit
    instants = to_instants(values, unit, p.zone)
    forms = forms_of(values)
    if forms and (forms[0].format or forms[0].unit not in (None, unit)):
        read = f"read in {unit} they are {_span(instants)}"
        likely = _remedy(forms[0])
        return Remark(f"times such as {values.drop_nulls()[0]!r}: {read}; {likely}", is_error=True)
    wrong = values.filter(instants.is_null())
    if len(wrong):
        remark = _rejected(p, len(wrong), len(values), "no time")
        written = wrong.drop_nulls()
        example = f", such as {written[0]!r}" if len(written) else ""
        advice = "; " + _remedy(forms[0]) if (forms := forms_of(written)) else ""
        return Remark(remark.words + example + advice, remark.is_error)
    bounds = DayBounds.of(p, day)
    elsewhere = int((~bounds.allow(instants)).sum())
    if not elsewhere:
        return None
    words = f"{_share(elsewhere, len(values))} are of other days and left out: the times are {_span(instants)}"
    if elsewhere > _MOST_MISPLACED * len(values):
        words += ". Look at pipeline.time_zone, columns.time_unit and the folder's date"
        return Remark(words, is_error=True)
    return Remark(words, is_error=False)


def _remedy(form: TimeForm) -> str:
    if form.unit:
        return f'set columns.time_unit = "{form.unit}"'
    return f"`twinspire partition --time-format '{form.format}'` reads them"


def _span(instants: pl.Series) -> str:
    """From when to when the times are, in words."""
    clock = instants.cast(pl.Datetime("us")).sort().drop_nulls()
    if clock.is_empty():
        return "of no year"
    first, last = clock[0], clock[-1]
    return f"of {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"


def _rejected(p: Pipeline, bad: int, total: int, reason: str) -> Remark:
    too_many = bad > p.source.max_rejected * total
    words = f"{bad:,} of {total:,} records are rejected ({reason})"
    if too_many:
        words += f", more than source.max_rejected = {p.source.max_rejected:g} allows"
    return Remark(words, too_many)


def _event_types(p: Pipeline, sample: TableSample) -> Remark | None:
    """A remark on declared event types that do not occur on the day."""
    assert p.columns.event is not None
    declared = dict.fromkeys([*p.columns.positives, *p.columns.weights])
    counts = _counts(sample.values_of(p.columns.event), declared)
    remark = _absent(declared, counts)
    if remark and p.columns.positives and not any(counts[kind] for kind in p.columns.positives):
        return Remark(f"no event is one of columns.positives: there is {remark.words}", True)
    return remark and Remark(f"of positives and weights there is {remark.words}", remark.is_error)


def _filtered(p: Pipeline, sample: TableSample, column: str) -> Remark | None:
    """A remark on values of `corpus.filter` that no item of the snapshot has."""
    values = sample.rows[column]
    wanted = p.corpus.filter[column]
    kind = values.dtype.inner if isinstance(values.dtype, pl.List) else values.dtype
    declared = [_text(value, kind) for value in wanted]  # type: ignore[arg-type]
    counts = _counts(sample.values_of(column), declared)
    remark = _absent(declared, counts)
    if remark and not any(counts[value] for value in declared):
        return Remark(f"no item passes corpus.filter: there is {remark.words}", True)
    return remark and Remark(f"of corpus.filter there is {remark.words}", remark.is_error)


def _counts(blocks: Iterable[pl.Series], declared: Collection[str]) -> Counter[str]:
    """How often each value occurs in the first blocks, up to the block that completes the declared values."""
    counts: Counter[str] = Counter()
    for values in blocks:
        flat = values.explode() if isinstance(values.dtype, pl.List) else values
        for value, n in flat.drop_nulls().value_counts().iter_rows():
            counts[_text(value, flat.dtype)] += n
        if all(counts[value] for value in declared):
            break
    return counts


def _text(value: object, kind: pl.DataType) -> str:
    """A value spelled like those of a column of this type; for the filter, true is 1."""
    if isinstance(value, str):
        return value
    if kind == pl.Boolean or (isinstance(value, bool) and not kind.is_numeric()):
        return str(bool(value)).lower()
    is_whole = isinstance(value, int | float) and float(value).is_integer()
    return str(int(value)) if is_whole else str(value)  # type: ignore[call-overload]


def _absent(declared: Collection[str], counts: Counter[str]) -> Remark | None:
    """A remark on declared values that do not occur; an error if a value that occurs is spelled alike."""
    absent = [value for value in declared if not counts[value]]
    if not absent:
        return None
    others = {value.lower(): value for value, n in counts.items() if n and value not in declared}
    near = {value: get_close_matches(value.lower(), others, 1) for value in absent}
    named = [
        f"{value!r} (did you mean {others[near[value][0]]!r}?)" if near[value] else repr(value)
        for value in absent
    ]
    most = ", ".join(repr(value) for value, n in counts.most_common(_SHOWN) if n)
    return Remark(f"no {', '.join(named)}, but {most or 'nothing'}", any(near.values()))
