import json
from datetime import date
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import httpx
import pytest
from typer.testing import CliRunner

from twinspire.backfills import airflow_backfills, airflow_rest
from twinspire.backfills.airflow_backfills import start_backfill
from twinspire.backfills.airflow_rest import AirflowRest, on_sqlite, readable_errors
from twinspire.cli.main import app
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
        access = {"headers": rest._http.headers, "base_url": rest.url}
        rest._http = httpx.Client(transport=httpx.MockTransport(answer), **access)
        return rest

    return client


class ReadTimeout:
    """Stands for an answer that does not come in time."""


CREATED = httpx.Response(200, json={"id": 1})
LOCKED = httpx.Response(503, json={"detail": "Database is locked."})
CONFLICT = httpx.Response(409, json={"detail": "There is already a running backfill"})
IN_VAIN = r"POST /api/v2/backfills in time\. It may still carry out"


@pytest.mark.parametrize(
    ("answers", "error", "message", "requests"),
    [
        ([LOCKED, LOCKED, CREATED], None, "", 3),
        ([LOCKED], TryAgain, "Database is locked", 181),  # once a second, for three minutes
        ([ReadTimeout], TryAgain, IN_VAIN, 1),
        ([CONFLICT], UsageError, "already a running backfill", 1),
    ],
)
def test_only_what_made_no_backfill_is_requested_again(
    client_of, answers, error, message, requests
):
    """The last of the answers stays."""
    sent = []

    def answer(request):
        assert json.loads(request.content)["from_date"] == "2024-05-01T00:00:00+02:00"
        reply = answers[min(len(sent), len(answers) - 1)]
        sent.append(request)
        if reply is ReadTimeout:
            raise httpx.ReadTimeout("timed out", request=request)
        return httpx.Response(reply.status_code, content=reply.content)

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
        matched = request.url.params["dag_id_pattern"] in matches
        return httpx.Response(200, json={"dags": [], "total_entries": int(matched)})

    assert on_sqlite(client_of(answer), "shop") is expected


def test_waiting_ends_when_a_part_has_not_worked_for_a_minute(client_of):
    looks = []

    def answer(request):
        # Sick for a while, well again, and then sick for good.
        state = "healthy" if len(looks) in (0, 25) else "unhealthy"
        states = {"metadatabase": "healthy", "dag_processor": "healthy", "scheduler": state}
        return httpx.Response(200, json={part: {"status": s} for part, s in states.items()})

    with pytest.raises(TryAgain, match=r"for 60 s.*unhealthy: scheduler"):
        for _ in client_of(answer).poll(lambda: looks.append(1)):
            pass
    assert len(looks) > 50


def test_a_server_that_has_answered_is_asked_for_a_minute_when_it_stops(client_of):
    answers = iter([True, False, False, True])

    def answer(request):
        if not next(answers, False):
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json={})

    rest = client_of(answer)
    rest.call("GET", "version")
    rest.call("GET", "version")
    with pytest.raises(TryAgain, match=r"does not answer at .*refused"), readable_errors(rest):
        rest.call("GET", "version")


@pytest.mark.parametrize("login", [{"user": "anna", "password": "secret"}, {}])
def test_a_token_that_has_ended_is_exchanged_once(client_of, login):
    """{} is an Airflow that asks nobody for a login."""
    valid, logins = set(), []

    def answer(request):
        if request.url.path == "/auth/token":
            logins.append(json.loads(request.content or "{}"))
            token = f"token {len(logins)}"
            if len(logins) < 3:
                valid.add(f"Bearer {token}")
            return httpx.Response(201, json={"access_token": token})
        status = 200 if request.headers["authorization"] in valid else 401
        return httpx.Response(status, json={})

    rest = client_of(answer, **{"user": "", **login})
    rest.call("POST", "backfills")
    valid.clear()
    rest.call("POST", "backfills")
    rest.call("GET", "backfills")
    assert logins == [{"username": "anna", "password": "secret"} if login else {}] * 2
    valid.clear()
    with pytest.raises(UsageError, match="needs a login"), readable_errors(rest):
        rest.call("GET", "backfills")
    assert len(logins) == 3, "the new token is refused as well"


def test_a_token_that_was_given_is_exchanged_for_no_other(client_of):
    rest = client_of(lambda request: httpx.Response(401 if "api" in request.url.path else 500))
    with pytest.raises(UsageError, match="needs a login"), readable_errors(rest):
        rest.call("GET", "version")


def test_a_dag_is_unpaused_after_its_backfill_is_created(monkeypatch, shop_file):
    """Its scheduler must not see runs that are half made."""
    planned = SimpleNamespace(dag="shop", days=[DAYS["first"]], left_out={}, active=None)
    order = []
    monkeypatch.setattr(airflow_backfills, "plan_backfill", lambda *_, **__: planned)
    monkeypatch.setattr(airflow_backfills, "start", lambda *_: order.append("create") or 7)
    monkeypatch.setattr(AirflowRest, "unpause", lambda *_: order.append("unpause"))
    typed = ["backfill", str(shop_file), "--from", "2024-05-01", "--to", "2024-05-01", "--unpause"]
    done = CliRunner().invoke(app, typed)
    assert done.exit_code == 0, done.output
    assert order == ["create", "unpause"]
