"""A `gs://` store that answers 429 and 503, cuts connections and loses replies."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.store_faults import FAULTS, faulty_store
from twinspire_core import storage
from twinspire_core.errors import TryAgain, UsageError

# Google's library leaves a connection that was cut to the collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
STORED = {f"part-{n}/file.bin": bytes([n]) * (1 + 40_000 * n) for n in range(12)}


@pytest.fixture
def store(gs_place, monkeypatch):
    """The store behind a proxy that fails as told. Google's library asks again sooner than it would
    by itself.
    """
    from google.cloud.storage.retry import DEFAULT_RETRY

    monkeypatch.setattr(DEFAULT_RETRY, "_initial", 0.01)
    monkeypatch.setattr(DEFAULT_RETRY, "_maximum", 0.05)
    with faulty_store(os.environ["STORAGE_EMULATOR_HOST"]) as store:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.url)
        yield store


@pytest.mark.parametrize("fault", FAULTS)
def test_everything_is_read_and_written_whole_through_a_store_that_fails(
    store, gs_place, fault, tmp_path
):
    store.shares = {fault: 0.3}
    for path, data in STORED.items():
        (tmp_path / "tree" / path).parent.mkdir(parents=True)
        (tmp_path / "tree" / path).write_bytes(data)
    storage.upload_tree(tmp_path / "tree", f"{gs_place}/a")
    storage.copy_tree(f"{gs_place}/a", f"{gs_place}/b")
    storage.write_bytes(f"{gs_place}/b/more.bin", b"more")
    stored = {**STORED, "more.bin": b"more"}
    assert {file.path: file.size for file in storage.list_files(f"{gs_place}/b")} == {
        path: len(data) for path, data in stored.items()
    }
    assert storage.list_names(f"{gs_place}/b") == sorted({path.split("/")[0] for path in stored})
    local = storage.localize(f"{gs_place}/b", tmp_path / "back")
    assert {path: (local / path).read_bytes() for path in stored} == stored
    for path in ("part-3/file.bin", "part-11/file.bin"):
        assert storage.read_bytes(f"{gs_place}/b/{path}") == stored[path]
        with storage.open_bytes(f"{gs_place}/b/{path}") as file:
            file.seek(7)
            assert file.read() == stored[path][7:]
        assert storage.exists(f"{gs_place}/b/{path}")
    storage.delete_tree(f"{gs_place}/b")
    assert storage.list_files(f"{gs_place}/b") == [] != storage.list_files(f"{gs_place}/a")
    assert store.met[fault] > 5


def test_of_many_writers_through_it_at_most_one_wins(store, gs_place):
    """And who loses its connection is not told that it lost, or won, what it did not."""
    store.shares = {"lost": 0.25, "503": 0.15, "half": 0.1}
    for number in range(6):
        place, writers = f"{gs_place}/{number}", [str(n).encode() for n in range(6)]
        with ThreadPoolExecutor(len(writers)) as pool:
            won = list(pool.map(lambda data, place=place: _outcome(place, data), writers))
        store_holds = storage.read_bytes(place)
        assert [data for data, one in zip(writers, won, strict=True) if one is True] in (
            [store_holds],
            [],  # the winner could not be told
        )
        assert won.count(None) < len(won)
    assert store.met["lost"] > 5


def _outcome(place, data):
    """Whether it was written; None where that is not known."""
    try:
        return storage.put_if_absent(place, data)
    except TryAgain:
        return None


@pytest.mark.parametrize("fault", ["429", "503", "lost", "cut"])
def test_a_store_that_stays_away_is_tried_again_later(store, gs_place, fault, monkeypatch):
    from google.cloud.storage.retry import DEFAULT_RETRY

    monkeypatch.setattr(DEFAULT_RETRY, "_timeout", 0.5)
    storage.write_bytes(f"{gs_place}/f", b"1")
    opened = storage.open_bytes(f"{gs_place}/f")
    store.shares = {fault: 1.0}
    for use in USES:
        asked = store.requests.total()
        with pytest.raises(TryAgain, match="gs://"):
            use(f"{gs_place}/f")
        assert store.requests.total() > asked + 1, "it was asked more than once"
    with pytest.raises(TryAgain, match=f"{gs_place}/f"):
        opened.read()
    store.shares = {}
    # Of a reply that is lost nobody knows whether the store did what was asked.
    written = b"12" if fault in ("lost", "cut") else b"1"
    assert storage.read_bytes(f"{gs_place}/f") in [bytes([one]) for one in written]


USES = (storage.read_bytes, storage.list_files, lambda uri: storage.write_bytes(uri, b"2"))


@pytest.mark.parametrize("fault", ["401", "403"])
def test_a_store_that_is_not_ours_is_asked_once(store, gs_place, fault):
    storage.write_bytes(f"{gs_place}/f", b"1")
    opened = storage.open_bytes(f"{gs_place}/f")
    store.shares = {fault: 1.0}
    asked = store.requests.total()
    for use in (*USES, lambda _: opened.read()):
        with pytest.raises(UsageError, match=f"no access to {gs_place}/f"):
            use(f"{gs_place}/f")
    assert store.requests.total() == asked + len(USES) + 1


def test_nothing_is_asked_of_a_bucket_but_its_objects(store, gs_place):
    """An account that may use objects alone would be refused it, and audit logs tell of that."""
    storage.write_bytes(f"{gs_place}/f", b"1")
    for use in USES * 5:
        use(f"{gs_place}/f")
    assert [path for path in store.paths if not path.endswith(("/place%2Ff", "/o"))] == []


def test_what_may_only_be_read_is_read_and_names_what_cannot_be_written(store, gs_place):
    storage.write_bytes(f"{gs_place}/f", b"1")
    store.shares, store.only = {"403": 1.0}, "POST"
    assert storage.read_bytes(f"{gs_place}/f") == b"1"
    for write in (storage.write_bytes, storage.put_if_absent):
        with pytest.raises(UsageError, match=f"no access to {gs_place}/g"):
            write(f"{gs_place}/g", b"2")
    assert storage.list_names(gs_place) == ["f"]


def test_what_is_gone_when_it_is_read_is_no_file(store, gs_place):
    for read in (storage.read_bytes, lambda uri: storage.open_bytes(uri).read()):
        with pytest.raises(FileNotFoundError, match=f"{gs_place}/never"):
            read(f"{gs_place}/never")
