"""The progress board, fed with what Airflow's API says."""

import io
from datetime import date
from zoneinfo import ZoneInfo

from rich.console import Console

from twinspire.backfills.progress_board import Board

DAYS = [date(2017, 10, 2), date(2017, 10, 3)]
# Midnight in New York, told in Greenwich.
RUNS = [
    {"dag_run_id": "a", "data_interval_start": "2017-10-02T04:00:00Z"},
    {"dag_run_id": "b", "data_interval_start": "2017-10-03T04:00:00Z"},
]


def task(run, name, state, seconds=None, end=None):
    return {
        "dag_run_id": run,
        "task_id": name,
        "state": state,
        "duration": seconds,
        "start_date": None,
        "end_date": end,
        "try_number": 1,
    }


def board():
    return Board(DAYS, ZoneInfo("America/New_York"))


def test_a_stage_is_told_once_when_it_has_ended():
    shown = board()
    assert shown.update(RUNS, [task("a", "features", "running")]) == []
    done = task("a", "features", "success", 12.4, "2026-01-01T00:00:01Z")
    [(day, stage, cell)] = shown.update(RUNS, [done])
    assert (day, stage, cell.state, cell.seconds) == (DAYS[0], "features", "success", 12.4)
    assert shown.update(RUNS, [done]) == []


def test_runs_of_other_backfills_are_left_out():
    assert (
        board().update(
            RUNS, [task("elsewhere", "features", "success", 1.0, "2026-01-01T00:00:01Z")]
        )
        == []
    )


def test_a_failure_is_found_also_in_a_task_that_has_no_column():
    shown = board()
    assert shown.failed() == []
    shown.update(RUNS, [task("b", "day", "failed", 1.0, "2026-01-01T00:00:01Z")])
    [(day, stage, _)] = shown.failed()
    assert (day, stage) == (DAYS[1], "day")


def test_it_fits_a_terminal_of_80_columns():
    shown = board()
    stages = ("features", "train", "measure", "embed", "index", "publish")
    shown.update(
        RUNS,
        [
            task(run, name, "success", 234.5, "2026-01-01T00:00:01Z")
            for run in "ab"
            for name in stages
        ],
    )
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(shown)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines[1:3]] == ["2017-10-02", "2017-10-03"]
    assert "234 s" in lines[1]
    assert lines[1].rstrip().endswith("1407 s")
