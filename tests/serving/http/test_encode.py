"""`/v1/encode` gives the vectors of the exported query tower, called here as TensorFlow alone would."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tests.serving import conftest as circle
from tests.serving.http.conftest import FAST, answering, shop

STORED = {"anna": ["i03", "i05"], "ben": []}


@pytest.fixture(scope="module")
def tower(towers):
    loaded = tf.saved_model.load(str(towers / "query_tower"))

    def vector(query: dict) -> np.ndarray:
        user = query.get("user")
        recent = query.get("history", STORED.get(user, []))[-3:]
        place = query.get("place", 9.0 if user == "ben" else np.nan)
        call = loaded.signatures["serving_default"](
            user=tf.constant([user or ""]),
            recent=tf.constant([recent or [""]]),
            place=tf.constant([place], tf.float32),
            when_hour=tf.constant([query.get("when_hour", 0)], tf.int64),
            when_weekday=tf.constant([0], tf.int64),
        )
        return call["vector"].numpy()[0]

    return vector


def encode(client, body: dict) -> dict:
    response = client.post("/v1/encode", json=body)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize(
    ("query", "known", "based_on"),
    [
        ({"user": "anna"}, True, "stored_user"),
        ({"user": "ben"}, True, "stored_user"),
        ({"user": "anna", "history": ["i02", "i07"], "deny": {"kind": "odd"}}, True, "stored_user"),
        ({"history": ["i01", "i02", "i03", "i04"], "exclude": ["i04"]}, False, "history"),
        ({"user": "who", "place": 3.2}, False, "features"),
        ({"when_hour": 7}, False, "nothing"),
    ],
)
def test_the_vector_is_the_towers(client, tower, query, known, based_on):
    answer = encode(client, {"query": query})
    np.testing.assert_allclose(answer.pop("vector"), tower(query), atol=1e-6)
    version = client.get("/v1/version").json()["version"]
    facts = {"user": query.get("user"), "known": known, "based_on": based_on}
    assert answer == facts | {"version": version, "towers": version}


def test_several_are_encoded_together_part_by_part_too(client, home, tower):
    queries = [{"history": [f"i{n % 12:02d}"], "deny": {"size": n % 3}} for n in range(20)]
    vectors = [tower(query) for query in queries]
    with answering(shop(home), replace(FAST, max_batch=4, max_items=5)) as in_parts:
        for server in (client, in_parts):
            answer = encode(server, {"queries": queries})
            assert set(answer) == {"version", "towers", "results"}
            actual = [result["vector"] for result in answer["results"]]
            np.testing.assert_allclose(actual, vectors, atol=1e-6)


def test_a_refresh_has_the_towers_of_its_day(towers, tmp_path):
    pipeline = shop(tmp_path)
    day = circle.publish(pipeline, towers, tmp_path / "day")
    titles = [f"New {n}" for n in range(12)]
    refresh = circle.publish(pipeline, towers, tmp_path / "next", titles=titles, refreshes=day)
    with answering(pipeline) as client:
        answer = encode(client, {"query": {}})
    assert (answer["version"], answer["towers"]) == (refresh, day)


@pytest.mark.parametrize(
    ("body", "kind", "where"),
    [
        ({"query": {}, "k": 3}, "unknown_key", "k"),
        ({"query": {"histroy": []}}, "unknown_key", "query.histroy"),
        ({"queries": [{}, {"place": 3e38}]}, "out_of_range", "queries[1]"),
        ({"queries": [{}] * 21}, "out_of_range", "queries"),
        ({}, "missing", "query"),
    ],
)
def test_what_is_refused(client, body, kind, where):
    response = client.post("/v1/encode", json=body)
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["where"]) == (422, kind, where)
