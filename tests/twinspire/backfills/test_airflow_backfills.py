"""What is asked of an Airflow whose SQLite is locked for a moment."""

from datetime import date
from zoneinfo import ZoneInfo

import httpx
import pytest

from twinspire.backfills import airflow_rest
from twinspire.backfills.airflow_backfills import start_backfill
from twinspire.backfills.airflow_rest import AirflowRest

BODY = {"first": date(2024, 5, 1), "last": date(2024, 5, 3), "zone": ZoneInfo("Europe/Berlin")}
# As Airflow tells them: in UTC.
OWN_DAYS = ("2024-04-30T22:00:00Z", "2024-05-03T21:59:59Z")
OTHER_DAYS = ("2024-04-30T22:00:00Z", "2024-05-31T21:59:59Z")


class Airflow:
    """Finds its database locked while it makes the first backfill, of which a run stays; has one
    backfill at a time.

    Args:
      days: of the backfill that it has after that.
      ends: whether that has ended by the time that somebody cancels it.
    """

    def __init__(self, days=OWN_DAYS, *, ends=False):
        self.days = days
        self.ends = ends
        self.backfills = {}
        self.queued = []
        self.locked = False

    def answer(self, request):
        path = request.url.path.removeprefix("/api/v2/")
        match request.method, path:
            case "POST", "backfills":
                return self.create()
            case "GET", "backfills":
                return httpx.Response(200, json={"backfills": list(self.backfills.values())})
            case "GET", "dags/shop/dagRuns":
                assert request.url.params["logical_date_gte"] == "2024-05-01T00:00:00+02:00"
                found = [{"dag_run_id": run, "data_interval_start": None} for run in self.queued]
                return httpx.Response(200, json={"dag_runs": found, "total_entries": len(found)})
            case "DELETE", _:
                self.queued.remove(path.rpartition("/")[2])
                return httpx.Response(204)
            case "PUT", _:
                assert not self.queued, "these would be failed runs, and be left out"
                self.backfills[int(path.split("/")[1])]["completed_at"] = "now"
                return httpx.Response(409 if self.ends else 200, json={})

    def create(self):
        if self.locked:
            self.locked = False
            return httpx.Response(503, json={"detail": "Database is locked."})
        if any(one["completed_at"] is None for one in self.backfills.values()):
            return httpx.Response(409, json={"detail": "There is already a running backfill"})
        number = 1 + len(self.backfills)
        first, last = self.days if number == 1 else OWN_DAYS
        one = {"id": number, "from_date": first, "to_date": last, "completed_at": None}
        self.backfills[number] = one
        if number == 1:
            self.queued = ["first_day"]
            return httpx.Response(503, json={"detail": "Database is locked."})
        return httpx.Response(200, json={"id": number})


@pytest.fixture
def client_of(monkeypatch):
    monkeypatch.setattr(airflow_rest, "sleep", lambda seconds: None)

    def client(airflow) -> AirflowRest:
        rest = AirflowRest("http://airflow", token="told")
        transport = httpx.MockTransport(airflow.answer)
        rest._http = httpx.Client(
            transport=transport, headers=rest._http.headers, base_url=rest.url
        )
        return rest

    return client


@pytest.mark.parametrize("ends", [False, True])
def test_a_backfill_that_was_half_made_is_made_again(client_of, ends):
    airflow = Airflow(ends=ends)
    assert start_backfill(client_of(airflow), "shop", **BODY) == 2
    assert (airflow.backfills[2]["completed_at"], airflow.queued) == (None, [])


def test_a_backfill_of_somebody_else_stays(client_of):
    airflow = Airflow(OTHER_DAYS)
    with pytest.raises(httpx.HTTPStatusError, match="already a running backfill"):
        start_backfill(client_of(airflow), "shop", **BODY)
    assert (airflow.backfills[1]["completed_at"], airflow.queued) == (None, ["first_day"])


def test_a_backfill_that_was_active_before_stays(client_of):
    airflow = Airflow()
    airflow.create()
    airflow.locked = True
    with pytest.raises(httpx.HTTPStatusError, match="already a running backfill"):
        start_backfill(client_of(airflow), "shop", **BODY)
    assert (airflow.backfills[1]["completed_at"], airflow.queued) == (None, ["first_day"])
