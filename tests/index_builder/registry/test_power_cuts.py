"""The registry cut off at every moment: by the power, by the network. Asked is only what a reader
sees.
"""

import contextlib
import importlib
import os
from functools import partial
from pathlib import Path

import pytest
import requests

from index_builder.registry.registry import Registry, prunable
from tests.index_builder.registry.staging import ONE, THREE, TWO, contents, cut_at, staged, store_of
from tests.store_faults import faulty_store
from twinspire_core import storage
from twinspire_core.storage import object_stores


def sweep(monkeypatch, tmp_path, place, owner, name, *, after=False) -> int:
    """Publishes over an old version, cut at every call in turn; returns how many there are."""
    for moment in range(500):
        registry = Registry(f"{place}/{moment}", "p")
        home = tmp_path / str(moment)
        registry.publish(*staged(home / "old", ONE, "old"), accepted=True, reason="")
        new = staged(home / "new", TWO, "new")
        with monkeypatch.context() as patch, contextlib.suppress(SystemExit):
            calls = cut_at(patch, owner, name, moment, after=after)
            registry.publish(*new, accepted=True, reason="")
        assert contents(registry, home / "cache") in ({"old"}, {"new"}), (
            f"call {moment}: whole, never mixed"
        )
        registry.publish(*new, accepted=True, reason="")
        assert contents(registry, home / "cache") == {"new"}
        assert [e.version[:10] for e in registry.log()] == ["2017-10-01", "2017-10-02"]
        if len(calls) <= moment:
            return moment
    raise AssertionError("no end")


@pytest.mark.parametrize("syscall", ["open", "mkdir", "fsync", "replace", "link", "unlink"])
def test_power_cut_at_every_system_call(tmp_path, monkeypatch, syscall):
    assert sweep(monkeypatch, tmp_path, str(tmp_path / "registry"), os, syscall) > 0


def test_nothing_that_the_entry_relies_on_can_be_lost_by_a_power_cut(tmp_path, monkeypatch):
    """Whatever was made before the log entry was brought to the disk before it: files, and folders
    that name them.
    """
    folder, described = staged(tmp_path / "staged", ONE, "x")
    done = []

    def watch(name, note):
        real = getattr(os, name)

        def call(*args, **kwargs):
            result = real(*args, **kwargs)
            done.append(note(*args))
            return result

        monkeypatch.setattr(os, name, call)

    def folder_of(path):
        return os.stat(os.path.dirname(os.path.abspath(path))).st_ino

    watch("fsync", lambda handle: ("sync", os.fstat(handle).st_ino))
    watch(
        "mkdir",
        lambda path, *_: ("entry" if path.endswith("/log") else "named in", folder_of(path)),
    )
    watch("replace", lambda _, target: ("named in", folder_of(target)))
    watch("link", lambda _, target: ("named in", folder_of(target)))
    registry = Registry(str(tmp_path / "new/registry"), "p")
    version = registry.publish(folder, described, accepted=True, reason="").version
    entry = next(n for n, (what, _) in enumerate(done) if what == "entry")

    def unsynced(deeds):
        made = ((n, where) for n, (what, where) in enumerate(deeds) if what != "sync")
        return [n for n, where in made if ("sync", where) not in deeds[n:]]

    assert unsynced(done[:entry]) == unsynced(done) == [] and entry > 10
    files = {path.stat().st_ino for path in Path(registry.root, "p/versions", version).rglob("*.*")}
    assert files <= {where for what, where in done[:entry] if what == "sync"} and len(files) == 3


@pytest.mark.parametrize("after", [False, True], ids=["before it is sent", "after it was done"])
def test_power_cut_at_every_request(tmp_path, monkeypatch, remote_place, after):
    owner = requests.Session if remote_place.startswith("gs:") else Requests
    monkeypatch.setattr(object_stores, "_library", Requests)
    assert sweep(monkeypatch, tmp_path, remote_place, owner, "request", after=after) > 5


class Requests:
    """obstore, all of whose requests go through one method."""

    def request(self, name, *args, **kwargs):
        return getattr(importlib.import_module("obstore"), name)(*args, **kwargs)

    def __getattr__(self, name):
        if name in ("exceptions", "store"):  # these ask nothing
            return importlib.import_module(f"obstore.{name}")
        return partial(self.request, name)


@pytest.mark.parametrize("place", ["gs"], indirect=True)
def test_every_reply_is_lost_once(publish, registry, monkeypatch):
    """The store does what it is asked, and the connection breaks before it says so."""
    real, lost = requests.Session.request, set()

    def request(self, method, url, *args, **kwargs):
        reply = real(self, method, url, *args, **kwargs)
        key = (method, url.split("?")[0], str(kwargs.get("data"))[:60])
        if method in ("POST", "PUT", "DELETE") and key not in lost:
            lost.add(key)
            raise requests.ConnectionError("the connection broke")
        return reply

    monkeypatch.setattr(requests.Session, "request", request)
    monkeypatch.setattr("google.api_core.retry.retry_unary.time.sleep", lambda seconds: None)
    one, two = publish(ONE), publish(TWO)
    registry.rollback(one, reason="")
    registry.delete(two)
    actions = [e.action for e in registry.log()]
    assert lost and actions == ["publish", "publish", "rollback", "prune"]
    assert registry.live() == one and registry.verify(one)


@pytest.mark.parametrize("place", ["s3"], indirect=True)
def test_every_reply_of_s3_is_lost_once(publish, registry, monkeypatch):
    lost = set()

    def fault(method, path):
        if method == "GET" or (method, path) in lost:
            return None
        lost.add((method, path))
        return "lost"

    with faulty_store(os.environ["AWS_ENDPOINT_URL"]) as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
        store.fault = fault
        one, two = publish(ONE), publish(TWO)
        registry.rollback(one, reason="")
        registry.delete(two)
        actions = [e.action for e in registry.log()]
        assert len(lost) > 10 and actions == ["publish", "publish", "rollback", "prune"]
        assert registry.live() == one and registry.verify(one)


def test_a_deletion_that_was_killed_is_ended_by_the_next(publish, registry, monkeypatch):
    one, two = publish(ONE), publish(TWO)
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        cut_at(patch, storage, "delete_tree", 0)
        registry.delete(one)
    assert registry.state().accepted == [two] and registry.accepted_before(TWO) is None
    assert prunable(registry, keep=5, keep_days=500, as_of=THREE) == [one]
    registry.delete(one)
    assert storage.list_files(f"{registry.root}/p/versions/{one}") == []
    assert len(registry.log()) == 3
    assert prunable(registry, keep=5, keep_days=500, as_of=THREE) == []


def test_a_killed_download_leaves_no_copy(remote_place, tmp_path, monkeypatch):
    registry, cache = Registry(remote_place, "p"), tmp_path / "cache"
    version = registry.publish(
        *staged(tmp_path / "new", ONE, "x"), accepted=True, reason=""
    ).version
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        cut_at(patch, store_of(remote_place), "download", 1)
        registry.open(cache=cache)
    assert not (cache / "p" / version).exists()
    assert contents(registry, cache) == {"x"}
