"""Lays the rows of a query out by day: one day at a time, each as whole as a day of files.

A day's folder appears, or is replaced, when the query of that day has ended. So a scheduler may call it
for yesterday, and again after a failure.

PostgreSQL is read by ADBC, a Delta table by deltalake, an Iceberg table by pyiceberg. Each filters by the time
where the rows lie: PostgreSQL by its indexes, Delta and Iceberg by the partitions and statistics of their files.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from io import StringIO
from urllib.parse import parse_qsl, unquote, urlsplit
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.partitioning.calendar_days import Layout
from beam_jobs.partitioning.day_folders import Spill
from beam_jobs.partitioning.log_tables import Aside, flat
from beam_jobs.partitioning.partition import SPILL_BYTES, Summary, collect, put, scratch_for
from twinspire_core import storage
from twinspire_core.errors import BadData, NothingToDo, TryAgain, UsageError, with_full_stop

Progress = Callable[[date, int], None]


def partition_query(
    query: str,
    database: str,
    out: str,
    layout: Layout,
    *,
    replace: bool = False,
    progress: Progress = lambda day, rows: None,
    spill_bytes: int = SPILL_BYTES,
) -> Summary:
    """Asks a database for the rows of each day, and lays them out.

    Args:
      query: `{start}` and `{end}` become the quoted instants between which a day of `layout.time_zone`
        lies. The query of a snapshot needs neither.
      database: where to ask (`read_query`).
      out: folder of a day, with `{date}`. Local or in an object store.
      layout: its `first` and `last` are the days to ask for; without `last`, the first alone.
      replace: an existing day may lose rows that the database does not have.
      progress: called with the day and the rows of it that were read so far.
      spill_bytes: largest size of rows in memory; more go through temporary files.

    Raises:
      UsageError: the arguments do not fit one another, or a day would lose rows.
      BadData: rows have no time, or are of other days.
      TryAgain: a day has not ended, or the database does not answer.
      NothingToDo: no day has rows.
    """
    total = Summary()
    for day in _days(query, layout):
        one = _lay_out_day(query, database, out, layout, day, replace, progress, spill_bytes)
        total.rows += one.rows
        total.days += one.days
        total.written += one.written
        total.replaced += one.replaced
        total.unchanged += one.unchanged
        total.warning = total.warning or one.warning
        if one.days:
            total.first, total.last = total.first or day, day
        else:
            total.missing.append(day)
    with_rows = [day for day in total.missing if storage.exists(out.replace("{date}", str(day)))]
    kept = (
        f"The folder of {with_rows[0]} stays, although the query has no rows for that day. Delete it if they are gone."
        if with_rows
        else ""
    )
    total.warning = total.warning or kept or None
    if not total.days:
        days = " and ".join(str(day) for day in (total.missing[0], *total.missing[1:][-1:]))
        raise NothingToDo(
            f"The query returned no rows for {days}, so nothing was written. If there should be some, check"
            f" its condition and --time-zone. {kept}".rstrip()
        )
    return total


def _days(query: str, layout: Layout) -> list[date]:
    if layout.snapshot:
        return [layout.snapshot]
    lacking = [name for name in ("{start}", "{end}") if name not in query]
    if lacking:
        raise UsageError(
            "--query must bound the time of its rows, as in `where at >= {start} and at < {end}`; it lacks"
            f" {' and '.join(lacking)}. Add the bounds."
        )
    if not layout.first:
        raise UsageError(
            "--query needs its day: --from DATE, and --to DATE for more than one. Add --from."
        )
    last = layout.last or layout.first
    end = _bounds(last, layout.time_zone)[1]
    if datetime.now(UTC) < end:
        raise TryAgain(
            f"A day must have ended before it is laid out; {last} ends at {end.isoformat()}. Try again"
            " then, or name earlier days."
        )
    return [layout.first + timedelta(n) for n in range((last - layout.first).days + 1)]


def _bounds(day: date, zone: str) -> tuple[datetime, datetime]:
    """When a day begins and ends: 23 or 25 hours later where clocks change."""
    here = ZoneInfo(zone)
    return datetime.combine(day, time.min, here), datetime.combine(
        day + timedelta(1), time.min, here
    )


def _lay_out_day(
    query: str,
    database: str,
    out: str,
    layout: Layout,
    day: date,
    replace: bool,
    progress: Progress,
    spill_bytes: int,
) -> Summary:
    if not layout.snapshot:
        for name, bound in zip(("start", "end"), _bounds(day, layout.time_zone), strict=True):
            query = query.replace(f"{{{name}}}", f"'{bound.isoformat()}'")
        layout = dataclasses.replace(layout, first=day, last=day)

    def tables() -> Iterator[tuple[str, pa.Table]]:
        rows = 0
        for table in read_query(database, query):
            rows += len(table)
            progress(day, rows)
            yield "the query's result", flat(table)

    with scratch_for(out) as scratch:
        spill = Spill(scratch / "rows", spill_bytes)
        aside = Aside(StringIO(), keep_going=False)
        summary = collect(tables(), layout, spill, aside)
        aside.close(0)
        if summary.outside:
            raise BadData(
                f"The query must return rows of {day} only; {summary.outside:,} of {summary.rows:,} are of"
                f" other days in {layout.time_zone}. Compare {layout.time!r} with {{start}} and {{end}}; if"
                " its times have no offset, --time-zone must be their zone. The day was not written."
            )
        put(summary, spill, scratch, out, layout, replace)
    return summary


FORMS = "postgresql://USER@HOST/NAME, delta:FOLDER_OF_A_TABLE or iceberg:CATALOG"
_FORM = "select COLUMN, … from NAMESPACE.TABLE where CONDITION"
# What pyiceberg can do: it knows no SQL, only columns and a condition
_SELECT = re.compile(
    r"\s*select\s+(?P<columns>\*|[\w.]+(?:\s*,\s*[\w.]+)*)\s+from\s+(?P<table>[\w.]+)"
    r"(?:\s+where\s+(?P<where>.+?))?\s*;?\s*",
    re.IGNORECASE | re.DOTALL,
)
# Of other characters in a password, libpq quotes parts of it in its errors
_PASSWORD = re.compile(r"[\w.~%!$&'()*+,;=-]*", re.ASCII)
_FIRST_ROUNDED = 2**53  # whole numbers from here on have no double of their own
_UUID = r"(.{8})(.{4})(.{4})(.{4})(.{12})"


def read_query(database: str, query: str) -> Iterator[pa.Table]:
    """The rows that a query selects, in tables of bounded size.

    Args:
      database: `postgresql://…`, `delta:` and the folder of a table, whose name the query uses, or
        `iceberg:` and the name of a catalog of pyiceberg's configuration.
      query: a `select`; for Iceberg of plain columns of one table, with a condition.

    Raises:
      UsageError: the library is not installed, or refuses the query.
      TryAgain: the database does not answer.
    """
    scheme = database.partition(":")[0]
    if scheme not in _READERS:
        raise UsageError(
            f"--database must be {FORMS}; its value starts with {scheme[:12]!r}. Correct it."
        )
    if scheme.startswith("postgres") and not _PASSWORD.fullmatch(_password(database)):
        raise UsageError(
            "A password in --database must have its special characters percent-encoded: @ as %40, / as"
            " %2F, : as %3A. Encode them, or set PGPASSWORD and leave it out of the URL."
        )
    library, reader = _READERS[scheme]
    try:
        for batch in reader(database, query):
            if batch.num_rows:
                yield _with_plain_types(pa.Table.from_batches([batch]))
    except ModuleNotFoundError:
        extra = "adbc" if scheme.startswith("postgres") else scheme
        raise UsageError(
            f"--database {scheme}: needs {library}, which is not installed. Install it: pip install"
            f" 'twinspire[{extra}]'"
        ) from None
    except UsageError:
        raise
    except Exception as e:
        # Without its cause: that may hold the URL, and so a password
        reason = with_full_stop(_without_secrets(" ".join(str(e).split()), database))
        if isinstance(e, OSError) or type(e).__name__ == "OperationalError":
            raise TryAgain(
                f"The database must answer: {reason} Check --database, or try again later."
            ) from None
        raise UsageError(
            f"{library} refuses the query: {reason} Correct --query or --database."
        ) from None


def _postgresql(database: str, query: str) -> Iterator[pa.RecordBatch]:
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        yield from cursor.fetch_record_batch()


def _delta(database: str, query: str) -> Iterable[pa.RecordBatch]:
    from deltalake import DeltaTable, QueryBuilder

    place = database.partition(":")[2].rstrip("/")
    builder = QueryBuilder().register(place.rpartition("/")[2], DeltaTable(place))
    return pa.RecordBatchReader.from_stream(builder.execute(query))


def _iceberg(database: str, query: str) -> Iterable[pa.RecordBatch]:
    from pyiceberg.catalog import load_catalog

    parts = _SELECT.fullmatch(query)
    if not parts:
        raise UsageError(
            f"A query of Iceberg must be `{_FORM}`; found {query!r}. Leave expressions, joins and `order by`"
            " out."
        )
    table = load_catalog(database.partition(":")[2]).load_table(parts["table"])
    columns = tuple(name.strip() for name in parts["columns"].split(","))
    scan = table.scan(selected_fields=columns)
    if parts["where"]:
        scan = scan.filter(parts["where"])
    return scan.to_arrow_batch_reader()


_Reader = Callable[[str, str], Iterable[pa.RecordBatch]]
_READERS: dict[str, tuple[str, _Reader]] = {
    "postgresql": ("adbc-driver-postgresql", _postgresql),
    "postgres": ("adbc-driver-postgresql", _postgresql),
    "delta": ("deltalake", _delta),
    "iceberg": ("pyiceberg", _iceberg),
}


def _without_secrets(text: str, database: str) -> str:
    """The text with stars for passwords that the URL of a database holds, as written or decoded."""
    options = parse_qsl(urlsplit(database).query)
    secrets = {_password(database)} | {value for key, value in options if "password" in key}
    secrets |= {*map(unquote, secrets)}
    for secret in sorted(secrets - {""}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _password(database: str) -> str:
    return database.partition("://")[2].rpartition("@")[0].partition(":")[2]


def _with_plain_types(table: pa.Table) -> pa.Table:
    """The table with types that every stage reads: text for ids and JSON, numbers for PostgreSQL's numeric."""
    columns = [_plain(table.column(number)) for number in range(table.num_columns)]
    return pa.table(columns, names=table.column_names)


def _as_float(digits: pa.ChunkedArray) -> pa.ChunkedArray:
    numbers = digits.cast(pa.float64())
    # A double would make two long ids one
    if (pc.max(pc.abs(numbers)).as_py() or 0) >= _FIRST_ROUNDED:
        raise UsageError(
            "A column of type numeric must hold numbers below 2^53, or its digits would be lost; it holds"
            " larger ones. Cast it in --query, as in `id::text`."
        )
    return numbers


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        stored = pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type)
        if kind.extension_name == "arrow.uuid":
            digits = pl.Series(stored).bin.encode("hex")
            return digits.str.replace(_UUID, "$1-$2-$3-$4-$5").to_arrow()
        is_number = getattr(kind, "type_name", "") == "numeric"
        return _as_float(stored) if is_number else stored
    if pa.types.is_string_view(kind):
        return pc.cast(column, pa.large_string())
    return column
