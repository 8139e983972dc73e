"""`twinspire export`: sends a version's items to a vector database, or writes them to files."""

import re
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Annotated

import typer

from twinspire.cli.shared import (
    JsonLine,
    PipelineFile,
    VersionOption,
    end_with_json,
    open_pipeline,
    say,
)
from twinspire_core.errors import (
    TryAgain,
    TwinspireError,
    UsageError,
    in_one_line,
    with_full_stop,
)
from twinspire_core.storage.disk import explain
from twinspire_core.terminal import doing

# The kinds of places, with the module that sends items there, the library that it needs, and the extra that
# installs that
_PLACES = {
    "parquet": ("vector_files", "pyarrow", ""),
    "vertex": ("vector_files", "pyarrow", ""),
    "qdrant": ("qdrant", "qdrant_client", "qdrant"),
    "postgresql": ("pgvector", "psycopg2", "postgres"),
}

# Up to the last @, and among the options after the question mark
_PASSWORD = re.compile(r"(://[^:@/]*):.+@|(password=)[^&]+")


def export(
    pipeline: PipelineFile,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="PLACE",
            help="`parquet:DIR`, `vertex:DIR`, `qdrant://HOST:PORT`, `qdrant:DIR` (a folder of Qdrant's"
            " client) or `postgresql://USER@HOST/DATABASE` (with pgvector). A DIR may be"
            " `gs://BUCKET/NAME`.",
        ),
    ],
    version: VersionOption = None,
    as_json: JsonLine = False,
) -> None:
    """Export item ids, vectors, attributes and display columns of a version.

    A database gets only the items that are new or have changed since the last export, and loses
    the items that are gone. To continue a killed export, type the same command again.

    `/v1/encode` of `twinspire serve` gives the vector of a query. Search for the largest inner
    product. Vectors of different towers must not be compared: every item has the `towers` of its
    vector, and so has every answer of `/v1/encode`.

    Keys and passwords come from QDRANT_API_KEY, and from PGPASSWORD or ~/.pgpass.
    """
    kind, colon, place = to.partition(":")
    if kind not in _PLACES or not colon or not place.strip("/"):
        raise UsageError(
            "--to must be parquet:DIR, vertex:DIR, qdrant://HOST:PORT, qdrant:DIR or"
            f" postgresql://USER@HOST/DATABASE; found {_without_password(to)}."
        )
    if _PASSWORD.search(to):
        raise UsageError(
            "--to must not hold a password, which messages of the database could show;"
            f" found one in {_without_password(to)}. Leave it out, and set PGPASSWORD or ~/.pgpass."
        )
    module, library, extra = _PLACES[kind]
    if find_spec(library) is None:
        raise UsageError(
            f"Exports to {kind} need {library}, which is not installed. Install it: pip install"
            f" 'twinspire[{extra}]'"
        )
    p = open_pipeline(pipeline)
    with doing("opening the version"):
        from serving.version.loaded_version import Version
        from twinspire.exports.exported_items import ExportedItems

        items = ExportedItems.of(Version.open(p, version))
    with doing("comparing items with the last export") as progress:
        destination = import_module(f"twinspire.exports.{module}")
        try:
            changes = destination.send(items, to, progress)
        except destination.FAILURES as error:
            raise _failed(destination, to, error) from error
    counts = changes.counts
    words = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    say(f"{items.version} is exported to {to}. Items: {words}.")
    facts = {"pipeline": p.name, "version": items.version, "towers": items.towers}
    end_with_json({**facts, **counts}, as_json)


def _failed(destination: ModuleType, place: str, error: Exception) -> TwinspireError:
    failed = (
        f"An export needs {destination.NEEDED} at {place}; it failed with"
        f" {with_full_stop(in_one_line(error))} Readers still see the export before."
    )
    if destination.may_pass(error) or isinstance(explain(error), TryAgain):
        return TryAgain(f"{failed} Type the same command again later, or check the address.")
    return UsageError(
        f"{failed} Correct the place, or the password or the rights of the account, then type the same"
        " command again."
    )


def _without_password(place: str) -> str:
    # Not by urlsplit, which does not see a password that has a slash
    return _PASSWORD.sub(lambda found: f"{found[1]}@" if found[1] else "password=***", place)
