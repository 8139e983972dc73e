"""Reads the rows of one query as Arrow tables, a batch at a time: PostgreSQL by ADBC, a Delta table by
deltalake, an Iceberg table by pyiceberg.

Each library filters by the time where the rows lie: PostgreSQL by its indexes, Delta and Iceberg by the
partitions and statistics of their files.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import parse_qsl, unquote, urlsplit

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from twinspire_core.errors import TryAgain, UsageError, with_full_stop

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
# Classes of SQLSTATE: connection, rollback, resources, locks, operators, system
_STATES_THAT_PASS = ("08", "40", "53", "55", "57", "58")
# ADBC gives no SQLSTATE for errors of connecting, and of rows after the first
_REFUSED = re.compile(
    r"(FATAL|ERROR): (?!.*(starting up|shutting down|recovery|too many|remaining|cancel|terminat))"
    r"|invalid |missing \"=\""
)
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
        if _may_pass(e):
            raise TryAgain(
                f"The database must answer: {reason} Check --database, or try again later."
            ) from None
        raise UsageError(
            f"{library} refuses the query: {reason} Correct --query or --database."
        ) from None


def _may_pass(error: Exception) -> bool:
    """Whether the same query may succeed later: the database is out of reach, or has no room."""
    if state := getattr(error, "sqlstate", None):
        return state.startswith(_STATES_THAT_PASS)
    is_out_of_reach = isinstance(error, OSError) or type(error).__name__ == "OperationalError"
    return is_out_of_reach and not _REFUSED.search(str(error))


def _postgresql(database: str, query: str) -> Iterator[pa.RecordBatch]:
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        yield from cursor.fetch_record_batch()


def _delta(database: str, query: str) -> Iterable[pa.RecordBatch]:
    from deltalake import DeltaTable, QueryBuilder

    folder = database.partition(":")[2].rstrip("/")
    builder = QueryBuilder().register(folder.rpartition("/")[2], DeltaTable(folder))
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
    for field in table.schema:
        if pa.types.is_interval(field.type):
            raise UsageError(
                f"A column must hold text, numbers or times; {field.name!r} of --query is an interval."
                f" Cast it, as in `extract(epoch from {field.name})`."
            )
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
