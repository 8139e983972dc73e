from datetime import date
from types import SimpleNamespace
from zoneinfo import ZoneInfo

from twinspire.backfills import progress_board
from twinspire.backfills.progress_board import Board

DAY = date(2017, 10, 2)
# Midnight in New York, in UTC
RUN = {"dag_run_id": "a", "data_interval_start": "2017-10-02T04:00:00Z", "run_type": "backfill"}


def test_a_stage_that_has_ended_is_shown_once(monkeypatch):
    """`day` is no stage of the table, but its failure would be the day's."""
    states = iter(["running", "success", "success"])

    def tasks(dag, run):
        state = next(states)
        return {name: {"state": state, "duration": 12.4} for name in ("day", "features")}

    def poll(ask):
        for state in ("queued", "running", "running", "success"):
            run = RUN | {"state": state}
            rest.runs = lambda dag, run=run, **_: [run]
            yield ask()

    rest = SimpleNamespace(tasks=tasks, poll=poll)
    rest.is_paused = lambda dag: False
    monkeypatch.setattr(progress_board, "active_backfills", lambda *_: [{"is_paused": False}])
    board = Board([DAY], ZoneInfo("America/New_York"))
    lines = [*board.watch(rest, "shop")]
    assert lines == [[], [], ["0:00 2017-10-02 features: success in 12 s"], []]
    assert board.cells[DAY, "day"]["state"] == "success" and board.progress().startswith(
        "1 of 1 days"
    )
