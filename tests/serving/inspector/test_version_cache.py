import threading
from types import SimpleNamespace

import pytest

from serving.inspector.router import VersionCache, VersionList
from tests.serving.http.conftest import until
from twinspire_core.errors import BadData


class Store:
    """Opens versions, when it may; says which were opened, and how many at once."""

    def __init__(self) -> None:
        self.opened, self.go, self.at_once, self.most = list[str](), threading.Event(), 0, 0

    def open(self, version: str) -> SimpleNamespace:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.go.wait(10)
        self.opened.append(version)
        self.at_once -= 1
        if version == "bad":
            raise BadData("it is damaged")
        return SimpleNamespace(id=version, warm=False)


def warm(version) -> None:
    version.warm = True


@pytest.fixture
def store():
    return Store()


def test_few_are_kept_and_loaded_one_after_the_other(store):
    shelf = VersionCache(store.open, warm, most=2)
    assert shelf.get("a") is None
    until(lambda: store.at_once)
    assert [shelf.get(name) for name in ("b", "c")] == [None, None]
    store.go.set()
    until(lambda: shelf.get("c") and shelf.get("b"))
    assert sorted(store.opened) == ["a", "b", "c"], "a was begun before c took its place"
    assert store.most == 1
    until(lambda: shelf.get("d"))
    assert shelf.get("b").id == "b"
    assert shelf.get("c") is None, "c was looked at before b"


def test_what_nobody_waits_for_any_more_is_not_loaded(store):
    shelf = VersionCache(store.open, warm, most=1)
    shelf.get("a")
    until(lambda: store.at_once)
    shelf.get("b")
    shelf.get("c")
    store.go.set()
    until(lambda: shelf.get("c"))
    assert "b" not in store.opened


def test_what_went_wrong_is_told_once_and_tried_again(store):
    shelf = VersionCache(store.open, warm)
    store.go.set()
    for _ in range(2):
        with pytest.raises(BadData):
            until(lambda: shelf.get("bad"))
    assert store.opened == ["bad", "bad"]


def test_the_versions_that_were_known_last_are_offered_while_the_registry_cannot_be_read():
    answers = [
        [SimpleNamespace(version="a", stored=True), SimpleNamespace(version="b", stored=False)]
    ]
    log = VersionList(SimpleNamespace(statuses=lambda: answers.pop()), "recall@50", fresh=0)
    assert [one.version for one in log.stored()] == ["a"]
    assert [one.version for one in log.stored()] == ["a"], "pop fails by now"
    assert log.figure("a") is None, "a registry that cannot be read has no figures"
