"""The registry under faults: power cuts, lost replies, races, damage. Asked is only what a reader sees."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from datetime import date, timedelta
from pathlib import Path

import pytest
import requests

from index_builder import versions
from index_builder.manifest import File, Manifest
from index_builder.registry import Registry
from twinspire import storage
from twinspire.errors import BadData, UsageError

ONE, TWO, THREE = date(2017, 10, 1), date(2017, 10, 2), date(2017, 10, 3)


def stage(folder: Path, day: date, text: str) -> tuple[str, Manifest]:
    """A folder with two files that both say `text`, and its manifest."""
    (folder / "index").mkdir(parents=True)
    for name in ("items.txt", "index/data.txt"):
        (folder / name).write_text(text)
    files = {f.path: File(sha256=storage.file_digest(f.uri), size=f.size) for f in storage.list_files(str(folder))}
    return str(folder), Manifest.create(pipeline="p", day=day, files=files, items=1, dimension=2)


@pytest.fixture
def registry(place):
    return Registry(place, "p")


@pytest.fixture
def publish(registry, tmp_path):
    """Publishes a version of a day; its id."""

    def publish(day, text="x", *, accepted=True, promote="auto"):
        folder, described = stage(tmp_path / f"staged-{random.random()}", day, text)
        registry.publish(folder, described, accepted=accepted, reason="because", promote=promote)
        return described.version

    return publish


def contents(registry: Registry, cache: Path) -> set[str]:
    """What a reader finds in the live version."""
    home = registry.open(cache=cache)
    return {(home / name).read_text() for name in registry.manifest(home.name).files}


def cut_at(monkeypatch, owner, name, moment, *, after=False):
    """Ends the process, as far as the code can tell, before (or right after) the call number `moment`."""
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


def sweep(monkeypatch, tmp_path, place, owner, name, *, after=False) -> int:
    """Publishes over an old version, cut at every call in turn; returns how many there are."""
    for moment in range(500):
        registry = Registry(f"{place}/{moment}", "p")
        home = tmp_path / str(moment)
        registry.publish(*stage(home / "old", ONE, "old"), accepted=True, reason="")
        new = stage(home / "new", TWO, "new")
        with monkeypatch.context() as patch, contextlib.suppress(SystemExit):
            calls = cut_at(patch, owner, name, moment, after=after)
            registry.publish(*new, accepted=True, reason="")
        assert contents(registry, home / "cache") in ({"old"}, {"new"}), f"call {moment}: whole, never mixed"
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
    """Whatever was made before the log entry was brought to the disk before it: files, and folders that name them."""
    folder, described = stage(tmp_path / "staged", ONE, "x")
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
    watch("mkdir", lambda path, *_: ("entry" if path.endswith("/log") else "named in", folder_of(path)))
    watch("replace", lambda _, target: ("named in", folder_of(target)))
    watch("link", lambda _, target: ("named in", folder_of(target)))
    registry = Registry(str(tmp_path / "new/registry"), "p")
    version = registry.publish(folder, described, accepted=True, reason="").version
    entry = next(n for n, (what, _) in enumerate(done) if what == "entry")

    def unsynced(deeds):
        return [n for n, (what, where) in enumerate(deeds) if what != "sync" and ("sync", where) not in deeds[n:]]

    assert unsynced(done[:entry]) == unsynced(done) == [] and entry > 10
    files = {path.stat().st_ino for path in Path(registry.root, "p/versions", version).rglob("*.*")}
    assert files <= {where for what, where in done[:entry] if what == "sync"} and len(files) == 3


@pytest.mark.parametrize("after", [False, True], ids=["before it is sent", "after it was done"])
def test_power_cut_at_every_request(tmp_path, monkeypatch, gs_place, after):
    assert sweep(monkeypatch, tmp_path, gs_place, requests.Session, "request", after=after) > 5


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
    assert lost and [e.action for e in registry.log()] == ["publish", "publish", "rollback", "prune"]
    assert registry.live() == one and registry.verify(one)


def test_the_loser_of_a_number_decides_again(publish, registry, monkeypatch):
    """While an older day is about to be logged as live, a newer one is published."""
    old, new = publish(ONE), []
    before(monkeypatch, "log/00000002.json", lambda: new.append(publish(THREE)))
    late = publish(TWO)
    assert [(e.version, e.live) for e in registry.log()] == [(old, old), (new[0], new[0]), (late, new[0])]


def test_two_rollbacks_at_once_go_back_once(publish, registry, monkeypatch):
    one, two, _ = publish(ONE), publish(TWO), publish(THREE)
    before(monkeypatch, "log/00000004.json", lambda: registry.rollback(reason="the other one"))
    registry.rollback(reason="this one")
    assert registry.live() == two and len(registry.log()) == 4
    assert registry.rollback(reason="a second one, later").live == one


def test_what_is_promoted_meanwhile_is_not_deleted(publish, registry, monkeypatch):
    one, _ = publish(ONE), publish(TWO)
    before(monkeypatch, "log/00000003.json", lambda: registry.promote(one, reason="needed again"))
    with pytest.raises(UsageError, match="live and the pinned"):
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


def before(monkeypatch, place, deed):
    """Does something just before the first attempt to create a log entry."""
    real, waiting = storage.put_if_absent, [deed]

    def put(uri, data):
        if uri.endswith(place) and waiting:
            waiting.pop()()
        return real(uri, data)

    monkeypatch.setattr(storage, "put_if_absent", put)


def test_a_deletion_that_was_killed_is_ended_by_the_next(publish, registry, monkeypatch):
    one, two = publish(ONE), publish(TWO)
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        cut_at(patch, storage, "delete_tree", 0)
        registry.delete(one)
    assert registry.accepted() == [two] and registry.accepted_before(TWO) is None
    assert registry.prunable(keep=5, keep_days=500, today=THREE) == [one]
    registry.delete(one)
    assert storage.list_files(f"{registry.root}/p/versions/{one}") == [] and len(registry.log()) == 3
    assert registry.prunable(keep=5, keep_days=500, today=THREE) == []


def test_a_pruned_id_is_not_used_again(publish, registry):
    one, _ = publish(ONE), publish(TWO)
    registry.delete(one)
    with pytest.raises(UsageError, match="pruned"):
        publish(ONE)
    assert [s.stored for s in registry.statuses()] == [True, False]


def test_a_published_version_is_never_altered(publish, registry, tmp_path):
    one = publish(ONE, "one")
    home = f"{registry.root}/p/versions/{one}"

    def snapshot():
        if not storage.is_remote(home):
            return {p: (p.stat().st_ino, p.stat().st_mtime_ns, p.read_bytes()) for p in Path(home).rglob("*.*")}
        return {f.path: (storage.gcs.blob(f.uri).bucket.get_blob(f"place/p/versions/{one}/{f.path}").generation)
                for f in storage.list_files(home)}  # fmt: skip

    first = snapshot()
    publish(ONE, "one")
    publish(TWO)
    registry.rollback(reason="")
    registry.pin(one)
    registry.promote(one, reason="")
    registry.verify(one)
    registry.open(cache=tmp_path / "cache")
    assert snapshot() == first and len(first) == 3


def test_a_lost_entry_stops_everything(publish, registry):
    publish(ONE)
    publish(TWO)
    storage.delete_file(f"{registry.root}/p/log/00000001.json")
    for use in (registry.log, registry.accepted, lambda: publish(THREE), lambda: registry.rollback(reason="")):
        with pytest.raises(BadData, match=r"00000001\.json"):
            use()


def test_foreign_files_in_the_log_are_no_entries(publish, registry):
    one = publish(ONE)
    for name in ("zz-notes.txt", "00000009.json.bak", "README"):
        storage.write_bytes(f"{registry.root}/p/log/{name}", b"hello")
    two = publish(TWO)
    assert [e.version for e in registry.log()] == [one, two] and registry.live() == two


def test_a_listing_made_while_entries_come_may_have_holes(publish, registry, monkeypatch):
    publish(ONE)
    two = publish(TWO)
    real = storage.list_names
    monkeypatch.setattr(storage, "list_names", lambda uri: [n for n in real(uri) if n != "00000001.json"])
    assert len(registry.log()) == 2 and registry.live() == two


@pytest.mark.parametrize("damage", ["truncated", "altered", "missing", "half downloaded"])
def test_a_damaged_local_copy_is_replaced(gs_place, tmp_path, damage):
    registry, cache = Registry(gs_place, "p"), tmp_path / "cache"
    registry.publish(*stage(tmp_path / "new", ONE, "twelve bytes"), accepted=True, reason="")
    copy = registry.open(cache=cache)
    victim = copy / "index/data.txt"
    if damage == "half downloaded":
        victim.unlink()
        (copy / "items.txt").unlink()
    elif damage == "missing":
        victim.unlink()
    else:
        victim.write_text("twelve" if damage == "truncated" else "TWELVE BYTES")
    assert contents(registry, cache) == {"twelve bytes"}
    assert [p.name for p in (cache / "p").iterdir()] == [copy.name], "nothing is left over"


def test_a_killed_download_leaves_no_copy(gs_place, tmp_path, monkeypatch):
    registry, cache = Registry(gs_place, "p"), tmp_path / "cache"
    version = registry.publish(*stage(tmp_path / "new", ONE, "x"), accepted=True, reason="").version
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        cut_at(patch, storage.gcs, "download", 1)
        registry.open(cache=cache)
    assert not (cache / "p" / version).exists()
    assert contents(registry, cache) == {"x"}


def test_a_copy_that_is_whole_is_not_downloaded_again(gs_place, tmp_path, monkeypatch):
    registry = Registry(gs_place, "p")
    registry.publish(*stage(tmp_path / "new", ONE, "x"), accepted=True, reason="")
    registry.open(cache=tmp_path / "cache")
    monkeypatch.setattr(storage.gcs, "download", lambda *_: pytest.fail("downloaded"))
    registry.open(cache=tmp_path / "cache")


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


def test_readers_see_whole_versions_while_writers_work(tmp_path):
    registry = Registry(str(tmp_path / "registry"), "p")
    registry.publish(*stage(tmp_path / "0", ONE, "0"), accepted=True, reason="")
    was_live, seen, failed, done = {registry.live()}, [], [], threading.Event()

    def read():
        while not done.is_set():
            try:
                home = registry.open()
                seen.append((home.name, {(home / n).read_text() for n in ("items.txt", "index/data.txt")}))
            except Exception as e:
                failed.append(e)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for n in range(1, 25):
        day = ONE + timedelta(days=n)
        was_live.add(registry.publish(*stage(tmp_path / str(n), day, str(n)), accepted=True, reason="").live)
        if n % 5 == 0:
            registry.rollback(reason="")
        for version in registry.prunable(keep=6, keep_days=0, today=day):
            registry.delete(version)
    done.set()
    for reader in readers:
        reader.join()
    assert failed == [] and len(seen) > 20
    assert all(version in was_live and len(texts) == 1 for version, texts in seen)


PUBLISHER = """
    import sys
    from datetime import date, timedelta
    from pathlib import Path
    from index_builder.manifest import File, Manifest
    from index_builder.registry import Registry
    from twinspire import storage
    root, scratch, first, step, count = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:])
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(first, first + step * count, step):
        (scratch / str(n) / "index").mkdir(parents=True)
        for name in ("items.txt", "index/data.txt"):
            (scratch / str(n) / name).write_text(str(n))
        found = storage.list_files(str(scratch / str(n)))
        files = {f.path: File(sha256=storage.file_digest(f.uri), size=f.size) for f in found}
        day = date(2018, 1, 1) + timedelta(days=n)
        described = Manifest.create(pipeline="p", day=day, files=files, items=1, dimension=2)
        Registry(root, "p").publish(str(scratch / str(n)), described, accepted=True, reason="")
"""


@pytest.fixture
def start(registry, tmp_path):
    """Starts processes that publish days, once they are told to go."""
    with contextlib.ExitStack() as stack:

        def start(first, step, count):
            arguments = [registry.root, str(tmp_path / f"scratch-{random.random()}"), *map(str, (first, step, count))]
            command = [sys.executable, "-c", textwrap.dedent(PUBLISHER), *arguments]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            process = stack.enter_context(subprocess.Popen(command, **pipes))
            process.stdout.readline()
            return process

        yield start


def go(process):
    process.stdin.write("go\n")
    process.stdin.flush()


def test_processes_that_publish_at_once_leave_one_history(registry, start, tmp_path):
    """Three publish their own days, and a fourth the same as the first."""
    shares = [(0, 3, 4), (1, 3, 4), (2, 3, 4), (0, 3, 4)]
    processes = [start(*share) for share in shares]
    for process in processes:
        go(process)
    for process in processes:
        assert process.wait(60) == 0
    log = registry.log()
    assert len(log) == 12 and [e.number for e in log] == list(range(1, 13))
    days = [e.version[:10] for e in log]
    assert sorted(days) == [str(date(2018, 1, 1) + timedelta(days=n)) for n in range(12)]
    assert [e.live[:10] for e in log] == [max(days[: n + 1]) for n in range(12)], "an older day is never live"
    assert contents(registry, tmp_path / "cache") == {"11"}


def test_killed_at_any_moment_nothing_half_written_is_live(registry, start, tmp_path):
    registry.publish(*stage(tmp_path / "old", ONE, "old"), accepted=True, reason="")
    moments = random.Random(7)
    for _ in range(4):
        process = start(0, 1, 100)
        go(process)
        time.sleep(moments.uniform(0.02, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(contents(registry, tmp_path / "cache")) == 1
        assert len(registry.log()) == len({e.version for e in registry.log()})
    process = start(0, 1, len(registry.log()))
    go(process)
    assert process.wait(60) == 0
    assert all(registry.verify(e.version) for e in registry.log())
