"""Versions to publish, what a reader finds of them, and power cuts."""

import threading
from datetime import date
from pathlib import Path

from index_builder.registry.registry import Registry
from tests.published import described
from twinspire_core.contracts.version_manifest import Manifest
from twinspire_core.storage import STORES
from twinspire_core.storage.store import RemoteStore

ONE, TWO, THREE = date(2017, 10, 1), date(2017, 10, 2), date(2017, 10, 3)


def staged(folder: Path, day: date, text: str, **fields) -> tuple[str, Manifest]:
    """A folder with two files that both say `text`, and its manifest with such fields."""
    (folder / "index").mkdir(parents=True)
    for name in ("items.txt", "index/data.txt"):
        (folder / name).write_text(text)
    return str(folder), described(folder, "p", day, **fields)


def store_of(place: str) -> RemoteStore:
    """The module of a place's store."""
    return STORES[place.partition(":")[0]]


def contents(registry: Registry, cache: Path) -> set[str]:
    """What a reader finds in the live version."""
    home = registry.open(cache=cache)
    return {(home / name).read_text() for name in registry.manifest(home.name).files}


def cut_at(monkeypatch, owner, name, moment, *, after=False):
    """Ends the process, as far as the code can tell, before (or right after) the call number
    `moment`.
    """
    real, lock, calls = getattr(owner, name), threading.Lock(), []

    def call(*args, **kwargs):
        with lock:
            calls.append(name)
            cut = len(calls) > moment
        if cut and not (after and len(calls) == moment + 1):
            raise SystemExit("power cut")
        result = real(*args, **kwargs)
        if cut:
            raise SystemExit("power cut")
        return result

    monkeypatch.setattr(owner, name, call)
    return calls
