import json
import re

import pytest

BIG = json.dumps({"query": {"history": ["i01"] * 5000}})
DEEP = "[" * 700 + "]" * 700  # nearly as deep as the reader of JSON goes


def error(response) -> dict:
    assert response.headers["content-type"] == "application/json"
    assert set(response.json()) == {"error"}
    assert re.search(r"[^.?\s][.?]$", response.json()["error"]["message"]), (
        "it ends as a sentence does"
    )
    return response.json()["error"]


@pytest.mark.parametrize(
    ("body", "status", "kind", "where", "said"),
    [
        ("", 400, "bad_json", None, "JSON object"),
        ("{", 400, "bad_json", None, "JSON object"),
        ("[1]", 400, "bad_json", None, "found [1]"),
        ("[" * 1010 + "]" * 1010, 400, "bad_json", None, "JSON object; found"),
        ("[" * 5000, 400, "bad_json", None, "cannot be read"),
        (b"\xff\xfe", 400, "bad_json", None, "UTF-8"),
        ('{"query": {"place": NaN}}', 400, "bad_json", None, "cannot be read"),
        ('{"query": {"place": 1e999}}', 400, "bad_json", None, "infinity"),
        ('{"query": {"user": "\\ud800"}}', 400, "bad_json", None, "surrogate"),
        ("{}", 422, "missing", "query", "may be empty: {}"),
        ('{"query": {}, "queries": [{}]}', 422, "given_twice", "query", "either"),
        ('{"queries": {}}', 422, "wrong_type", "queries", "list of objects"),
        ('{"queries": []}', 422, "out_of_range", "queries", "1 to 20 objects; found 0"),
        ('{"queries": [{}, {"place": "x"}]}', 422, "wrong_type", "queries[1].place", "found 'x'"),
        ('{"query": {"plaice": 1}}', 422, "unknown_key", "query.plaice", "did you mean 'place'"),
        ('{"query": {"place": 3e38}}', 422, "out_of_range", "query", "finite vectors"),
        ('{"query": {"allow": {"knd": "odd"}}}', 422, "unknown_key", "query.allow.knd", "'kind'?"),
        ('{"queries": [{}, {"deny": {"size": "x"}}]}', 422, "wrong_type", "queries[1]", "size"),
        ('{"query": {}, "kay": 1}', 422, "unknown_key", "kay", "not an option"),
        ('{"query": {}, "place": 1}', 422, "unknown_key", "place", 'put it into "query"'),
        ('{"query": {}, "k": 0}', 422, "out_of_range", "k", "from 1 to 100; found 0"),
        ('{"query": {}, "k": 101}', 422, "out_of_range", "k", "found 101"),
        ('{"query": {}, "k": 2.5}', 422, "wrong_type", "k", "whole number"),
        ('{"query": {}, "new_share": 1.5}', 422, "out_of_range", "new_share", "to 1; found 1.5"),
        ('{"query": {}, "new_shar": 0}', 422, "unknown_key", "new_shar", "mean 'new_share'?"),
        ('{"query": {}, "exclude_seen": 1}', 422, "wrong_type", "exclude_seen", "true or false"),
        ('{"query": {}, "source": "two_towers"}', 422, "out_of_range", "source", "one of"),
        ('{"query": {}, "source": "mix"}', 422, "out_of_range", "source", "found 'mix'"),
        ('{"query": {}, "source": "ranked"}', 409, "no_such_source", "source", "two_tower"),
        (BIG, 413, "body_too_large", None, "20,000 bytes"),
        ("DEEP", 400, "bad_json", None, "found [["),
        ('{"query": DEEP}', 422, "wrong_type", "query", "found [["),
        ('{"queries": [{}, DEEP]}', 422, "wrong_type", "queries[1]", "found [["),
        ('{"query": {"deny": {"size": DEEP}}}', 422, "wrong_type", "query.deny", "found [["),
    ],
)
def test_recommend(client, body, status, kind, where, said):
    content = body.replace("DEEP", DEEP) if isinstance(body, str) else body
    response = client.post("/v1/recommend", content=content)
    problem = error(response)
    assert (response.status_code, problem["type"], problem.get("where")) == (status, kind, where)
    assert said in problem["message"]


def test_the_nearest_name_is_a_separate_field(client):
    for body, near in (
        ({"query": {"histroy": []}}, "history"),
        ({"query": {}, "exclude_sen": True}, "exclude_seen"),
        ({"query": {}, "source": "popular_latly"}, "popular"),
        ({"query": {"deny": {"knd": "odd"}}}, "kind"),
    ):
        assert error(client.post("/v1/recommend", json=body))["did_you_mean"] == near
    problem = error(client.post("/v1/similar", json={"item": "i04", "allow": {"tgs": "two"}}))
    assert (problem["where"], problem["did_you_mean"]) == ("allow.tgs", "tags")


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({}, 422, "missing"),
        ({"item": "i4"}, 404, "unknown_item"),
        ({"item": 1.5}, 422, "wrong_type"),
        ({"item": "i04", "k": 0}, 422, "out_of_range"),
        ({"item": "i04", "history": []}, 422, "unknown_key"),
        ({"item": "i04", "allow": {"knd": "odd"}}, 422, "unknown_key"),
        ({"item": "i04", "deny": 3}, 422, "wrong_type"),
    ],
)
def test_similar(client, body, status, kind):
    response = client.post("/v1/similar", json=body)
    assert (response.status_code, error(response)["type"]) == (status, kind)


def test_a_body_of_unknown_length_is_cut_off_too(client):
    def parts():
        for _ in range(100):
            yield b" " * 1000

    response = client.post("/v1/recommend", content=parts())
    assert (response.status_code, error(response)["type"]) == (413, "body_too_large")


def test_paths_and_methods_that_there_are_not(client):
    assert (client.get("/v2").status_code, error(client.get("/v2"))["type"]) == (404, "not_found")
    response = client.get("/v1/recommend")
    assert (response.status_code, error(response)["type"]) == (405, "method_not_allowed")
    assert response.headers["allow"] == "POST"


def test_a_message_is_short_whatever_was_sent(client):
    for body in (
        {"query": {}, "k": ["x" * 9000]},
        {"query": {"place": {"y" * 9000: 1}}},
        {"query": {"z" * 9000: 1}},
    ):
        assert len(error(client.post("/v1/recommend", json=body))["message"]) < 300
    for body in (
        {"z" * 9000: 1},
        {"query": {"z" * 9000: 1}},
        {"query": {"allow": {"z" * 9000: 1}}},
        {"query": {"user": "y" * 9000, "place": "z" * 9000}},
    ):
        assert len(client.post("/v1/recommend", json=body).content) < 700
    assert len(client.post("/v1/similar", json={"item": "z" * 9000}).content) < 700
    assert len(client.get("/" + "z" * 9000).content) < 700


def test_a_fault_of_the_server_is_reported_without_internals(client, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("secret")

    monkeypatch.setattr("serving.http.answer_bodies.recommend", broken)
    response = client.post("/v1/recommend", json={"query": {}})
    assert (response.status_code, error(response)["type"]) == (500, "internal")
    assert "secret" not in response.text
    monkeypatch.undo()
    assert client.post("/v1/recommend", json={"query": {}}).status_code == 200
