"""The OpenAPI document follows from the pipeline file, and the server keeps to it."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest
from pydantic import TypeAdapter
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from serving.http import prometheus
from serving.inspector import templating
from serving.requests.request_model import RequestModel
from tests.serving.http.test_hot_swap import metric
from twinspire_core.config.pipeline import load

KEPT = [not_a_server_error, checks.status_code_conformance, checks.content_type_conformance]
KEPT += [checks.response_schema_conformance]


def test_a_query_holds_the_query_features_of_the_pipeline_file(tmp_path):
    (tmp_path / "p.toml").write_text("""
        pipeline = { name = "all", time_zone = "UTC" }
        source = { events = "events/dt={date}/", items = "items/dt={date}/" }
        columns = { user = "user", item = "item", time = "time" }
        [features]
        who = { kind = "id", tower = "query" }
        past = { kind = "history" }
        taste = { kind = "vector", tower = "query", size = 3 }
        tags = { kind = "categories", tower = "query", separator = "|" }
        device = { kind = "category", tower = "query" }
        said = { kind = "text", tower = "query" }
        age = { kind = "number", tower = "query" }
        at = { kind = "time" }
        item = { kind = "id", tower = "item" }
        price = { kind = "number", tower = "item" }
    """)
    found = TypeAdapter(RequestModel(load(tmp_path / "p.toml")).query_type).json_schema()[
        "properties"
    ]
    names = {"user", "history", "exclude", "who", "past", "taste", "tags", "device", "said", "age"}
    assert set(found) == names | {"at_hour", "at_weekday"}, (
        "no item features, no filters without attributes"
    )
    values = {name: one["anyOf"][0] for name, one in found.items() if "anyOf" in one}
    assert (values["taste"]["minItems"], values["taste"]["maxItems"]) == (3, 3)
    assert values["at_hour"]["maximum"] == 23
    assert {one["type"] for one in found["age"]["anyOf"]} == {"number", "null"}
    assert all(one["description"] for one in found.values())


def test_examples_of_the_document_are_answered(client):
    document = client.get("/openapi.json").json()
    for path, found in document["paths"].items():
        for operation in found.values():
            assert operation["summary"]
            assert operation["description"]
            body = operation.get("requestBody", {"content": {"application/json": {}}})
            examples = body["content"]["application/json"].get("examples", {})
            for example in examples.values():
                assert client.post(path, json=example["value"]).status_code in (200, 404), path


def test_the_page_for_people_needs_no_network_and_says_all(client):
    said = client.get("/docs").text
    assert all(word in said for word in ("/v1/recommend", "when_hour", "from 0 to 23", "bad_json"))
    assert "<script" not in said and "//cdn" not in said


def test_many_readers_share_the_home_page_and_the_metrics(client, monkeypatch):
    made = []

    def counted(name, real):
        return lambda *given: made.append(name) or real(*given)

    monkeypatch.setattr(templating, "home", counted("home", templating.home))
    monkeypatch.setattr(prometheus, "generate_latest", counted("text", generate_latest))
    client.get("/")  # waits for the first reading of the registry
    made.clear()
    with ThreadPoolExecutor(8) as pool:
        pages = {*pool.map(lambda _: client.get("/").text, range(64))}
    # A new reading of the registry gives a new page
    assert made.count("home") < 32 and len(pages) <= 1 + made.count("home")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: client.get("/metrics"), range(64)))
    assert made.count("text") < 32
    for _ in range(3):
        before = metric(client, "twinspire_unknown_users_total")
        client.post("/v1/recommend", json={"query": {"user": "nobody"}})
        assert metric(client, "twinspire_unknown_users_total") == before + 1, "never an old text"


def test_more_pages_than_may_wait_are_refused_and_requests_are_not(client, monkeypatch):
    monkeypatch.setattr("serving.app._MOST_WAITING", 3)
    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda _: client.get("/docs").status_code, range(48)))
    assert set(statuses) == {200, 503}
    assert client.get("/docs").status_code == client.get("/v1/version").status_code == 200


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("path", ["/v1/recommend", "/v1/encode", "/v1/similar"])
def test_what_the_document_allows_and_forbids(client, path, mode):
    document = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    document.config.update(base_url=str(client.base_url))
    operation = document[path]["POST"]
    other = refused if mode is schemathesis.GenerationMode.NEGATIVE else accepted

    @settings(
        max_examples=12,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def hold(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=[*KEPT, other])

    hold()


def refused(ctx, response, case) -> None:
    """What does not fit the document is bad input, or too much of it to be looked at.

    JSON's numbers just below the least are read as the least one.
    """
    rounded = re.search(r"-92233720368547[67]\d{4}", json.dumps(case.body, default=str))
    if response.status_code != 413 and not rounded:
        checks.negative_data_rejection(ctx, response, case)


def accepted(ctx, response, case) -> None:
    """What fits the document is answered, unless it is long or depends on the version: an item, a
    source, a type.

    Nor does the document know how large a number its towers put up with.
    """
    if response.status_code in (404, 409, 413):
        return
    if response.status_code == 422 and any(
        key in response.text
        for key in ("allow", "deny", "given_twice", "finite vectors", "items of a request")
    ):
        # Nor can it say that two names of one key have one value, or limit a product of two.
        return
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("path", ["/v1/recommend", "/v1/encode", "/v1/similar"])
def test_bodies_of_any_bytes_are_no_fault_of_the_server(client, path):
    @settings(max_examples=20, derandomize=True, deadline=None, database=None)
    @given(
        body=st.binary(max_size=60)
        | st.text(alphabet='{}[]":,query0123456789kNa. ', max_size=60).map(str.encode)
    )
    def hold(body: bytes) -> None:
        assert 400 <= client.post(path, content=body).status_code < 500

    hold()


def test_the_page_names_the_address_that_the_request_has(client):
    # More addresses than are kept, each twice and then all again
    for port in [*range(8000, 8020)] * 2:
        headers = {"host": f"localhost:{port}"}
        pages = [client.get("/docs", headers=headers) for _ in range(2)]
        assert pages[0].text == pages[1].text
        assert set(re.findall(r"http://localhost:\d+", pages[0].text)) == {
            f"http://localhost:{port}"
        }
    head = client.head("/openapi.json")
    assert (head.status_code, head.headers["content-type"]) == (200, "application/json")
