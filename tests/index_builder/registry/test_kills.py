"""`kill -9` between any two operations on the disk, and a disk that is full from any of them on.

Unlike an error, a kill leaves what was half done lying about: nothing is cleaned up. Asked is only
what a reader sees.
"""

import errno
import os
import shutil
import signal
from pathlib import Path

import pytest

from index_builder.registry.registry import Registry
from tests.index_builder.registry.staging import ONE, THREE, TWO, contents, staged
from twinspire_core import storage
from twinspire_core.errors import TryAgain

OPERATIONS = ("open", "mkdir", "fsync", "replace", "link", "unlink", "rmdir")
DEEDS = {  # what is done, and what is live afterwards
    "publish": (lambda r, new: r.publish(*new, accepted=True, reason=""), "three"),
    "roll back": (lambda r, new: r.rollback(reason=""), "one"),
    "delete": (lambda r, new: r.delete(r.log()[0].version), "two"),
    "promote": (lambda r, new: r.promote(r.log()[0].version, reason=""), "one"),
}


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A registry with two versions, and a third one to be published."""
    home = tmp_path_factory.mktemp("template")
    registry = Registry(str(home / "registry"), "p")
    for day, text in ((ONE, "one"), (TWO, "two")):
        registry.publish(*staged(home / text, day, text), accepted=True, reason="")
    return home, staged(home / "three", THREE, "three")


def copied(template, to):
    shutil.copytree(template[0] / "registry", to / "registry")
    return Registry(str(to / "registry"), "p")


def killed_at(moment, deed, *given) -> bool:
    """Does the deed in a process that is killed before the operation of this number; whether there
    was one.
    """
    child = os.fork()
    if child == 0:
        try:
            calls = iter(range(moment))
            for name in OPERATIONS:
                setattr(os, name, dying(getattr(os, name), calls))
            deed(*given)
        finally:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    # A crash of the test's own making would be taken for what it tests.
    assert not os.WIFSIGNALED(status) or os.WTERMSIG(status) == signal.SIGKILL
    return os.WIFSIGNALED(status)


def dying(real, calls):
    def call(*args, **kwargs):
        if next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    return call


@pytest.mark.parametrize("name", DEEDS)
def test_killed_between_any_two_operations(template, tmp_path, name):
    deed, after = DEEDS[name]
    moment, history = 0, None
    while True:
        home = tmp_path / str(moment)
        registry = copied(template, home)
        if not killed_at(moment, deed, registry, template[1]):
            break
        files = contents(registry, home)
        assert files in ({"two"}, {after}), (
            f"operation {moment}: whole, and of the one version or the other"
        )
        assert all(registry.verify(version) for version in registry.state().accepted), (
            "what is accepted is whole"
        )
        log = registry.log()
        assert len(log) in (2, 3) and [e.number for e in log] == list(range(1, len(log) + 1))
        if not (name == "roll back" and len(log) == 3):  # once more would go back further
            deed(registry, template[1])
        assert contents(registry, home) == {after}
        history = [(e.action, e.version, e.live) for e in registry.log()]
        assert len(history) == 3, f"operation {moment}: done again, it is done once"
        stored = {status.version for status in registry.statuses() if status.stored}
        assert set(storage.list_names(f"{registry.root}/p/versions")) == stored, (
            "nothing is left of what was deleted"
        )
        shutil.rmtree(home)
        moment += 1
    assert moment > 8 and contents(registry, home) == {after}
    assert [(e.action, e.version, e.live) for e in registry.log()] == history


class Disk:
    """A disk with room for a few more files and folders; of the first one beyond, half is
    written.
    """

    def __init__(self, patch, room):
        self.left, self.full = room, False
        copy, write, mkdir, link = shutil.copyfile, Path.write_bytes, os.mkdir, os.link
        patch.setattr(
            shutil, "copyfile", lambda a, b: self.take(lambda: half(write, b, a)) and copy(a, b)
        )
        patch.setattr(
            Path,
            "write_bytes",
            lambda p, data: self.take(lambda: half(write, p, data)) and write(p, data),
        )
        patch.setattr(os, "mkdir", lambda p, *a: (os.path.isdir(p) or self.take()) and mkdir(p, *a))
        patch.setattr(os, "link", lambda *a: self.take() and link(*a))

    def take(self, half_way=lambda: None):
        self.left -= 1
        if self.left < 0:
            self.full = True
            half_way()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return True


def half(write, target, source):
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    write(Path(target), data[: len(data) // 2])


def test_a_disk_that_is_full_at_any_moment(template, tmp_path, monkeypatch):
    for room in range(100):
        home = tmp_path / str(room)
        registry = copied(template, home)
        with monkeypatch.context() as patch:
            disk = Disk(patch, room)
            try:
                registry.publish(*template[1], accepted=True, reason="")
            except TryAgain as e:
                assert "twinspire prune" in str(e)
        assert contents(registry, home) == ({"two"} if disk.full else {"three"})
        assert not list(home.rglob(".tmp-*")), "what was half written takes no room"
        if not disk.full:
            break
        registry.publish(*template[1], accepted=True, reason="")
        assert contents(registry, home) == {"three"} and len(registry.log()) == 3
        shutil.rmtree(home)
    assert room > 6
