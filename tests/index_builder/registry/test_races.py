"""Writers and readers of a registry who get in each other's way. Asked is only what a reader
sees.
"""

import threading
from datetime import timedelta

import pytest

from index_builder.registry import versions
from index_builder.registry.registry import Registry, prunable
from tests.index_builder.registry.staging import ONE, THREE, TWO, staged, store_of
from twinspire_core import storage
from twinspire_core.errors import UsageError


def before(monkeypatch, place, deed):
    """Does something just before the first attempt to create a log entry."""
    real, waiting = storage.put_if_absent, [deed]

    def put(uri, data):
        if uri.endswith(place) and waiting:
            waiting.pop()()
        return real(uri, data)

    monkeypatch.setattr(storage, "put_if_absent", put)


def test_the_loser_of_a_number_decides_again(publish, registry, monkeypatch):
    """While an older day is about to be logged as live, a newer one is published."""
    old, new = publish(ONE), []
    before(monkeypatch, "log/00000002.json", lambda: new.append(publish(THREE)))
    late = publish(TWO)
    log = [(e.version, e.live) for e in registry.log()]
    assert log == [(old, old), (new[0], new[0]), (late, new[0])]


def test_two_rollbacks_at_once_go_back_once(publish, registry, monkeypatch):
    one, two, _ = publish(ONE), publish(TWO), publish(THREE)
    before(monkeypatch, "log/00000004.json", lambda: registry.rollback(reason="the other one"))
    registry.rollback(reason="this one")
    assert registry.live() == two and len(registry.log()) == 4
    assert registry.rollback(reason="a second one, later").live == one


def test_what_is_promoted_meanwhile_is_not_deleted(publish, registry, monkeypatch):
    one, _ = publish(ONE), publish(TWO)
    before(monkeypatch, "log/00000003.json", lambda: registry.promote(one, reason="needed again"))
    with pytest.raises(UsageError, match="live version and pinned"):
        registry.delete(one)
    assert registry.live() == one and registry.verify(one)


@pytest.mark.parametrize("deed", ["promote", "rollback", "pin"])
def test_what_is_deleted_meanwhile_is_not_used(publish, registry, monkeypatch, deed):
    one, two = publish(ONE), publish(TWO)
    before(monkeypatch, "log/00000003.json", lambda: registry.delete(one))
    deeds = {
        "promote": lambda: registry.promote(one, reason=""),
        "rollback": lambda: registry.rollback(one, reason=""),
        "pin": lambda: registry.pin(one),
    }
    with pytest.raises(UsageError):
        deeds[deed]()
    assert registry.live() == two and registry.verify(two) and len(registry.log()) == 3


def test_a_reader_who_was_overtaken_starts_again(publish, registry, tmp_path, monkeypatch):
    """The version that was live is replaced and deleted while it is opened."""
    one, real = publish(ONE), versions.fetched

    def slow(place, described, home):
        if described.version == one:
            publish(TWO)
            registry.delete(one)
        return real(place, described, home)

    monkeypatch.setattr(versions, "fetched", slow)
    assert registry.open(cache=tmp_path / "cache").name == registry.live() != one
    with pytest.raises(UsageError):
        registry.open(one, cache=tmp_path / "cache")


def test_a_reader_whose_files_go_while_they_are_copied_starts_again(
    remote_place, tmp_path, monkeypatch
):
    registry, store, waiting = Registry(remote_place, "p"), store_of(remote_place), [True]
    real = store.download
    one = registry.publish(*staged(tmp_path / "1", ONE, "1"), accepted=True, reason="").version

    def slow(uri, path):
        if waiting and waiting.pop():
            registry.publish(*staged(tmp_path / "2", TWO, "2"), accepted=True, reason="")
            registry.delete(one)
        return real(uri, path)

    monkeypatch.setattr(store, "download", slow)
    assert registry.open(cache=tmp_path / "cache").name == registry.live() != one


def test_readers_see_whole_versions_while_writers_work(tmp_path):
    registry = Registry(str(tmp_path / "registry"), "p")
    registry.publish(*staged(tmp_path / "0", ONE, "0"), accepted=True, reason="")
    was_live, seen, failed, done = {registry.live()}, [], [], threading.Event()

    def read():
        while not done.is_set():
            try:
                home = registry.open()
                seen.append(
                    (home.name, {(home / n).read_text() for n in ("items.txt", "index/data.txt")})
                )
            except Exception as e:
                failed.append(e)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for n in range(1, 25):
        day = ONE + timedelta(days=n)
        was_live.add(
            registry.publish(*staged(tmp_path / str(n), day, str(n)), accepted=True, reason="").live
        )
        if n % 5 == 0:
            registry.rollback(reason="")
        for version in prunable(registry, keep=6, keep_days=0, as_of=day):
            registry.delete(version)
    done.set()
    for reader in readers:
        reader.join()
    assert failed == [] and len(seen) > 20
    assert all(version in was_live and len(texts) == 1 for version, texts in seen)
