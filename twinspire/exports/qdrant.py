"""Items in Qdrant. Each towers' vectors have a collection of their own, `NAME-TOWERS`, and the alias `NAME`
is the collection of the newest export.

Order: delete outdated collections, send items, switch the alias. Readers of the alias see vectors of one
pair of towers at any time. A killed export leaves the alias where it was, and what it has sent is not sent
again. Of two exports at the same time, the first switches the alias, and the other ends with TryAgain.
"""

import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pickle import UnpicklingError
from urllib.parse import urlsplit
from uuid import NAMESPACE_OID, uuid5

from qdrant_client import QdrantClient
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException
from qdrant_client.models import (
    CreateAlias,
    CreateAliasOperation,
    DeleteAlias,
    DeleteAliasOperation,
    Distance,
    PointIdsList,
    PointStruct,
    VectorParams,
)

from twinspire.exports.exported_items import BATCH, Changes, ExportedItems
from twinspire_core.errors import TryAgain

KEY = "QDRANT_API_KEY"
NEEDED = "Qdrant"
FAILURES = (
    ApiException,
    QdrantException,
    OSError,
    # Of the local mode, also if its folder is damaged
    ValueError,
    RuntimeError,
    LookupError,
    TypeError,
    EOFError,
    sqlite3.Error,
    UnpicklingError,
)
# By name and words, because the client hides the errors of the network in one of its own
_PASSING = re.compile(
    r"Connection refused|Timeout|timed out|disconnected|ReadError|WriteError|unreachable|No route"
    r"|Temporary failure|Response: (408|409|429|5\d\d)|ResourceExhausted|already accessed"
    r"|Collection .+ doesn't exist"
)
_SCROLLED = 5_000  # points without vectors that are read at a time


def connect(place: str) -> QdrantClient:
    """Connects to `qdrant://HOST:PORT`, or opens a folder of the client's local mode, `qdrant:FOLDER`."""
    parts = urlsplit(place)
    if not parts.netloc:
        return QdrantClient(path=parts.path)
    # With a key the client uses TLS. It would ask for the server's version in a thread, which may crash
    # Python at its end
    return QdrantClient(
        host=parts.hostname,
        port=parts.port or 6333,
        api_key=os.environ.get(KEY),
        timeout=60,
        check_compatibility=False,
    )


def send(items: ExportedItems, place: str, progress: Callable[[str], None]) -> Changes:
    """Sends what is new or changed, deletes what is gone, and makes the collection the current one."""
    with closing(connect(place)) as client:
        return _export(items, client, progress)


def may_pass(error: Exception) -> bool:
    """Whether an error of `FAILURES` may be gone when the export is repeated."""
    return bool(_PASSING.search(f"{error!r} {error}"))


def _shown(client: QdrantClient, alias: str) -> str | None:
    """The collection that an alias is for."""
    aliases = {one.alias_name: one.collection_name for one in client.get_aliases().aliases}
    return aliases.get(alias)


def _export(items: ExportedItems, client: QdrantClient, progress: Callable[[str], None]) -> Changes:
    current = _shown(client, items.name)
    collections = [one.name for one in client.get_collections().collections]
    for name in items.outdated(collections, current):
        client.delete_collection(name)
    if items.table not in collections:
        size = items.vectors.shape[1]
        client.create_collection(items.table, VectorParams(size=size, distance=Distance.DOT))
    changes = items.compared(dict(_digests(client, items.table)))
    for begin in range(0, len(changes.sent), BATCH):
        progress(f"sending items to Qdrant, {begin:,} of {len(changes.sent):,}")
        some = map(items.record, changes.sent[begin : begin + BATCH].tolist())
        points = [
            PointStruct(id=_point_id(one["item"]), vector=one.pop("vector"), payload=one)
            for one in some
        ]
        client.upsert(items.table, points)
    for begin in range(0, len(changes.gone), BATCH):
        ids = [_point_id(item) for item in changes.gone[begin : begin + BATCH]]
        client.delete(items.table, PointIdsList(points=ids))
    if current != (now := _shown(client, items.name)):
        raise TryAgain(
            f"The alias {items.name} must not change while items are sent; another export has switched it to"
            f" {now}, where it stays. Type the same command again."
        )
    if current != items.table:
        old = DeleteAlias(alias_name=items.name)
        new = CreateAlias(collection_name=items.table, alias_name=items.name)
        steps = [DeleteAliasOperation(delete_alias=old)] if current else []
        client.update_collection_aliases([*steps, CreateAliasOperation(create_alias=new)])
    return changes


def _digests(client: QdrantClient, collection: str) -> Iterator[tuple[str, str]]:
    """Ids of the items that a collection has, and their digests."""
    offset = None
    while True:
        points, offset = client.scroll(
            collection, limit=_SCROLLED, offset=offset, with_payload=["item", "digest"]
        )
        for point in points:
            # Points of others stay as they are
            if (known := point.payload or {}).keys() >= {"item", "digest"}:
                yield known["item"], known["digest"]
        if offset is None:
            return


def _point_id(item: str) -> str:
    # Qdrant has no other ids than UUIDs and whole numbers.
    return str(uuid5(NAMESPACE_OID, item))
