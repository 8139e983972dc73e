"""The line of the demo that moves: what a stage says, by Airflow's log of its task."""

import json
from datetime import date
from zoneinfo import ZoneInfo

import pytest
from rich.console import Console

from examples.grocery_demo.backfill import Progress, last_words
from twinspire.backfills.progress_board import Board

HOOK = "airflow.providers.standard.hooks.subprocess.SubprocessHook"
BEGINNING = [("task", "DAG bundles loaded"), (HOOK, "Running command: …"), (HOOK, "Output:")]
STAGE = [(HOOK, "Training on 60 days"), (HOOK, "pass 1 of 6   25%  loss 5.368")]


def write(file, entries):
    lines = [json.dumps({"event": event, "logger": logger}) + "\n" for logger, event in entries]
    file.write_text("".join(lines))
    return file


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (BEGINNING, "starting …"),
        ([*BEGINNING, *STAGE], "pass 1 of 6   25%  loss 5.368"),
        ([*BEGINNING, *STAGE[:1], ("task", "Task heartbeat")], "Training on 60 days"),
        ([*BEGINNING, *[(HOOK, "x" * 100)] * 100, (HOOK, "done")], "done"),
    ],
)
def test_the_last_line_of_the_stage(entries, said, tmp_path):
    assert last_words(write(tmp_path / "attempt=1.log", entries)) == said


def test_a_log_that_is_not_there_or_ends_in_half_a_line(tmp_path):
    assert last_words(tmp_path / "attempt=1.log") == "starting …"
    log = write(tmp_path / "attempt=1.log", [*BEGINNING, *STAGE])
    log.write_text(log.read_text() + '{"event": "pass 2')
    assert last_words(log) == STAGE[-1][1]


def test_one_line_below_the_progress_says_it(tmp_path):
    day = date(2024, 1, 1)
    board = Board([day], ZoneInfo("UTC"))
    board.cells[day, "train"] = {"state": "running", "dag_run_id": "a", "try_number": 1}
    (home := tmp_path / "run_id=a" / "task_id=train").mkdir(parents=True)
    write(home / "attempt=1.log", [*BEGINNING, (HOOK, "[1/2] " + "long " * 40)])
    console = Console(width=80)
    with console.capture() as shown:
        console.print(Progress(board, tmp_path))
    lines = shown.get().splitlines()
    assert "train of 2024-01-01: [1/2] long" in lines[-1] and len(lines[-1]) <= 80
    assert "elapsed" in lines[-2]
