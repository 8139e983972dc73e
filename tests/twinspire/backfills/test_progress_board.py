from datetime import date
from zoneinfo import ZoneInfo

from twinspire.backfills.progress_board import Board

DAYS = [date(2017, 10, 2), date(2017, 10, 3)]
# Midnight in New York, in UTC.
RUNS = [
    {"dag_run_id": "a", "data_interval_start": "2017-10-02T04:00:00Z"},
    {"dag_run_id": "b", "data_interval_start": "2017-10-03T04:00:00Z"},
]


def task(run, name, state, seconds=None, end=None):
    data = {"dag_run_id": run, "task_id": name, "state": state, "try_number": 1}
    return {**data, "duration": seconds, "start_date": None, "end_date": end}


def board():
    return Board(DAYS, ZoneInfo("America/New_York"))


def test_a_stage_that_has_ended_is_shown_once():
    shown = board()
    assert shown.update(RUNS, [task("a", "features", "running")]) == []
    done = task("a", "features", "success", 12.4, "2026-01-01T00:00:01Z")
    assert shown.update(RUNS, [done]) == [(DAYS[0], "features", done)]
    assert shown.update(RUNS, [done]) == []


def test_runs_of_other_backfills_are_left_out():
    other = task("elsewhere", "features", "success", 1.0, "2026-01-01T00:00:01Z")
    assert board().update(RUNS, [other]) == []
