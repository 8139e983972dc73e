import base64

import pytest

from serving.app import create_app
from serving.http.server_settings import Settings
from tests.serving.http.conftest import running, shop

TOKEN = "correct horse é"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A server that asks for one of two tokens, and has no version."""
    settings = Settings(tokens=("another", TOKEN), poll=60)
    app = create_app(shop(tmp_path_factory.mktemp("guarded")), settings)
    with running(app) as asking:
        yield asking


def basic(user: str, password: str) -> bytes:
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())


@pytest.mark.parametrize(
    "path", ["/v1/version", "/metrics", "/docs", "/openapi.json", "/", "/nowhere"]
)
def test_everything_needs_the_token(guarded, path):
    refused = guarded.get(path)
    assert (refused.status_code, refused.json()["error"]["type"]) == (401, "unauthorized")
    assert refused.headers["www-authenticate"].startswith("Bearer")
    allowed = guarded.get(path, headers={"Authorization": b"Bearer " + TOKEN.encode()})
    assert allowed.status_code != 401


def test_but_health(guarded):
    assert guarded.get("/healthz").status_code == 200
    assert (guarded.head("/healthz").status_code, guarded.head("/healthz").content) == (200, b"")
    assert guarded.get("/readyz").status_code == guarded.head("/readyz").status_code == 503


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        (b"bearer  " + TOKEN.encode(), True),
        (b"Bearer another", True),
        (basic("", TOKEN), True),
        (basic("anybody", TOKEN), True),
        (basic(TOKEN, "x"), False),
        (b"Bearer " + TOKEN.encode()[:-1], False),
        (b"Bearer " + TOKEN.encode() + b"x", False),
        (b"Bearer", False),
        (b"Basic ?", False),
        (TOKEN.encode(), False),
        (b"Digest " + TOKEN.encode(), False),
    ],
)
def test_the_token_has_to_be_the_one(guarded, given, allowed):
    assert (
        guarded.get("/v1/version", headers={"Authorization": given}).status_code == 200
    ) == allowed


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A server that is called by names, and has no version."""
    settings = Settings(hosts=("localhost", "::1", "Shop.example"), poll=60)
    with running(create_app(shop(tmp_path_factory.mktemp("named")), settings)) as asking:
        yield asking


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True),
        ("LOCALHOST:8000", True),
        ("[::1]:8000", True),
        ("shop.example", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("evil.example:localhost", False),
        ("localhost:80:80", False),
        ("localhost@evil.example", False),
        ("", False),
    ],
)
def test_a_name_that_is_not_the_servers_is_refused(named, host, allowed):
    for path in ("/v1/version", "/metrics", "/openapi.json"):
        response = named.get(path, headers={"Host": host})
        assert response.status_code == (200 if allowed else 421)
    assert allowed or response.json()["error"]["type"] == "wrong_host"
    assert named.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 503),
        ({"Sec-Fetch-Site": "none"}, 503),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://behind.a.proxy"}, 503),
        ({"Origin": "http://shop.example", "Host": "shop.example"}, 503),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Content-Type": "application/json; charset=utf-8"}, 503),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 503),  # curl -d
        ({"Content-Type": "text/plain;charset=UTF-8"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
    ],
)
def test_a_page_of_another_origin_is_not_answered(named, headers, status):
    given = {"Host": "localhost", **headers}
    for path, content in (("recommend", b'{"query": {}}'), ("similar", b'{"item": "x"}')):
        response = named.post(f"/v1/{path}", content=content, headers=given)
        assert response.status_code == status, response.text


def test_every_answer_is_kept_by_nobody_and_is_what_it_says(client, guarded):
    answers = [client.get(path) for path in ("/healthz", "/v1/version", "/metrics", "/", "/docs")]
    answers += [client.post("/v1/recommend", content=body) for body in (b'{"query": {}}', b"{")]
    answers += [client.get("/nowhere"), guarded.get("/v1/version")]
    for answer in answers:
        assert answer.headers.get_list("cache-control") == ["no-store"]
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"]


def test_a_slash_at_the_end_leads_nowhere(client):
    for path in ("/v1/version/", "/docs/", "/v1/recommend/"):
        response = client.get(path, headers={"Host": "evil.example"})
        assert response.status_code == 404
        assert "location" not in response.headers


def test_paths_and_hosts_add_no_metrics(client):
    for host in ("x/y?z", "a/b#c", "[", "x:99999999"):
        client.get("/?k=0", headers={"Host": host})
        client.get("/report?version=x", headers={"Host": host})
        client.post("/v1/recommend", content=b"{", headers={"Host": host})
    lines = client.get("/metrics").text.splitlines()
    paths = {line.split('path="')[1].split('"')[0] for line in lines if 'path="' in line}
    asked = {"/", "/report", "/v1/recommend", "/v1/similar", "/v1/version"}
    assert paths <= asked | {"/healthz", "/readyz", "/metrics", "/docs", "/openapi.json", "other"}


def test_what_is_counted(client):
    def count(line: str) -> float:
        lines = client.get("/metrics").text.splitlines()
        return sum(float(one.rsplit(" ", 1)[1]) for one in lines if one.startswith(line))

    path = 'path="/v1/recommend"'
    grows = {
        f'twinspire_requests_total{{{path},status="200"}}': 1,
        f'twinspire_requests_total{{{path},status="422"}}': 1,
        f'twinspire_errors_total{{{path},type="unknown_key"}}': 1,
        'twinspire_requests_total{path="other",status="404"}': 1,
        f"twinspire_request_seconds_count{{{path}}}": 2,
        "twinspire_batch_queries_sum": 3,
        "twinspire_unknown_users_total": 1,
        "twinspire_short_lists_total": 3,
    }
    before = {name: count(name) for name in grows}
    client.post("/v1/recommend", json={"queries": [{"user": "who"}, {"user": "anna"}, {}], "k": 50})
    client.post("/v1/recommend", json={"query": {"plaice": 1}})
    client.get("/nowhere/at/all")
    assert {name: count(name) - old for name, old in before.items()} == grows
    assert count("twinspire_live_version{") == 1
    assert count("twinspire_pending_queries") == 0
