"""Stores that answer 429 and 503, cut connections and lose replies."""

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from tests.object_servers import ADDRESS
from tests.store_faults import FAULTS, faulty_store
from twinspire_core import storage
from twinspire_core.errors import TryAgain, UsageError
from twinspire_core.storage import object_stores

# Google's library leaves a connection that was cut to the collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
STORED = {f"part-{n}/file.bin": bytes([n]) * (1 + 40_000 * n) for n in range(12)}
STORED["large/file.bin"] = bytes(range(250)) * 40_000  # sent in parts, where a store has them


@pytest.fixture
def store(remote_folder, monkeypatch):
    """The store behind a proxy that fails by the test's plan. Requests are repeated sooner than by default."""
    from google.cloud.storage.retry import DEFAULT_RETRY

    monkeypatch.setattr(DEFAULT_RETRY, "_initial", 0.01)
    monkeypatch.setattr(DEFAULT_RETRY, "_maximum", 0.05)
    monkeypatch.setattr(object_stores, "_LONGEST_PAUSE", 0.05)
    soon = {"init_backoff": timedelta(seconds=0.01), "max_backoff": timedelta(seconds=0.05)}
    monkeypatch.setitem(object_stores._RETRIES, "backoff", soon)
    address = ADDRESS[remote_folder.split(":")[0]]
    with faulty_store(os.environ[address]) as store:
        monkeypatch.setenv(address, store.url)
        yield store


@pytest.mark.parametrize("fault", FAULTS)
def test_everything_is_read_and_written_whole_through_a_store_that_fails(
    store, remote_folder, fault, tmp_path
):
    store.shares = {fault: 0.3}
    for path, data in STORED.items():
        (tmp_path / "tree" / path).parent.mkdir(parents=True)
        (tmp_path / "tree" / path).write_bytes(data)
    storage.upload_tree(tmp_path / "tree", f"{remote_folder}/a")
    storage.copy_tree(f"{remote_folder}/a", f"{remote_folder}/b")
    storage.write_bytes(f"{remote_folder}/b/more.bin", b"more")
    stored = {**STORED, "more.bin": b"more"}
    assert {file.path: file.size for file in storage.list_files(f"{remote_folder}/b")} == {
        path: len(data) for path, data in stored.items()
    }
    assert storage.list_names(f"{remote_folder}/b") == sorted(
        {path.split("/")[0] for path in stored}
    )
    local = storage.localize(f"{remote_folder}/b", tmp_path / "back")
    assert {path: (local / path).read_bytes() for path in stored} == stored
    for path in ("part-3/file.bin", "part-11/file.bin"):
        assert storage.read_bytes(f"{remote_folder}/b/{path}") == stored[path]
        with storage.open_bytes(f"{remote_folder}/b/{path}") as file:
            file.seek(7)
            assert file.read() == stored[path][7:]
        assert storage.exists(f"{remote_folder}/b/{path}")
    storage.delete_tree(f"{remote_folder}/b")
    assert (
        storage.list_files(f"{remote_folder}/b") == [] != storage.list_files(f"{remote_folder}/a")
    )
    assert store.met[fault] > 5


def test_a_file_is_written_although_the_reply_to_its_last_part_is_lost(
    store, remote_folder, monkeypatch, tmp_path
):
    """S3 and Azure have forgotten the parts, and refuse the request when it is repeated."""
    faults = iter(["lost"])

    def fault(method: str, path: str) -> str | None:
        ends = {"PUT": ("comp=blocklist", "upload_id="), "POST": ("uploadId=",)}
        is_last = any(end in path for end in ends.get(method, ()))
        return next(faults, None) if is_last else None

    monkeypatch.setattr(store, "fault", fault)
    (tmp_path / "file.bin").write_bytes(STORED["large/file.bin"])
    storage.upload_tree(tmp_path, remote_folder)
    assert next(faults, None) is None
    assert storage.read_bytes(f"{remote_folder}/file.bin") == STORED["large/file.bin"]


def test_of_many_writers_through_it_at_most_one_wins(store, remote_folder):
    """A writer without a connection gets no wrong result."""
    store.shares = {"lost": 0.25, "503": 0.15, "half": 0.1}
    for number in range(6):
        uri, writers = f"{remote_folder}/{number}", [str(n).encode() for n in range(6)]
        with ThreadPoolExecutor(len(writers)) as pool:
            won = list(pool.map(lambda data, uri=uri: _outcome(uri, data), writers))
        store_holds = storage.read_bytes(uri)
        assert [data for data, has_won in zip(writers, won, strict=True) if has_won] in (
            [store_holds],
            [],  # the winner got no answer
        )
        assert won.count(None) < len(won)
    assert store.met["lost"] > 5


def _outcome(uri, data):
    """Whether it was written; None where that is not known."""
    try:
        return storage.put_if_absent(uri, data)
    except TryAgain:
        return None


@pytest.mark.parametrize("fault", ["429", "503", "lost", "cut"])
def test_a_store_that_stays_away_is_tried_again_later(store, remote_folder, fault, monkeypatch):
    from google.cloud.storage.retry import DEFAULT_RETRY

    monkeypatch.setattr(DEFAULT_RETRY, "_timeout", 0.5)
    monkeypatch.setattr(object_stores, "_PATIENCE", 0.5)
    storage.write_bytes(f"{remote_folder}/f", b"1")
    opened = storage.open_bytes(f"{remote_folder}/f")
    store.shares = {fault: 1.0}
    # The reply to a write has a body, which can be cut, on gs:// alone.
    uses = USES[:2] if fault == "cut" and not remote_folder.startswith("gs:") else USES
    for use in uses:
        asked = store.requests.total()
        with pytest.raises(TryAgain, match=remote_folder):
            use(f"{remote_folder}/f")
        assert store.requests.total() > asked + 1, "it was asked more than once"
    with pytest.raises(TryAgain, match=f"{remote_folder}/f"):
        opened.read()
    store.shares = {}
    # Of a reply that is lost nobody knows whether the store did what was asked.
    written = b"12" if fault in ("lost", "cut") else b"1"
    assert storage.read_bytes(f"{remote_folder}/f") in [bytes([byte]) for byte in written]


USES = (storage.read_bytes, storage.list_files, lambda uri: storage.write_bytes(uri, b"2"))


@pytest.mark.parametrize("fault", ["401", "403"])
def test_a_store_that_is_not_ours_is_asked_once(store, remote_folder, fault):
    storage.write_bytes(f"{remote_folder}/f", b"1")
    opened = storage.open_bytes(f"{remote_folder}/f")
    store.shares = {fault: 1.0}
    asked = store.requests.total()
    for use in (*USES, lambda _: opened.read()):
        with pytest.raises(UsageError, match=f"no access to {remote_folder}/f"):
            use(f"{remote_folder}/f")
    assert store.requests.total() == asked + len(USES) + 1


def test_nothing_is_asked_of_a_bucket_but_its_objects(store, remote_folder):
    """An account that may use objects alone would be refused it, and audit logs tell of that."""
    storage.write_bytes(f"{remote_folder}/f", b"1")
    for use in USES * 5:
        use(f"{remote_folder}/f")
    bucket = remote_folder.split("/")[2]
    objects = ("/place%2Ff", "/place/f", "/o", f"/{bucket}")
    assert [path for path in store.paths if not path.endswith(objects)] == []


def test_what_may_only_be_read_is_read_and_names_what_cannot_be_written(store, remote_folder):
    storage.write_bytes(f"{remote_folder}/f", b"1")
    store.shares, store.only = {"403": 1.0}, "POST" if remote_folder.startswith("gs:") else "PUT"
    assert storage.read_bytes(f"{remote_folder}/f") == b"1"
    for write in (storage.write_bytes, storage.put_if_absent):
        with pytest.raises(UsageError, match=f"no access to {remote_folder}/g"):
            write(f"{remote_folder}/g", b"2")
    assert storage.list_names(remote_folder) == ["f"]


def test_what_is_gone_when_it_is_read_is_no_file(store, remote_folder):
    for read in (storage.read_bytes, lambda uri: storage.open_bytes(uri).read()):
        with pytest.raises(FileNotFoundError, match=f"{remote_folder}/never"):
            read(f"{remote_folder}/never")
