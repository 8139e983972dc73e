import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime

import httpx
import numpy as np
import orjson
import pytest

from serving.http import answer_bodies
from serving.http.bodies import BodyParser
from serving.http.prometheus import Metrics
from serving.requests.query_rows import Requests
from serving.version.loaded_version import Version
from tests.serving import conftest as circle
from tests.serving.asking import similar
from tests.serving.http.conftest import FAST, answering, shop, until
from twinspire_core.config.pipeline import load
from twinspire_core.config.tables.deployment import ListsConfig

POPULAR_LATELY = ["i00", "i11", "i10", "i09"]


@pytest.fixture(scope="module")
def version(client, home) -> Version:
    return Version.open(load(home / "circle.toml"))


def ask(client, body: dict) -> dict:
    response = client.post("/v1/recommend", json=body)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize(
    ("query", "known", "based_on"),
    [
        ({"user": "anna"}, True, "stored_user"),
        ({"user": "who", "history": ["i03"], "place": 1}, False, "history"),
        ({"user": "who", "place": 3.2}, False, "features"),
        ({"user": "who", "history": [], "allow": {"kind": "odd"}}, False, "nothing"),
        ({"user": "who", "when_hour": 3}, False, "nothing"),
        ({"history": ["i03"]}, False, "history"),
        ({}, False, "nothing"),
    ],
)
def test_an_answer_says_what_it_rests_on(client, query, known, based_on):
    said = ask(client, {"query": query, "k": 2})
    assert (said["known"], said["based_on"], said["user"]) == (known, based_on, query.get("user"))
    assert said["source"] == ("popular" if based_on == "nothing" else "two_tower")
    assert len(said["items"]) == 2


def test_nobody_in_particular_gets_what_is_popular_unless_a_source_is_named(client):
    bare, anna = {"user": "who"}, {"user": "anna"}
    both = ask(client, {"queries": [bare, anna, {**bare, "deny": {"kind": "odd"}}], "k": 4})[
        "results"
    ]
    assert both[0]["items"] == POPULAR_LATELY
    assert both[0]["sources"][:2] == ["popular"] * 2
    assert both[1]["items"][0] == "i05"
    assert both[1]["source"] == "two_tower"
    assert both[2]["items"] == ["i00", "i10", "i08", "i06"], "its own filter, not another's"
    named = ask(client, {"query": {**bare, "when_hour": 7}, "k": 4, "source": "two_tower"})
    assert (named["items"][0], named["source"]) == ("i07", "two_tower")
    assert len(ask(client, {"query": {}})["items"]) == 10, "k is 10, unless it is said"


def test_people_see_names_and_the_history(client):
    said = ask(client, {"query": {"user": "anna"}, "k": 1, "display": True})
    assert said["display"] == [{"item": "i05", "name": "Item [5]", "colour": None}]
    assert [item["item"] for item in said["history"]] == ["i05", "i03"]
    assert said["history"][1]["name"] == "Item [3]"
    left = ask(client, {"query": {"history": ["gone", "i02"]}, "k": 1, "display": True})
    assert left["history"] == [
        {"item": "i02", "name": "Item [2]", "colour": "red"},
        {"item": "gone"},
    ]


def test_similar_items_are_the_librarys(client, version):
    said = client.post("/v1/similar", json={"item": "i04", "k": 3, "display": True}).json()
    expected = similar(version, "i04", 3)
    assert said["items"] == version.items["_item"].take(expected.rows[0]).to_pylist()
    assert said["display"][0]["item"] == said["items"][0]
    assert (said["version"], said["item"]) == (version.id, "i04")
    odd = client.post("/v1/similar", json={"item": "i04", "k": 12, "allow": {"kind": "odd"}}).json()
    assert set(odd["items"]) == {"i01", "i03", "i05", "i07", "i09", "i11"}


def mixed_bodies(seed: int, count: int) -> list[dict]:
    """Bodies of all sorts: options that differ, several queries, filters."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        some = [
            {"user": str(rng.choice(["anna", "ben", "who"])), "when_hour": 5},
            {"history": [f"i{n:02d}" for n in rng.integers(0, 12, rng.integers(1, 5))]},
            {"place": float(rng.integers(0, 12)) + 0.2},
        ]
        some[2]["deny"] = {"kind": str(rng.choice(["odd", "even"]))}
        queries = [some[n] for n in rng.integers(0, 3, rng.integers(1, 4))]
        body = {"queries": queries} if len(queries) > 1 else {"query": queries[0]}
        options = {"k": int(rng.choice([1, 5, 20])), "exclude_seen": bool(rng.integers(2))}
        source = [None, "two_tower", "popular"][rng.integers(3)]
        found.append(body | options | ({"source": source} if source else {}))
    return found


def assert_same(one: dict, other: dict) -> None:
    """Equal, but for the last digit of scores and the order of items that tie."""
    lists = [said.pop("results", [said]) for said in (one, other)]
    for a, b in zip(*lists, strict=True):
        scores = [a.pop("scores"), b.pop("scores")]
        np.testing.assert_allclose(*scores, atol=1e-6)
        by_item = [
            dict(zip(said.pop("items"), its, strict=True))
            for said, its in zip((a, b), scores, strict=True)
        ]
        differ = by_item[0].keys() ^ by_item[1].keys()
        assert all(
            abs((by_item[0] | by_item[1])[item] - scores[0][-1]) < 1e-6 for item in differ
        ), "a tie at the end"
        assert all(
            abs(by_item[0][item] - by_item[1][item]) < 1e-6 for item in by_item[0].keys() - differ
        )
        assert a == b
    assert one == other


def test_an_answer_does_not_depend_on_who_else_asks(version):
    requests = Requests(version.pipeline)
    parser = BodyParser(requests.model, FAST)
    asked = [parser.recommend(body) for body in mixed_bodies(0, 40)]
    together = answer_bodies.answer_batch(version, requests, asked, Metrics())
    for one, value in zip(asked, together, strict=True):
        alone = answer_bodies.answer_batch(version, requests, [one], Metrics())[0]
        assert_same(orjson.loads(value), orjson.loads(alone))


def test_many_at_once_each_get_their_own(client):
    wanted = mixed_bodies(1, 60)
    alone = [ask(client, body) for body in wanted]
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda body: ask(client, body), wanted))
    for one, other in zip(together, alone, strict=True):
        assert_same(one, other)


def test_a_time_is_now(client, home, monkeypatch):
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2024, 1, 3, 7, tzinfo=tz)

    monkeypatch.setattr("serving.answers.recommend.datetime", Clock)
    assert ask(client, {"query": {}, "k": 1, "source": "two_tower"})["items"] == ["i07"]


def test_rules_of_the_pipeline_file_and_of_a_body(towers, tmp_path):
    """anna had i05, i04 and i03."""
    lists = ListsConfig(new_share=1.0, caps={"kind": 2})
    pipeline = shop(tmp_path).model_copy(update={"lists": lists})
    circle.publish(pipeline, towers, tmp_path / "staged", nominators={})
    with answering(pipeline) as client:
        anna = {"query": {"user": "anna"}, "k": 6}
        ruled = ask(client, anna)
        assert len(ruled["items"]) == 4 and not {"i03", "i04", "i05"} & set(ruled["items"])
        assert ruled["notes"] == [
            "4 items instead of 6: the rest was seen or excluded, or is over a cap (kind 2)"
        ]
        plain = ask(client, anna | {"rules": False})
        assert plain["items"][0] == "i05" and "sources" not in plain and "notes" not in plain
        assert ask(client, anna | {"new_share": 0})["items"][0] == "i05"
        no_two = ask(client, {"queries": [{}, {"user": "anna"}], "k": 12})["results"]
        assert no_two[0]["source"] == "popular" and len(no_two[0]["items"]) == 4, "it stands in"
        past = ask(client, anna | {"source": "history"})
        assert past["items"][:3] == ["i05", "i03", "i04"] and len(past["items"]) == 6


@pytest.fixture(scope="module")
def in_parts(client, home):
    """The same versions behind a server whose batches are so small that requests have parts."""
    settings = replace(FAST, max_batch=4)
    with answering(load(home / "circle.toml"), settings) as asking:
        yield asking


def test_lists_made_part_by_part_are_those_of_each_query_alone(client, in_parts):
    queries = [
        {"history": [f"i{n % 12:02d}"], "when_hour": 5}
        | ({"deny": {"size": n % 2}} if n % 3 else {})
        for n in range(20)
    ]
    for options in ({"k": 5}, {"k": 100, "display": True, "source": "popular"}):
        found = ask(in_parts, {"queries": queries, **options})
        assert found["version"] == client.get("/v1/version").json()["version"]
        assert len(found["results"]) == len(queries)
        for query, result in zip(queries, found["results"], strict=True):
            alone = ask(client, {"query": query, **options})
            assert_same({"version": found["version"], **result}, alone)
    queries[17] = {"deny": {"size": "x"}}
    refused = in_parts.post("/v1/recommend", json={"queries": queries})
    assert refused.status_code == 422
    assert refused.json()["error"]["where"] == "queries[17]"


def test_nothing_is_computed_for_a_client_that_left(in_parts, monkeypatch):
    calls = []
    real = answer_bodies.recommend

    def slow(*args, **options):
        calls.append(args)
        time.sleep(0.1)
        return real(*args, **options)

    monkeypatch.setattr(answer_bodies, "recommend", slow)
    queries = [{"deny": {"size": n}} for n in range(20)]
    with pytest.raises(httpx.ReadTimeout):
        in_parts.post("/v1/recommend", json={"queries": queries}, timeout=0.35)
    until(lambda: "twinspire_pending_queries 0.0" in in_parts.get("/metrics").text)
    assert 1 <= len(calls) < 10
    counted = 'twinspire_requests_total{path="/v1/recommend",status="499"} 1.0'
    assert counted in in_parts.get("/metrics").text
    assert ask(in_parts, {"query": {}, "k": 3})["items"]


def test_a_query_that_is_refused_costs_the_others_one_call(version, monkeypatch):
    requests = Requests(version.pipeline)
    parser = BodyParser(requests.model, FAST)
    wanted = [{"query": {"place": n / 2}} for n in range(20)]
    wanted[3] = {"queries": [{"place": 1}, {"place": 3e38}]}
    wanted[11] = {"query": {"place": 3e38}}
    calls = []
    real = answer_bodies.recommend
    monkeypatch.setattr(
        answer_bodies, "recommend", lambda *a, **o: calls.append(a) or real(*a, **o)
    )
    asked = [parser.recommend(body) for body in wanted]
    actual = answer_bodies.answer_batch(version, requests, asked, Metrics())
    assert len(calls) == 3
    assert [n for n, one in enumerate(actual) if isinstance(one, Exception)] == [3, 11]
    assert actual[3].detail["where"] == "queries[1]"
    assert actual[11].detail["where"] == "query"
    assert orjson.loads(actual[12])["items"][0] == "i06"
