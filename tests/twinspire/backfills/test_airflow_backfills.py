import json
from contextlib import nullcontext
from datetime import date
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from threading import Thread
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qs, urlsplit
from zoneinfo import ZoneInfo

import pytest
from airflow_client.client.api.version_api import VersionApi
from urllib3 import HTTPResponse
from urllib3.exceptions import ProtocolError, ReadTimeoutError

from twinspire.backfills import airflow_backfills, airflow_rest
from twinspire.backfills.airflow_backfills import start_backfill
from twinspire.backfills.airflow_rest import AirflowRest, on_sqlite, readable_errors
from twinspire_core.config.pipeline import load
from twinspire_core.errors import TryAgain, UsageError

DAYS = {"first": date(2024, 5, 1), "last": date(2024, 5, 3), "zone": ZoneInfo("Europe/Berlin")}


@pytest.fixture
def client_of(monkeypatch):
    """A client whose requests a function answers; its clock moves only while it sleeps."""
    clock = [0.0]
    monkeypatch.setattr(airflow_rest, "monotonic", lambda: clock[0])
    monkeypatch.setattr(airflow_rest, "sleep", lambda s: clock.__setitem__(0, clock[0] + s))

    def client(answer, **login) -> AirflowRest:
        rest = AirflowRest("http://airflow", **(login or {"token": "secret"}))

        def request(method, url, *, body=None, headers=None, **_):
            status, content = answer(Request(method, urlsplit(url), body, headers))
            content = BytesIO(json.dumps(content).encode())
            kind = {"content-type": "application/json"}
            return HTTPResponse(content, kind, status, preload_content=False)

        monkeypatch.setattr(rest.rest_client.pool_manager, "request", request)
        return rest

    return client


class Request(NamedTuple):
    """What Airflow's client gives to its transport."""

    method: str
    url: SplitResult
    body: str | None
    headers: dict


AT = "2024-05-01T00:00:00Z"
CREATED = (
    200,
    {
        **dict.fromkeys(("created_at", "from_date", "to_date", "updated_at"), AT),
        "id": 1,
        "dag_id": "shop",
        "dag_display_name": "shop",
        "dag_run_conf": {},
        "is_paused": False,
        "max_active_runs": 1,
        "reprocess_behavior": "none",
    },
)
LOCKED = 503, {"detail": "Database is locked."}
CONFLICT = 409, {"detail": "There is already a running backfill"}
IN_VAIN = r"has not answered in time\. It may still carry out"
LATE = ReadTimeoutError(None, "/backfills", "timed out")
REFUSED = ProtocolError("refused")
VERSION = {"version": "3.3.2", "git_version": None}


def ask(rest):
    """A request that may be repeated."""
    return VersionApi(rest).get_version()


@pytest.mark.parametrize(
    ("answers", "error", "message", "requests"),
    [
        ([LOCKED, LOCKED, CREATED], None, "", 3),
        ([LOCKED], TryAgain, "Database is locked", 181),  # once a second, for three minutes
        ([LATE], TryAgain, IN_VAIN, 1),
        ([CONFLICT], UsageError, "already a running backfill", 1),
    ],
)
def test_only_what_made_no_backfill_is_requested_again(
    client_of, answers, error, message, requests
):
    """The last of the answers stays."""
    sent = []

    def answer(request):
        assert json.loads(request.body)["from_date"] == "2024-05-01T00:00:00+02:00"
        reply = answers[min(len(sent), len(answers) - 1)]
        sent.append(request)
        if reply is LATE:
            raise LATE
        return reply

    rest = client_of(answer)
    if error:
        with pytest.raises(error, match=message), readable_errors(rest):
            start_backfill(rest, "shop", **DAYS)
    else:
        assert start_backfill(rest, "shop", **DAYS) == 1
    assert len(sent) == requests


@pytest.mark.parametrize(
    ("matches", "expected"),
    [({"_hop"}, True), ({"_hop", "\\shop"}, False), (set(), False)],
    ids=["sqlite", "postgresql", "an Airflow whose search has no wildcards"],
)
def test_the_database_is_recognised_by_the_matches_of_a_search(client_of, matches, expected):
    def answer(request):
        [pattern] = parse_qs(request.url.query)["dag_id_pattern"]
        return 200, {"dags": [], "total_entries": int(pattern in matches)}

    assert on_sqlite(client_of(answer), "shop") is expected


def test_waiting_ends_when_a_part_has_not_worked_for_a_minute(client_of):
    looks = []

    def answer(request):
        # Sick for a while, well again, and then sick for good.
        state = "healthy" if len(looks) in (0, 25) else "unhealthy"
        states = {"metadatabase": "healthy", "dag_processor": "healthy", "scheduler": state}
        return 200, {part: {"status": s} for part, s in states.items()}

    with pytest.raises(TryAgain, match=r"for 60 s.*unhealthy: scheduler"):
        for _ in client_of(answer).poll(lambda: looks.append(1)):
            pass
    assert len(looks) > 50


def test_a_server_that_has_answered_is_asked_for_a_minute_when_it_stops(client_of):
    answers = iter([True, False, False, True])

    def answer(request):
        if not next(answers, False):
            raise REFUSED
        return 200, VERSION

    rest = client_of(answer)
    ask(rest)
    ask(rest)
    with pytest.raises(TryAgain, match=r"does not answer at .*refused"), readable_errors(rest):
        ask(rest)


@pytest.mark.parametrize("login", [{"user": "anna", "password": "secret"}, {}])
def test_a_token_that_has_ended_is_exchanged_once(client_of, login):
    """{} is an Airflow that asks nobody for a login."""
    valid, logins = set(), []

    def answer(request):
        if request.url.path == "/auth/token":
            logins.append(json.loads(request.body or "{}"))
            token = f"token {len(logins)}"
            if len(logins) < 3:
                valid.add(f"Bearer {token}")
            return 201, {"access_token": token}
        return (200, VERSION) if request.headers["Authorization"] in valid else (401, {})

    rest = client_of(answer, **{"user": "", **login})
    ask(rest)
    valid.clear()
    ask(rest)
    ask(rest)
    assert logins == [{"username": "anna", "password": "secret"} if login else {}] * 2
    valid.clear()
    with pytest.raises(UsageError, match="needs a login"), readable_errors(rest):
        ask(rest)
    assert len(logins) == 3, "the new token is refused as well"


def test_a_token_that_was_given_is_exchanged_for_no_other(client_of):
    rest = client_of(lambda request: (401 if "api" in request.url.path else 500, {}))
    with pytest.raises(UsageError, match="needs a login"), readable_errors(rest):
        ask(rest)


@pytest.mark.parametrize("login", [{"user": "anna", "password": "secret"}, {"token": "secret"}])
def test_a_server_that_is_no_airflow_is_named(login):
    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<html></html>")

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        rest = AirflowRest(f"http://127.0.0.1:{server.server_port}", **login)
        with pytest.raises(UsageError, match="not as Airflow does"), readable_errors(rest):
            rest.is_paused("shop")
        server.shutdown()


@pytest.mark.parametrize(
    ("paused", "sqlite", "order"),
    [
        (True, True, ["create", "unpause"]),
        (False, True, ["pause", "create", "unpause"]),
        (False, False, ["create", "unpause"]),
    ],
)
@pytest.mark.parametrize("fails", [False, True])
def test_a_dag_is_unpaused_after_its_backfill_is_created(
    monkeypatch, shop_file, paused, sqlite, order, fails
):
    """On SQLite, its scheduler must not see runs that are half made."""
    actual = []

    def create(*_, **__):
        actual.append("create")
        if fails:
            raise TryAgain("Airflow does not answer.")
        return 7

    class Rest:
        url = "http://127.0.0.1"

        def unpause(self, dag, *, paused=False):
            actual.append("pause" if paused else "unpause")

    plan = airflow_backfills.BackfillPlan(
        dag="shop",
        first=date(2024, 5, 1),
        last=date(2024, 5, 1),
        again="none",
        conf={},
        days=[date(2024, 5, 1)],
        left_out={},
        paused=paused,
        active=None,
    )
    monkeypatch.setattr(airflow_backfills, "start_backfill", create)
    monkeypatch.setattr(airflow_backfills, "on_sqlite", lambda *_: sqlite)
    p = load(shop_file)
    if sqlite and not paused:
        with pytest.raises(UsageError, match="--unpause"):
            airflow_backfills.start(Rest(), p, plan)
    with pytest.raises(TryAgain) if fails else nullcontext():
        assert airflow_backfills.start(Rest(), p, plan, unpause=True) == 7
    # After an error, the DAG is as it was
    assert actual == (order[:-1] if fails and paused else order)
