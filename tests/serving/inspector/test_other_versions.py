import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from weakref import WeakSet

import pytest

from serving.http.server_settings import Settings
from serving.http.service import Service
from serving.inspector import router
from serving.inspector.router import Inspector
from tests.serving.batch.test_request_lines import PIPELINE
from twinspire_core.errors import BadData


@pytest.fixture
def inspector(monkeypatch) -> Inspector:
    """An inspector whose versions are their names; `opened` lists those that were opened."""
    made = Inspector(Service(PIPELINE, Settings()))
    made.opened = []

    def opened(name: str) -> SimpleNamespace:
        made.opened.append(name)
        if name == "bad":
            raise BadData("it is damaged")
        return SimpleNamespace(id=name)

    monkeypatch.setattr(made._service, "open", opened)
    monkeypatch.setattr(router, "warm", lambda version: None)
    monkeypatch.setattr(router.CorpusView, "of", lambda version: None)
    return made


def test_two_versions_are_kept_those_that_were_asked_for_last(inspector):
    for name in ("a", "b", "a", "c", "a", "b"):
        assert inspector._open([name])[name].id == name
    assert inspector.opened == ["a", "b", "c", "b"]
    assert list(inspector._others) == ["a", "b"]


def test_a_version_that_cannot_be_loaded_is_tried_again(inspector):
    for _ in range(2):
        shown = inspector._open(["bad"])["bad"]
        assert shown.status == 409 and "it is damaged" in shown.problem
    assert inspector.opened == ["bad", "bad"]


def test_a_page_that_waits_keeps_no_version_in_memory(inspector, monkeypatch):
    class Opened:
        pass

    alive, counts = WeakSet(), []

    def opened(name):
        time.sleep(0.01)  # in which all pages come
        version = Opened()
        alive.add(version)
        counts.append(len(alive))
        return version

    monkeypatch.setattr(inspector._service, "open", opened)
    with ThreadPoolExecutor(8) as pages:
        list(pages.map(lambda n: len(inspector._open([f"a{n}", f"b{n}"])), range(8)))
    # One that is kept, those of the page, and one of the page before
    assert len(counts) == 16 and max(counts) <= 4
