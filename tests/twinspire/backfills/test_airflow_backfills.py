import json
from datetime import date
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import httpx
import pytest
from typer.testing import CliRunner

from tests.twinspire.cli.test_day_steps import FILE
from twinspire.backfills import airflow_backfills, airflow_rest
from twinspire.backfills.airflow_backfills import start_backfill
from twinspire.backfills.airflow_rest import AirflowRest, on_sqlite, readable_errors
from twinspire.cli.main import app
from twinspire_core.errors import TryAgain, UsageError

BERLIN = ZoneInfo("Europe/Berlin")
ASKED = {"first": date(2024, 5, 1), "last": date(2024, 5, 3), "zone": BERLIN}


class Airflow:
    """Answers requests for backfills as these functions say.

    Attributes:
      answers: what the next requests to create a backfill get; the last one stays.
    """

    def __init__(self, *answers):
        self.answers = [*answers]
        self.asked = 0
        self.health = "healthy"

    def answer(self, request):
        path = request.url.path.removeprefix("/api/v2/")
        match request.method, path:
            case "POST", "backfills":
                assert json.loads(request.content)["from_date"] == "2024-05-01T00:00:00+02:00"
                self.asked += 1
                reply = self.answers[0]
                self.answers = self.answers[1:] or self.answers
                return reply(request)
            case "GET", "monitor/health":
                health = {"metadatabase": "healthy", "dag_processor": "healthy"}
                health["scheduler"] = self.health
                return httpx.Response(200, json={k: {"status": v} for k, v in health.items()})


def created(request):
    """Airflow makes the backfill, and says so."""
    return httpx.Response(200, json={"id": 1})


def too_late(request):
    """Its answer does not come in time."""
    raise httpx.ReadTimeout("timed out", request=request)


def locked(request):
    """SQLite is locked, and Airflow has deleted again what it had made."""
    return httpx.Response(503, json={"detail": "Database is locked."})


def conflict(request):
    """It has another backfill."""
    return httpx.Response(409, json={"detail": "There is already a running backfill"})


@pytest.fixture
def client_of(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(airflow_rest, "monotonic", lambda: clock[0])

    def sleep(seconds):
        clock[0] += seconds

    monkeypatch.setattr(airflow_rest, "sleep", sleep)

    def client(answer, **login) -> AirflowRest:
        rest = AirflowRest("http://airflow", **(login or {"token": "secret"}))
        transport = httpx.MockTransport(answer)
        access = {"headers": rest._http.headers, "base_url": rest.url}
        rest._http = httpx.Client(transport=transport, **access)
        return rest

    return client


def test_a_locked_database_is_asked_again_for_the_backfill(client_of):
    airflow = Airflow(locked, locked, created)
    assert start_backfill(client_of(airflow.answer), "shop", **ASKED) == 1
    assert airflow.asked == 3


def test_a_database_that_stays_locked_is_reported(client_of):
    airflow = Airflow(locked)
    rest = client_of(airflow.answer)
    with pytest.raises(TryAgain, match="Database is locked"), readable_errors(rest):
        start_backfill(rest, "shop", **ASKED)
    assert airflow.asked == 181, "once a second, for three minutes"


def test_a_backfill_that_was_not_made_in_time_is_not_asked_for_twice(client_of):
    airflow = Airflow(too_late)
    rest = client_of(airflow.answer)
    with (
        pytest.raises(TryAgain, match=r"POST /api/v2/backfills in time\. It may still carry out"),
        readable_errors(rest),
    ):
        start_backfill(rest, "shop", **ASKED)
    assert airflow.asked == 1


def test_a_backfill_of_other_days_is_left_alone(client_of):
    airflow = Airflow(conflict)
    with pytest.raises(httpx.HTTPStatusError, match="already a running backfill"):
        start_backfill(client_of(airflow.answer), "shop", **ASKED)
    assert airflow.asked == 1


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
    airflow, looks = Airflow(), []
    with pytest.raises(TryAgain, match=r"for 60 s.*unhealthy: scheduler"):
        for _ in client_of(airflow.answer).poll(lambda: looks.append(airflow.health)):
            # Sick for a while, well again, and then sick for good.
            airflow.health = "healthy" if len(looks) == 25 else "unhealthy"
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


def test_a_time_out_is_a_message(client_of):
    def answer(request):
        raise httpx.ReadTimeout("", request=request)

    rest = client_of(answer)
    with (
        pytest.raises(TryAgain, match="has not answered GET /api/v2/version in time"),
        readable_errors(rest),
    ):
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

    rest = client_of(answer, user=login.get("user", ""), password=login.get("password", ""))
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


def test_a_dag_is_unpaused_after_its_backfill_is_created(monkeypatch, tmp_path):
    """Its scheduler must not see runs that are half made."""
    file = tmp_path / "shop.toml"
    file.write_text(FILE.format(tmp_path))
    planned = SimpleNamespace(dag="shop", days=[ASKED["first"]], left_out={}, active=None)
    order = []
    monkeypatch.setattr(airflow_backfills, "plan_backfill", lambda *_, **__: planned)
    monkeypatch.setattr(airflow_backfills, "start", lambda *_: order.append("create") or 7)
    monkeypatch.setattr(AirflowRest, "unpause", lambda *_: order.append("unpause"))
    typed = ["backfill", str(file), "--from", "2024-05-01", "--to", "2024-05-01", "--unpause"]
    done = CliRunner().invoke(app, typed)
    assert done.exit_code == 0, done.output
    assert order == ["create", "unpause"]
