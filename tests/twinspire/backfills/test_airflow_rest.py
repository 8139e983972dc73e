"""What is asked of an Airflow whose SQLite is locked for a moment."""

from datetime import date
from zoneinfo import ZoneInfo

import httpx
import pytest

from twinspire.backfills import airflow_rest
from twinspire.backfills.airflow_rest import AirflowRest

BODY = {"first": date(2024, 5, 1), "last": date(2024, 5, 3), "zone": ZoneInfo("UTC")}


class Airflow:
    """Finds its database locked while it makes the first backfill, of which a run stays; has one
    backfill at a time.
    """

    def __init__(self, *, cleared_up: bool):
        self.cleared_up = cleared_up
        self.backfills = {}
        self.queued = []

    def answer(self, request):
        path = request.url.path.removeprefix("/api/v2/")
        match request.method, path:
            case "POST", "backfills":
                return self.create()
            case "GET", "backfills":
                found = [{"id": n, "completed_at": end} for n, end in self.backfills.items()]
                return httpx.Response(200, json={"backfills": found})
            case "GET", "dags/shop/dagRuns":
                found = [{"dag_run_id": run, "data_interval_start": None} for run in self.queued]
                return httpx.Response(200, json={"dag_runs": found, "total_entries": len(found)})
            case "DELETE", _:
                self.queued.remove(path.rpartition("/")[2])
                return httpx.Response(204)
            case "PUT", _:
                assert not self.queued, "these would be failed runs, and be left out"
                self.backfills[int(path.split("/")[1])] = "now"
                return httpx.Response(200, json={})

    def create(self):
        if None in self.backfills.values():
            return httpx.Response(409, json={"detail": "There is already a running backfill"})
        number = 1 + len(self.backfills)
        if number == 1:
            self.backfills[number] = "gone" if self.cleared_up else None
            self.queued = [] if self.cleared_up else ["first_day"]
            return httpx.Response(503, json={"detail": "Database is locked."})
        self.backfills[number] = None
        return httpx.Response(200, json={"id": number})


@pytest.mark.parametrize("cleared_up", [True, False])
def test_a_backfill_that_was_half_made_is_made_again(monkeypatch, cleared_up):
    monkeypatch.setattr(airflow_rest, "sleep", lambda seconds: None)
    airflow = Airflow(cleared_up=cleared_up)
    rest = AirflowRest("http://airflow", token="told")
    transport = httpx.MockTransport(airflow.answer)
    rest._http = httpx.Client(transport=transport, headers=rest._http.headers, base_url=rest.url)
    assert rest.backfill("shop", **BODY) == 2
    assert (airflow.backfills[2], airflow.queued) == (None, [])
