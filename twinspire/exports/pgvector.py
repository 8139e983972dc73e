"""Items in PostgreSQL with pgvector. Each towers' vectors have a table of their own,
`twinspire."NAME-TOWERS"`, and the view `twinspire."NAME"` shows the table of the newest export.

An export is one transaction: readers see all of it or nothing, and a killed one leaves nothing.
"""

import json
import re
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg2
from psycopg2.extras import execute_values
from psycopg2.sql import SQL, Composable, Identifier, Literal

from twinspire.exports.exported_items import BATCH, Changes, ExportedItems
from twinspire_core.errors import UsageError

SCHEMA = "twinspire"
NEEDED = "PostgreSQL with pgvector"
FAILURES = (psycopg2.Error,)
# Classes of SQLSTATE: lost connections, conflicts, too few resources, and what an operator does
_PASSING_CODES = ("08", "40", "53", "55", "57")
# Errors of connecting have no code, only words
_PASSING = re.compile(
    "Connection refused|timed? ?out|closed the connection|Connection reset|unreachable|No route"
    "|Temporary failure|the database system is|too many c|connection slots"
)
_LONGEST_NAME = 42  # characters of a pipeline's name; PostgreSQL cuts longer names of tables
_MOST_INDEXED = 2000  # dimensions that pgvector can index
_COLUMNS = (
    "item text PRIMARY KEY, vector vector({}), towers text, attributes jsonb, display jsonb,"
    " digest text"
)
_UPSERT = (
    "INSERT INTO {table} VALUES %s ON CONFLICT (item) DO UPDATE SET vector = EXCLUDED.vector,"
    " attributes = EXCLUDED.attributes, display = EXCLUDED.display, digest = EXCLUDED.digest"
)


def send(items: ExportedItems, url: str, progress: Callable[[str], None]) -> Changes:
    """Sends what is new or changed, deletes what is gone, and makes the view show it."""
    if len(items.name) > _LONGEST_NAME:
        raise UsageError(
            f"A pipeline's name can have at most {_LONGEST_NAME} characters in PostgreSQL; found"
            f" {items.name!r}. Export to another place, or give the pipeline a shorter name."
        )
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        return _export(items, cursor, progress)


def may_pass(error: Exception) -> bool:
    """Whether an error of `FAILURES` may be gone when the export is repeated."""
    code = getattr(error, "pgcode", None)
    # Of several addresses the last is what ended it
    return (code or "").startswith(_PASSING_CODES) or (
        not code and bool(_PASSING.search(str(error).rpartition(" failed: ")[2]))
    )


def _export(items: ExportedItems, cursor: Any, progress: Callable[[str], None]) -> Changes:
    fixed: dict[str, Composable] = {
        "table": Identifier(SCHEMA, items.table),
        "view": Identifier(SCHEMA, items.name),
        "view_name": Literal(f'{SCHEMA}."{items.name}"'),
    }

    def run(statement: str, **values: Composable) -> None:
        cursor.execute(SQL(statement).format(**fixed, **values))

    size = items.vectors.shape[1]
    run("SELECT pg_advisory_xact_lock(hashtext({view_name}))")  # a second export waits
    run("CREATE EXTENSION IF NOT EXISTS vector")
    # `IF NOT EXISTS` would need the right to create schemas even where there is this one
    run("SELECT to_regnamespace({name})", name=Literal(SCHEMA))
    if cursor.fetchone()[0] is None:
        run("CREATE SCHEMA {name}", name=Identifier(SCHEMA))
    run("SELECT obj_description(to_regclass({view_name}), 'pg_class')")
    current = cursor.fetchone()[0]
    run("SELECT tablename FROM pg_tables WHERE schemaname = {name}", name=Literal(SCHEMA))
    tables = [name for (name,) in cursor.fetchall()]
    for name in items.outdated(tables, current):
        run("DROP TABLE {outdated}", outdated=Identifier(SCHEMA, name))
    is_new = items.table not in tables
    if is_new:
        run("CREATE TABLE {table} (" + _COLUMNS.format(size) + ")")
    run("SELECT item, digest FROM {table}")
    changes = items.compared(dict(cursor.fetchall()))
    run("DELETE FROM {table} WHERE item = ANY({gone}::text[])", gone=Literal(changes.gone))
    upsert = SQL(_UPSERT).format(**fixed)
    for begin in range(0, len(changes.sent), BATCH):
        progress(f"sending items to PostgreSQL, {begin:,} of {len(changes.sent):,}")
        some = map(items.record, changes.sent[begin : begin + BATCH].tolist())
        execute_values(cursor, upsert, [tuple(map(_as_sql, one.values())) for one in some])
    if is_new and size <= _MOST_INDEXED:
        progress("building PostgreSQL's index")  # after the rows, which is faster
        run("CREATE INDEX ON {table} USING hnsw (vector vector_ip_ops)")
    if current != items.table:
        _show(size, cursor, run, Literal(items.table))
    return changes


def _show(size: int, cursor: Any, run: Callable[..., None], table: Literal) -> None:
    """Makes the view show the table, and notes this in the view's comment."""
    run(
        "SELECT atttypmod FROM pg_attribute WHERE attrelid = to_regclass({view_name})"
        " AND attname = 'vector'"
    )
    # A view that is replaced keeps its grants, but not with vectors of another size
    if cursor.fetchone() not in (None, (size,)):
        run("DROP VIEW {view}")
    run("CREATE OR REPLACE VIEW {view} AS SELECT * FROM {table}")
    run("COMMENT ON VIEW {view} IS {shown}", shown=table)


def _as_sql(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
