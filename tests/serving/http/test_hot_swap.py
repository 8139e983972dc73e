import gc
import os
import shutil
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from types import SimpleNamespace

import httpx
import numpy as np
import orjson
import pytest

from index_builder.registry.registry import Registry
from serving.app import create_app
from serving.http.answer_bodies import answer_batch, answer_similar
from serving.http.bodies import BodyParser, SimilarRequest
from serving.http.hot_swap import LiveVersion, warm
from serving.http.prometheus import Metrics
from serving.requests.query_rows import Requests
from serving.requests.request_model import ListRequest
from serving.version.loaded_version import Version
from tests.serving import conftest as circle
from tests.serving import rankers
from tests.serving.answers.test_retrieval import files, in_order
from tests.serving.http.conftest import FAST, answering, publish_named, ready, running, shop, until
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.gate_verdict import ComparedFigures, GateFigures
from twinspire_core.errors import BadData, UsageError

CLIENTS = 6
# Of the items of that day's version
LETTERS = {"2024-01-01": "a", "2024-01-02": "b", "2024-01-03": "c"}


@pytest.fixture
def pipeline(tmp_path) -> Pipeline:
    return shop(tmp_path)


def registry(pipeline: Pipeline) -> Registry:
    return Registry(pipeline.registry.root, pipeline.name)


def version_info(client: httpx.Client) -> dict:
    return client.get("/v1/version").json()


def metric(client: httpx.Client, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + " "))


@contextmanager
def load(client: httpx.Client) -> Iterator[list[str]]:
    """Asks from several threads meanwhile; every answer is a 200 of one version. Yields the
    versions that answered.
    """
    answered, wrong, end = list[str](), list[str](), threading.Event()
    bodies = [
        ("/v1/recommend", {"query": {"history": ["a03", "b04", "c05"]}, "k": 12}),
        ("/v1/recommend", {"queries": [{"place": 3.2}, {"user": "anna"}, {}], "k": 5}),
        ("/v1/recommend", {"query": {"place": 7}, "k": 12, "display": True, "exclude_seen": True}),
    ]

    def ask(number: int) -> None:
        while not end.is_set():
            path, body = bodies[number % len(bodies)]
            response = client.post(path, json=body)
            said = response.json()
            if response.status_code != 200:
                wrong.append(response.text)
                return
            lists = said.get("results", [said])
            items = [
                i
                for one in lists
                for i in (*one["items"], *(d["item"] for d in one.get("display", [])))
            ]
            if {item[0] for item in items} != {LETTERS[said["version"][:10]]}:
                wrong.append(response.text)
            answered.append(said["version"])
            number += 1

    with ThreadPoolExecutor(CLIENTS) as pool:
        asking = [pool.submit(ask, n) for n in range(CLIENTS)]
        try:
            yield answered
        finally:
            end.set()
        for one in asking:
            one.result()
    assert wrong == []


def test_no_answer_fails_or_mixes_versions_while_they_are_published_and_rolled_back(
    pipeline, towers, tmp_path
):
    versions = [publish_named(pipeline, towers, tmp_path, "a", "2024-01-01")]
    with answering(pipeline) as client:

        def answers_from(version: str) -> None:
            before = len(answered)
            until(lambda: version in answered[before:])

        with load(client) as answered:
            answers_from(versions[0])
            for letter, day in (("b", "2024-01-02"), ("c", "2024-01-03")):
                versions.append(publish_named(pipeline, towers, tmp_path, letter, day))
                answers_from(versions[-1])
            for back in (versions[1], versions[0]):
                registry(pipeline).rollback(back, reason="test")
                answers_from(back)
            registry(pipeline).promote(versions[2], reason="test", despite_gate=True)
            answers_from(versions[2])
        assert metric(client, "twinspire_swaps_total") == 6
        live = f'twinspire_live_version{{day="2024-01-03",version="{versions[2]}"}}'
        assert metric(client, live) == 1


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Nothing comes by as it would in the end: after dozens of versions."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_a_version_that_was_swapped_leaves_memory(pipeline, towers, tmp_path, no_collector):
    publish_named(pipeline, towers, tmp_path, "a", "2024-01-01")
    app = create_app(pipeline, FAST)
    with running(app) as client:
        ready(client)
        body = {"query": {"place": 3, "allow": {"kind": "odd"}}}
        assert client.post("/v1/recommend", json=body).status_code == 200
        version = app.state.service.live.current.version
        parts = (version, version.items, version.attributes, version._tower._call.graph)
        kept = [weakref.ref(part) for part in parts]
        del version, parts
        second = publish_named(pipeline, towers, tmp_path, "b", "2024-01-02")
        until(lambda: version_info(client)["version"] == second)
        until(lambda: not any(part() for part in kept), 20)
    looked_at = {id(one) for one in gc.get_objects()}
    assert id(vars(sys.modules["tensorflow.python.saved_model.load"])) not in looked_at, (
        "to look at all of TensorFlow holds up whoever asks"
    )


def test_quality_is_that_of_the_version_that_answers(pipeline, towers, tmp_path):
    judged = GateFigures(
        metric="recall@10", candidate=0.25, index_recall=0.99, trees=ComparedFigures(candidate=0.5)
    )
    alone = GateFigures(metric="recall@50", candidate=0.3)

    def shown(client) -> list[str]:
        lines = client.get("/metrics").text.splitlines()
        return sorted(line for line in lines if line.startswith("twinspire_live_quality{"))

    circle.publish(pipeline, towers, tmp_path / "a", "2024-01-01", quality=judged)
    with answering(pipeline) as client:
        assert shown(client) == [
            'twinspire_live_quality{lists="ranked",measure="recall@10"} 0.5',
            'twinspire_live_quality{lists="two-tower",measure="index_recall"} 0.99',
            'twinspire_live_quality{lists="two-tower",measure="recall@10"} 0.25',
        ]
        circle.publish(pipeline, towers, tmp_path / "b", "2024-01-02", quality=alone)
        only = ['twinspire_live_quality{lists="two-tower",measure="recall@50"} 0.3']
        until(lambda: shown(client) == only)


def test_a_damaged_version_is_reported_and_the_old_one_keeps_answering(pipeline, towers, tmp_path):
    first = publish_named(pipeline, towers, tmp_path, "a", "2024-01-01")
    with answering(pipeline) as client:
        # Damaged between its publication and the first look: whole for the log, not for a reader.
        described = publish_damaged(pipeline, towers, tmp_path)
        until(lambda: version_info(client)["failure"])
        said = version_info(client)
        assert (said["version"], said["failure"]["version"]) == (first, described)
        assert "differs from its digest" in said["failure"]["error"]
        assert client.post("/v1/recommend", json={"query": {}}).json()["version"] == first
        assert client.get("/readyz").status_code == 200
        assert metric(client, "twinspire_version_failures_total") >= 1
        registry(pipeline).rollback(first, reason="damaged")
        until(lambda: version_info(client)["failure"] is None)
        assert version_info(client)["version"] == first
        assert metric(client, "twinspire_swaps_total") == 1, "it has answered all the time"


def test_a_refresh_tells_the_day_of_its_catalogue(pipeline, towers, tmp_path):
    first = circle.publish(pipeline, towers, tmp_path / "staged")
    origin = ("day", "corpus_date", "refreshes")
    with answering(pipeline) as client:
        said = version_info(client)
        assert [said[name] for name in origin] == ["2024-01-01", "2024-01-01", None]
        later = {"titles": ["New"] * 12, "refreshes": first, "corpus_date": date(2024, 1, 5)}
        again = circle.publish(pipeline, towers, tmp_path / "again", **later)
        until(lambda: version_info(client)["version"] == again)
        said = version_info(client)
        assert [said[name] for name in origin] == ["2024-01-01", "2024-01-05", first]
        schemas = client.get("/openapi.json").json()["components"]["schemas"]
        assert set(schemas["VersionAnswer"]["properties"]) == set(said)


def ranked(**more) -> dict[str, bytes]:
    """A fixed order, and a ranker that lists the rarest first."""
    return files(in_order()) | rankers.files(
        ("history",), ("popular",), lambda rows: -rows[:, 0], **more
    )


def test_a_version_with_a_ranker_takes_over_and_one_of_a_newer_format_says_so(
    pipeline, towers, tmp_path
):
    asked = {"query": {"user": "anna"}, "k": 3}
    circle.publish(pipeline, towers, tmp_path / "a", nominators=files(in_order()))
    with answering(pipeline) as client:
        assert client.post("/v1/recommend", json=asked).json()["source"] == "fixed_order"
        second = circle.publish(pipeline, towers, tmp_path / "b", "2024-01-02", nominators=ranked())
        until(lambda: version_info(client)["version"] == second)
        said = client.post("/v1/recommend", json=asked).json()
        assert (said["source"], said["items"]) == ("ranked", ["i03", "i04", "i05"])
        assert version_info(client)["sources"][:3] == ["two_tower", "ranked", "fixed_order"]
        assert version_info(client)["notes"] == [] and "reasons" not in said
        said = client.post("/v1/recommend", json={**asked, "explain": True}).json()
        assert metric(client, 'twinspire_lists_total{source="ranked"}') == 2
        assert metric(client, 'twinspire_lists_total{source="fixed_order"}') == 1
        [[reason], *_] = said["reasons"]
        assert (reason["feature"], reason["text"]) == ("popular", "bought 3 times by all users")
        assert reason["contribution"] > 0 and len(said["reasons"]) == 3
        ordered = client.post(
            "/v1/recommend", json={**asked, "explain": True, "source": "fixed_order"}
        )
        assert "reasons" not in ordered.json()
        many = {"queries": [{}] * 3, "k": 40, "explain": True}
        error = client.post("/v1/recommend", json=many).json()["error"]
        assert (error["type"], error["where"]) == ("out_of_range", "explain")
        assert "found 3 lists of 40" in error["message"]
        page = client.get("/", params={"user": "anna", "k": "3"}).text
        assert page.count("bought 3 times by all users") == 1 and "ranker" in page
        newer = ranked(number=2)
        third = circle.publish(pipeline, towers, tmp_path / "c", "2024-01-03", nominators=newer)
        until(lambda: version_info(client)["version"] == third)
        assert client.post("/v1/recommend", json=asked).json()["source"] == "fixed_order"
        [note] = version_info(client)["notes"]
        assert "ranker.json is of format 2, and this release reads format 1" in note
        refused = client.post("/v1/recommend", json={**asked, "source": "ranked"})
        assert (refused.status_code, refused.json()["error"]["type"]) == (409, "no_such_source")


def publish_damaged(pipeline: Pipeline, towers, folder) -> str:
    """Publishes a version of which a file is altered before anybody can read it."""
    with pytest.MonkeyPatch.context() as patch:
        append = Registry._append

        def damaging(self, decide):
            for file in (folder / "registry").rglob("2024-01-02*/items.parquet"):
                content = bytearray(file.read_bytes())
                content[len(content) // 2] ^= 1
                file.write_bytes(content)
            return append(self, decide)

        patch.setattr(Registry, "_append", damaging)
        return publish_named(pipeline, towers, folder, "b", "2024-01-02")


def test_after_warm_up_no_file_is_read(pipeline, towers, tmp_path):
    circle.publish(pipeline, towers, tmp_path / "staged", nominators=ranked())
    version, requests = Version.open(pipeline), Requests(pipeline)
    parser = BodyParser(requests.model, FAST)
    warm(version)
    shutil.rmtree(version.home)  # pruned, while it answers
    for body in (
        {"query": {"user": "anna", "deny": {"kind": "odd"}}, "display": True, "exclude_seen": True},
        {"query": {"place": 3}, "source": "co_occurrence"},
        {"query": {}},
        {"query": {"user": "ben"}, "source": "fixed_order"},
    ):
        (said,) = answer_batch(version, requests, [parser.recommend(body)], Metrics())
        assert isinstance(said, bytes), said
        assert len(orjson.loads(said)["items"]) >= 4
    alike = SimilarRequest("i04", ListRequest(k=3, display=True))
    assert len(answer_similar(version, alike)["items"]) == 3


def test_warm_up_finds_towers_that_do_not_work(pipeline, towers, tmp_path, monkeypatch):
    circle.publish(pipeline, towers, tmp_path / "staged")
    version = Version.open(pipeline)
    monkeypatch.setattr(
        Version, "encode", lambda self, queries: np.full((len(queries), 2), np.nan, np.float32)
    )
    with pytest.raises(BadData, match=r"towers are damaged\. Roll back"):
        warm(version)
    monkeypatch.setattr(
        Version, "encode", lambda self, queries: np.ones((len(queries), 3), np.float32)
    )
    with pytest.raises(UsageError, match="query tower of another version"):
        warm(version)


def test_before_there_is_a_version_nobody_is_sent_here(pipeline, towers, tmp_path):
    with running(create_app(pipeline, FAST)) as client:
        assert client.get("/healthz").status_code == 200
        for response in (client.get("/readyz"), client.post("/v1/recommend", json={"query": {}})):
            assert (response.status_code, response.json()["error"]["type"]) == (503, "not_ready")
            assert "none is live" in response.json()["error"]["message"]
            assert response.headers["retry-after"]
        assert version_info(client)["version"] is None
        version = publish_named(pipeline, towers, tmp_path, "a", "2024-01-01")
        ready(client)
        assert version_info(client)["version"] == version
        assert version_info(client)["users"] == 3


class Flaky:
    """Stands in for what opens and warms up versions: fails on demand."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline, self.error, self.opened = pipeline, None, 0

    def open(self, version: str) -> Version:
        self.opened += 1
        return Version.open(self.pipeline, version)

    def warm(self, version: Version) -> Version:
        if self.error:
            raise self.error
        return version


def test_a_version_that_does_not_answer_warm_up_queries_is_tried_again_later(
    pipeline, towers, tmp_path, monkeypatch
):
    clock = [0.0]
    monkeypatch.setattr(
        "serving.http.hot_swap.time", SimpleNamespace(monotonic=lambda: clock[0], time=lambda: 0.0)
    )
    first = publish_named(pipeline, towers, tmp_path, "a", "2024-01-01")
    flaky = Flaky(pipeline)
    live = LiveVersion(pipeline, flaky.open, flaky.warm, Metrics(), poll=2)
    live.look()
    assert live.current.version.id == first
    second = publish_named(pipeline, towers, tmp_path, "b", "2024-01-02")
    flaky.error = ValueError("towers of another width")
    live.look()
    assert (live.current.version.id, live.failure["version"], live.failure["tries"]) == (
        first,
        second,
        1,
    )
    live.look()
    assert flaky.opened == 2, "not at every look"
    clock[0] += 4
    live.look()
    assert (flaky.opened, live.failure["tries"]) == (3, 2)
    flaky.error = None
    clock[0] += 8
    live.look()
    assert (live.current.version.id, live.failure) == (second, None)


def test_a_server_says_when_files_of_its_version_are_gone(pipeline, towers, tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(
        "serving.http.hot_swap.time", SimpleNamespace(monotonic=lambda: clock[0], time=lambda: 0.0)
    )
    first = publish_named(pipeline, towers, tmp_path, "a", "2024-01-01")
    flaky = Flaky(pipeline)
    live = LiveVersion(pipeline, flaky.open, flaky.warm, Metrics(), poll=2)
    live.look()
    [manifest] = (tmp_path / "registry").rglob(f"{first}/manifest.json")
    whole = manifest.read_bytes()
    manifest.unlink()
    live.look()
    for _ in range(3):
        clock[0] += 61
        live.look()
        assert live.current.version.id == live.failure["version"] == first
        assert "manifest.json is missing" in live.failure["error"]
        live.look()
        assert live.failure
    manifest.write_bytes(whole)
    clock[0] += 61
    live.look()
    assert live.failure is None and flaky.opened == 1


def test_the_copy_that_answers_is_kept(towers, tmp_path, remote_place, monkeypatch):
    monkeypatch.setattr(
        circle, "PIPELINE", circle.PIPELINE.replace('root = "registry"', f'root = "{remote_place}"')
    )
    pipeline = shop(tmp_path)
    circle.publish(pipeline, towers, tmp_path / "staged")

    def fetch(version: str) -> Version:
        return Version.open(pipeline, version, tmp_path / "cache")

    live = LiveVersion(pipeline, fetch, lambda one: one, Metrics(), poll=2)
    live.look()
    home = live.current.version.home
    os.utime(home, (1, 1))
    live.look()
    assert home.stat().st_mtime > 1 and live.failure is None


def test_a_registry_that_cannot_be_read_changes_nothing(pipeline, towers, tmp_path):
    first = publish_named(pipeline, towers, tmp_path, "a", "2024-01-01")
    flaky = Flaky(pipeline)
    live = LiveVersion(pipeline, flaky.open, flaky.warm, Metrics(), poll=2)
    live.look()
    entry = tmp_path / "registry" / "circle" / "log" / "00000001.json"
    whole = entry.read_text()
    entry.write_text(whole[:20])
    live.look()
    assert (live.current.version.id, live.failure["version"]) == (first, None)
    entry.unlink()
    live.look()
    assert live.current.version.id == first
    assert "so the live version is unknown" in live.failure["error"] and live.failure["tries"] == 2
    entry.write_text(whole)
    live.look()
    assert (live.current.version.id, live.failure) == (first, None)
