"""Checks a pipeline file against real data in seconds. Columns of a sample are read as the feature job reads
them; in addition, times in another unit, times of other days, and declared values that never occur are
reported.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from typing import NamedTuple

import polars as pl

from beam_jobs.ingest import columns, day_files, records
from beam_jobs.ingest.columns import RAW, Column, WrongType, as_string, read_as
from beam_jobs.ingest.timestamps import TimeForm, forms_of, to_instants
from beam_jobs.scaffold.draft import stack
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import BadData
from twinspire_core.records.raw_files import Unreadable, readable
from twinspire_core.records.record_file import RecordFile

# Rows to read of a table, so that the answer comes in seconds.
_ROWS = 300_000
_LISTED_DAYS = 4
# Largest share of times of other days: with more, the time zone or the unit is wrong.
_MOST_MISPLACED = 0.5
_SHOWN = 6


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


@dataclass(frozen=True, slots=True)
class CheckedDay:
    """The check of a day.

    Attributes:
      columns: all columns that the pipeline file names.
      sampled: what was read of larger tables, in words; empty if all was.
    """

    columns: list[CheckedColumn]
    sampled: str


@dataclass(frozen=True, slots=True)
class TableSample:
    """Some rows of a table.

    Attributes:
      rows: the first rows of each file, at most the same number.
      files: all files of the table.
      extent: how much was read, in words; empty if all was.
    """

    table: day_files.Table
    rows: pl.DataFrame
    files: tuple[RecordFile, ...]
    extent: str

    def values_of(self, column: str) -> Iterator[pl.Series]:
        """Values of a column, block by block: first those of the sample, then, if that is cut, all."""
        yield self.rows[column]
        if self.extent:
            for file in self.files:
                yield from (rows[column] for rows in _blocks(file, [column]))


def validate(pipeline: Pipeline, day: date) -> CheckedDay:
    """Looks at the day's events and the newest snapshots: at all rows, or of large tables at the first
    rows of each file. The events of the day have to be there.

    Raises:
      BadData: a declared table has no files, or one cannot be read.
    """
    samples = [sample_of(pipeline, table, day) for table in day_files.declared_tables(pipeline)]
    declared = columns.of_tables(pipeline)
    [events] = [sample for sample in samples if sample.table == "events"]
    checked = [
        _check(pipeline, day, sample, column, events)
        for sample in samples
        for column in declared[sample.table]
    ]
    return CheckedDay(checked, ", ".join(filter(None, (sample.extent for sample in samples))))


def sample_of(p: Pipeline, table: day_files.Table, day: date) -> TableSample:
    """Rows of the day's events, or of the newest snapshot at or before the day.

    Raises:
      BadData: there is none, or it cannot be read.
    """
    chosen = day if table == "events" else day_files.SnapshotDays(p, table).at(day)
    of_day = day_files.files(p, table, chosen) if chosen else ()
    files = tuple(RecordFile.of(file.uri, p.source.format) for file in of_day)
    if not files:
        days = [str(at) for at in day_files.folder_days(p, table)]
        if len(days) > _LISTED_DAYS:
            days = [*days[:2], "…", *days[-2:]]
        if not days:
            raise BadData(
                f"source.{table} has no files for {day} at {getattr(p.source, table)};"
                f" {day_files.no_days(p, table)}"
            )
        raise BadData(
            f"source.{table} has no files for {day} at {getattr(p.source, table)}; days with files:"
            f" {', '.join(days)}. Choose another --date, or write the day's files with"
            " `twinspire partition`."
        )
    most = -(-_ROWS // len(files))  # rounded up, so that no file is left out
    parts = []
    extent = ""
    for file in files:
        room = most
        for rows in _blocks(file):
            parts.append(rows.head(room))
            room -= len(rows)
            if room < 0:
                extent = f"the first {most:,} {table} of each file"
                break
    return TableSample(table, stack(parts) if parts else pl.DataFrame(), files, extent)


def _blocks(file: RecordFile, columns: list[str] | None = None) -> Iterator[pl.DataFrame]:
    with readable(file.uri, file.kind):
        for block in file.blocks(columns, empty_is_null=True):
            # A run rejects such lines and counts them; here the columns are looked at.
            if not isinstance(block, Unreadable):
                yield pl.DataFrame(block.rows)


def _check(
    p: Pipeline, day: date, sample: TableSample, column: Column, events: TableSample
) -> CheckedColumn:
    """Whether a column is there, and can be used as the pipeline file says."""
    name = column.source
    if name not in sample.rows.columns:
        description = f"no such column; there are: {', '.join(sample.rows.columns)}"
        return CheckedColumn(sample.table, name, _use(p, column), ok=False, found=description)
    values = sample.rows[name]
    kind = values.dtype
    # Polars cannot count the different values of every nested type.
    distinct = "?" if kind.is_nested() else f"{values.n_unique():,}"
    absent = _share(values.null_count(), len(values))
    content = f"{kind}, {distinct} values in {len(values):,} rows, {absent} missing"
    remark = _remark(p, day, sample, column)
    if remark is None and column.kind == "key" and sample is not events:
        remark = _unmatched(p, values, column, events.rows)
    if remark is None:
        return CheckedColumn(sample.table, name, _use(p, column), ok=True, found=content)
    return CheckedColumn(
        table=sample.table,
        column=name,
        use=_use(p, column),
        ok=not remark.is_error,
        found=f"{content}; {remark.words}",
        doubt=not remark.is_error,
    )


def _use(p: Pipeline, column: Column) -> str:
    """What a column is used for: `user`, `features.price (number)`, `corpus.display`."""
    table, name, *_ = column.use.split(".")
    if table == "features":
        return f"features.{name} ({p.features[name].kind})"
    return column.use.removeprefix("columns.")


def _share(part: int, total: int) -> str:
    """A share in words: 0% only where there is nothing."""
    if part == 0:
        return "0%"
    percent = 100 * part / total
    return f"{percent:.0f}%" if percent >= 1 else f"{part:,} ({max(percent, 0.01):.2g}%)"


def _remark(p: Pipeline, day: date, sample: TableSample, column: Column) -> Remark | None:
    """What is odd about a column's type or values."""
    values = sample.rows[column.source]
    text = any(file.kind != "parquet" for file in sample.files)
    try:
        reading = read_as(column, values.dtype, text=text)
    except WrongType as e:
        words = f"{column.use} needs {e}"
        if isinstance(values.dtype, pl.Struct):
            words += "; `twinspire partition` makes a column of each field of a nested column"
        return Remark(words, is_error=True)
    unit = p.columns.time_unit
    forms = forms_of(values) if column.kind == "time" else []
    # First: read in the wrong unit, all times would be of other days, which is no help to anybody.
    if forms and (forms[0].format or forms[0].unit not in (None, unit)):
        example = values.drop_nulls()[0]
        span = _span(to_instants(values, unit, p.zone))
        words = f"times such as {example!r}: read in {unit} they are {span}; {_remedy(forms[0])}"
        return Remark(words, is_error=True)
    # The rules may refer to the converted values, so these are a column first.
    raw = pl.DataFrame([values.alias(RAW + column.source)]).with_columns(reading.values)
    wrong = values.filter(raw.select(is_wrong=reading.nonsense)["is_wrong"])
    if len(wrong):
        remark = _rejected(p, wrong, len(values), reading.reason)
        forms = forms_of(wrong) if column.kind == "time" else []
        return remark._replace(words=f"{remark.words}; {_remedy(forms[0])}") if forms else remark
    if column.kind == "time":
        return _misplaced(p, day, values)
    if column.use in ("columns.event", "corpus.filter"):
        return _absent(p, sample, column)
    return None


def _rejected(p: Pipeline, wrong: pl.Series, total: int, reason: str) -> Remark:
    """A remark on values whose records are rejected."""
    written = wrong.drop_nulls()
    example = f", such as {written[0]!r:.40}" if len(written) else ""
    words = f"{len(wrong):,} of {total:,} records are rejected{example}: {reason}"
    too_many = len(wrong) > p.source.max_rejected * total
    if too_many:
        words += f"; source.max_rejected = {p.source.max_rejected:g} allows fewer"
    return Remark(words, too_many)


def _misplaced(p: Pipeline, day: date, times: pl.Series) -> Remark | None:
    """A remark on times of other days."""
    instants = to_instants(times, p.columns.time_unit, p.zone)
    elsewhere = int((~records.DayBounds.of(p, day).allow(instants)).sum())
    if not elsewhere:
        return None
    words = f"{_share(elsewhere, len(times))} are of other days and left out: the times are {_span(instants)}"
    too_many = elsewhere > _MOST_MISPLACED * len(times)
    if too_many:
        words += ". Look at pipeline.time_zone, columns.time_unit and the folder's date"
    return Remark(words, too_many)


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


def _unmatched(
    p: Pipeline, values: pl.Series, column: Column, events: pl.DataFrame
) -> Remark | None:
    """A remark on ids of items or users, none of which has an event on the day."""
    side = column.name.removeprefix("_")
    name = p.columns.item if side == "item" else p.columns.user
    if name not in events.columns:
        return None
    try:
        known, asked = (
            ids.to_frame().select(as_string(pl.col(ids.name), ids.dtype)).to_series().drop_nulls()
            for ids in (values, events[name])
        )
    except WrongType:
        return None  # the check of that column says so
    if asked.is_empty() or asked.is_in(known.implode()).any():
        return None
    example = f" is {known[0]!r}, while" if len(known) else ", but"
    return Remark(
        f"none of them has an event on the day: an id here{example} {name} of the events is"
        f" {asked[0]!r}. Set columns.{side}s_key to the column with the events' ids",
        is_error=True,
    )


def _absent(p: Pipeline, sample: TableSample, column: Column) -> Remark | None:
    """A remark on declared event types or filter values that do not occur; an error if a value that occurs is
    spelled alike, or if no event can be a positive, or no item passes the filter.
    """
    kind = sample.rows[column.source].dtype
    if column.use == "columns.event":
        key, needed = "columns.positives", list(p.columns.positives)
        declared = list(dict.fromkeys([*needed, *p.columns.weights]))
    else:
        inner = kind.inner if isinstance(kind, pl.List) else kind
        key, needed = (
            "corpus.filter",
            [
                _text(value, inner)  # type: ignore[arg-type]
                for value in p.corpus.filter[column.source]
            ],
        )
        declared = needed
    counts = _counts(sample.values_of(column.source), declared)
    absent = [value for value in declared if not counts[value]]
    if not absent:
        return None
    # Spelled alike, the value that occurs is most probably the one that was meant.
    others = {value.lower(): value for value, n in counts.items() if n and value not in declared}
    near = {value: get_close_matches(value.lower(), others, 1) for value in absent}
    names = [
        f"{value!r} (did you mean {others[near[value][0]]!r}?)" if near[value] else repr(value)
        for value in absent
    ]
    most = ", ".join(repr(value) for value, n in counts.most_common(_SHOWN) if n)
    words = f"there is no {', '.join(names)}, but {most or 'nothing'}"
    if needed and not any(counts[value] for value in needed):
        return Remark(f"no record has a value of {key}: {words}", True)
    return Remark(words, any(near.values()))


def _counts(blocks: Iterable[pl.Series], declared: Collection[str]) -> Counter[str]:
    """How often each value occurs in the first blocks, up to the block that completes the declared values."""
    counts: Counter[str] = Counter()
    for values in blocks:
        flat = values.explode() if isinstance(values.dtype, pl.List) else values
        for value, n in flat.drop_nulls().value_counts().iter_rows():
            counts[_text(value, flat.dtype)] += n
        # Mostly the sample has all of them, and the rest of the files need not be read.
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
