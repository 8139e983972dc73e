"""Items in files: Parquet, and the JSON Lines that Vertex AI Vector Search imports.

A file always has all items of one version. It replaces the file before in one step, so a killed export
leaves the earlier file.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from twinspire.exports.exported_items import Changes, ExportedItems
from twinspire_core import storage
from twinspire_core.storage import parquet_files

FAILURES = (OSError, pa.ArrowInvalid)
NEEDED = "a folder to write to"
PARQUET = "items.parquet"
VERTEX = "items.json"
_HOUR = 3600  # seconds
# Numbers that Vertex compares as numbers: those of 64 bits
_NUMBERS = {int: "value_int", float: "value_double"}


def send(items: ExportedItems, place: str, progress: Callable[[str], None]) -> Changes:
    """Writes `items.parquet` (`parquet:FOLDER`) or `items.json` (`vertex:FOLDER`)."""
    kind, _, folder = place.partition(":")
    return to_parquet(items, folder) if kind == "parquet" else to_vertex(items, folder)


def may_pass(error: Exception) -> bool:
    """Whether an error of `FAILURES` may be gone when the export is repeated."""
    return False


def to_parquet(items: ExportedItems, folder: str) -> Changes:
    """Writes `items.parquet`. Items that are new or have changed since the file before come first;
    `twinspire.changed` of the file's metadata is their number.
    """
    place = storage.join(folder, PARQUET)
    there: dict[str, str] = {}
    if storage.exists(place):
        before = parquet_files.read_file(place, ["item", "digest"])
        there = dict(zip(*(column.to_pylist() for column in before.columns), strict=True))
    changes = items.compared(there)
    first = np.zeros(len(items.ids), bool)
    first[changes.sent] = True
    order = np.argsort(~first, kind="stable")
    dimension = items.vectors.shape[1]
    table = pa.table(
        {
            "item": items.ids,
            "vector": pa.FixedSizeListArray.from_arrays(items.vectors.reshape(-1), dimension),
            "towers": [items.towers] * len(items.ids),
            "attributes": [*map(json.dumps, items.attributes)],
            "display": [*map(json.dumps, items.display)],
            "digest": items.digests,
        }
    ).take(pa.array(order))
    facts = {
        "twinspire.version": items.version,
        "twinspire.towers": items.towers,
        "twinspire.changed": str(len(changes.sent)),
    }
    _replace(
        folder, PARQUET, lambda file: pq.write_table(table.replace_schema_metadata(facts), file)
    )
    return changes


def to_vertex(items: ExportedItems, folder: str) -> Changes:
    """Writes `items.json`, which is to overwrite the whole index. What the index has is not known, so
    all items count as new.
    """

    def write(file: Path) -> None:
        with file.open("w") as lines:
            for row, item in enumerate(items.ids):
                record = {"id": item, "embedding": items.vectors[row].tolist()}
                record |= _restricts({"towers": items.towers} | items.attributes[row])
                record |= {"embedding_metadata": items.display[row]}
                lines.write(json.dumps(record, ensure_ascii=False) + "\n")

    _replace(folder, VERTEX, write)
    return items.compared({})


def _replace(folder: str, name: str, write: Callable[[Path], None]) -> None:
    """Has a file written, and then puts it into a folder in one step."""
    with tempfile.TemporaryDirectory(prefix="twinspire-export-") as scratch:
        write(Path(scratch) / name)
        storage.copy_tree(scratch, folder)
    # What a killed export left, but nothing that another one may be writing
    storage.delete_scratch(folder, before=time.time() - _HOUR)


def _restricts(values: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """What Vertex filters by: texts and lists as `restricts`, numbers as `numeric_restricts`."""
    texts: list[dict[str, Any]] = []
    numbers: list[dict[str, Any]] = []
    for name, value in values.items():
        if type(value) in _NUMBERS:
            numbers.append({"namespace": name, _NUMBERS[type(value)]: value})
        elif value is not None:
            several = value if isinstance(value, list) else [value]
            allowed = [one if isinstance(one, str) else json.dumps(one) for one in several]
            texts.append({"namespace": name, "allow": allowed})
    return {"restricts": texts, "numeric_restricts": numbers}
