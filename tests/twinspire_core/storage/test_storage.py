import contextlib
import errno
import hashlib
import http.client
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from twinspire_core import storage
from twinspire_core.errors import UsageError


def test_what_was_written_is_read_and_listed(folder):
    storage.write_bytes(f"{folder}/a/one.txt", b"1")
    storage.write_bytes(f"{folder}/a/b/two.txt", b"22")
    storage.write_bytes(f"{folder}/a/empty.txt", b"")
    storage.write_bytes(f"{folder}/ab/three.txt", b"333")
    assert storage.read_bytes(f"{folder}/a/b/two.txt") == b"22"
    listed = [(f.path, f.size) for f in storage.list_files(f"{folder}/a")]
    assert listed == [("b/two.txt", 2), ("empty.txt", 0), ("one.txt", 1)]
    assert storage.list_names(folder) == ["a", "ab"]
    assert storage.list_names(f"{folder}/a") == ["b", "empty.txt", "one.txt"]
    there = [storage.exists(f"{folder}/{name}") for name in ("a", "a/one.txt", "c")]
    assert there == [True, True, False]


def test_nothing_is_listed_where_nothing_is(folder):
    assert storage.list_files(f"{folder}/x") == [] and storage.list_names(f"{folder}/x") == []
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(f"{folder}/x")
    storage.delete_tree(f"{folder}/x")
    storage.delete_file(f"{folder}/x")


def test_names_with_signs_and_folders_that_a_console_made(remote_folder):
    names = ["a b+c%20d/é.txt", "x#y?z*[].txt", "e=f;g~h'i.txt"]
    for name in names:
        storage.write_bytes(f"{remote_folder}/{name}", name.encode())
    files = storage.list_files(remote_folder)
    assert {file.path: storage.read_bytes(file.uri).decode() for file in files} == {
        name: name for name in names
    }
    for folder in ("made/", "made/inner/") if remote_folder.startswith("s3:") else ():
        address = urlsplit(os.environ["AWS_ENDPOINT_URL"]).netloc
        with contextlib.closing(http.client.HTTPConnection(address)) as server:
            server.request("PUT", f"{remote_folder.removeprefix('s3:/')}/{folder}", b"")
            assert server.getresponse().status == 200
    storage.write_bytes(f"{remote_folder}/made/inner/file", b"1")
    assert [file.path for file in storage.list_files(f"{remote_folder}/made")] == ["inner/file"]
    assert storage.list_names(f"{remote_folder}/made") == ["inner"]


def test_a_folder_is_listed_while_it_is_deleted(tmp_path):
    def come_and_go():
        while not ended.is_set():
            for n in range(20):
                (tmp_path / f"tree/{n}").mkdir(parents=True)
                (tmp_path / f"tree/{n}/file").touch()
            shutil.rmtree(tmp_path / "tree")

    ended = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(come_and_go)
        end = time.monotonic() + 0.5
        try:
            while time.monotonic() < end:
                assert all(file.size == 0 for file in storage.list_files(str(tmp_path)))
        finally:
            ended.set()
        going.result()


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE, errno.EACCES])
def test_a_folder_that_cannot_be_listed_is_not_taken_for_empty(tmp_path, monkeypatch, code):
    real = os.scandir

    def fail(path):
        if Path(path).name == "sub":
            raise OSError(code, os.strerror(code))
        return real(path)

    storage.write_bytes(f"{tmp_path}/sub/f", b"1")
    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(OSError, match=os.strerror(code)):
        storage.list_files(str(tmp_path))


def test_a_file_is_created_only_once(folder):
    assert storage.put_if_absent(f"{folder}/f", b"first")
    assert not storage.put_if_absent(f"{folder}/f", b"second")
    assert storage.put_if_absent(f"{folder}/f", b"first"), "the same bytes count as written"
    assert storage.read_bytes(f"{folder}/f") == b"first"
    assert storage.list_names(folder) == ["f"]


def test_of_many_writers_one_wins(folder):
    wins, writers = [], [str(n).encode() for n in range(8)]

    def write(data):
        if storage.put_if_absent(f"{folder}/f", data):
            wins.append(data)

    with ThreadPoolExecutor(len(writers)) as pool:
        list(pool.map(write, writers))
    assert wins == [storage.read_bytes(f"{folder}/f")]


def test_trees_move_between_stores(folder, tmp_path):
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/x.bin").write_bytes(b"x" * 70_000)
    (tmp_path / "tree/sub/y.bin").write_bytes(b"y")
    storage.upload_tree(tmp_path / "tree", f"{folder}/t")
    storage.copy_tree(f"{folder}/t", f"{folder}/u")
    local = storage.localize(f"{folder}/u", tmp_path / "back")
    assert (local / "x.bin").read_bytes() == b"x" * 70_000
    assert (local / "sub/y.bin").read_bytes() == b"y"
    assert storage.localize(f"{folder}/u/x.bin", tmp_path / "one").read_bytes() == b"x" * 70_000
    digest = storage.file_digest(str(tmp_path / "tree/x.bin"))
    assert storage.file_digest(f"{folder}/u/x.bin") == digest
    storage.delete_tree(f"{folder}/u")
    assert not storage.exists(f"{folder}/u") and storage.exists(f"{folder}/t/x.bin")


def test_a_tree_is_linked_where_it_is_local(folder, tmp_path):
    for name in ("a.txt", "below/b.txt"):
        storage.write_bytes(storage.join(folder, "there", name), name.encode())
    storage.link_tree(storage.join(folder, "there"), tmp_path / "here")
    files = storage.list_files(str(tmp_path / "here"))
    assert [(file.path, file.size) for file in files] == [("a.txt", 5), ("below/b.txt", 11)]
    assert storage.file_digests(files) == {
        n: hashlib.sha256(n.encode()).hexdigest() for n in ("a.txt", "below/b.txt")
    }
    assert (tmp_path / "here/a.txt").is_symlink() != storage.is_remote(folder)
    storage.copy_tree(str(tmp_path / "here"), str(tmp_path / "copy"))
    assert not (tmp_path / "copy/a.txt").is_symlink()
    storage.delete_tree(str(tmp_path / "here"))
    assert storage.read_bytes(storage.join(folder, "there", "below/b.txt")) == b"below/b.txt"


def test_a_lost_reply_is_settled_by_reading_back(gs_place, monkeypatch):
    """The store does the write, and the answer never arrives."""
    from google.api_core.exceptions import ServiceUnavailable
    from google.cloud.storage import Blob

    upload = Blob.upload_from_string

    def lost(blob, *args, **kwargs):
        upload(blob, *args, **kwargs)
        raise ServiceUnavailable("the connection broke")

    monkeypatch.setattr(Blob, "upload_from_string", lost)
    assert storage.put_if_absent(f"{gs_place}/f", b"mine")
    assert not storage.put_if_absent(f"{gs_place}/f", b"another's")


def test_a_write_that_fails_leaves_nothing_behind(tmp_path):
    """A file as large as this is not allowed: to a process that is how a full disk looks."""
    code = """
        import resource, signal, sys
        from twinspire_core import storage
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        for write in (storage.put_if_absent, storage.write_bytes, storage.write_transient):
            try:
                write(sys.argv[1] + "/big", b"x" * 1_000_000)
            except OSError as e:
                print(e.strerror)
    """
    folder = str(tmp_path / "disk")
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), folder], capture_output=True, text=True
    )
    assert result.stdout.split("\n")[:3] == ["File too large"] * 3, result.stderr
    assert list(Path(folder).iterdir()) == []


def test_a_transient_file_waits_for_no_disk(folder, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    for content in (b"1", b"22"):
        storage.write_transient(f"{folder}/sub/f", content)
        assert storage.read_bytes(f"{folder}/sub/f") == content
    assert storage.list_names(f"{folder}/sub") == ["f"] and synced == []


def test_what_a_killed_writer_left_is_no_file(tmp_path):
    for folder in ("", "sub/"):
        storage.write_bytes(f"{tmp_path}/{folder}f", b"1")
        (tmp_path / folder / ".tmp-0123").write_bytes(b"half")
    assert [f.path for f in storage.list_files(str(tmp_path))] == ["f", "sub/f"]
    assert storage.list_names(str(tmp_path)) == ["f", "sub"]


def test_a_missing_bucket_is_the_users_affair(remote_folder):
    nowhere = f"{remote_folder.split('/')[0]}//nowhere/x"
    for use in (storage.list_files, storage.list_names, lambda uri: storage.write_bytes(uri, b"1")):
        with pytest.raises(UsageError, match=f"bucket.*{nowhere}"):
            use(nowhere)


def test_a_file_system_without_hard_links_is_named(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(UsageError, match="hard link"):
        storage.put_if_absent(f"{tmp_path}/f", b"1")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_may_be_deleted_by_several_at_once(tmp_path):
    for _ in range(30):
        for file in (tmp_path / "x" / str(part) / str(n) for part in range(8) for n in range(8)):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(storage.delete_tree, [str(tmp_path / "x")] * 4))
        assert not (tmp_path / "x").exists()


def test_a_further_store_is_a_module_and_a_line(gs_place, tmp_path, monkeypatch):
    def of_disk(name):
        return lambda uri, *data: getattr(storage.disk, name)(path(uri), *data)

    def path(uri):
        return str(tmp_path / uri.removeprefix("mem://"))

    functions = {name: of_disk(name) for name in ("exists", "read_bytes", "write_bytes")}
    upload = lambda uri, file: storage.write_bytes(uri, file.read_bytes())  # noqa: E731
    monkeypatch.setitem(storage.STORES, "mem", SimpleNamespace(**functions, upload=upload))
    storage.write_bytes(f"{gs_place}/a/f.txt", b"1")
    storage.copy_tree(f"{gs_place}/a", "mem://b")
    assert storage.read_bytes("mem://b/f.txt") == (tmp_path / "b/f.txt").read_bytes() == b"1"
    with pytest.raises(UsageError, match=r"az://BUCKET/NAME or mem://BUCKET/NAME; found ftp://"):
        storage.exists("ftp://bucket/name")


def test_an_open_file_ends_where_its_bytes_end(folder):
    storage.write_bytes(f"{folder}/file", b"0123456789")
    with storage.open_bytes(f"{folder}/file") as file:
        assert [file.read(4) for _ in range(4)] == [b"0123", b"4567", b"89", b""]
        assert file.seek(-3, os.SEEK_END) == 7 and file.read(100) == b"789" and file.tell() == 10
