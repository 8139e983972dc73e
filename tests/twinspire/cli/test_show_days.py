"""`twinspire status` of days that failed: why they did."""

import json
from datetime import date, timedelta
from unittest.mock import Mock

import pytest
from typer.testing import CliRunner

from beam_jobs.ingest import day_files
from twinspire.cli.main import app
from twinspire.runs import run_leases
from twinspire_core.config.pipeline import load
from twinspire_core.errors import BadData, NotItsTurn, RunnerFailed, TryAgain

DAY = "2024-03-08"


@pytest.fixture
def command(shop_file, tmp_path):
    """Runs a command of a shop: what it printed. The newest day has one event, and the same weekday before
    it a hundred.
    """
    for day, events in (("2024-03-01", 100), (DAY, 1)):
        folder = tmp_path / f"events/dt={day}"
        folder.mkdir(parents=True)
        rows = [f"u,i,{day}T10:00:00"] * events
        (folder / "part.csv").write_text("\n".join(["user,item,time", *rows]) + "\n")

    def run(name, *arguments):
        return CliRunner().invoke(app, [name, str(shop_file), *arguments]).stdout

    run.pipeline = load(shop_file)
    return run


def last_line(command, *arguments):
    return json.loads(command(*arguments).splitlines()[-1])


def status(command):
    """The day's state and reason in JSON, and its line for people."""
    day = last_line(command, "status", "--from", DAY, "--json")["days"][0]
    lines = command("status", "--from", DAY).splitlines()
    [line] = [line for line in lines if line.startswith(f"{DAY} {day['state']}:")]
    return day["state"], day["reason"], line


def test_a_day_is_open_until_it_is_closed_and_the_next_day_waits(command):
    midnight = ("--instant", "2024-02-29T15:00:00+00:00")  # in Tokyo
    day = {"day": "2024-03-01", "state": None}
    assert last_line(command, "which-day", *midnight) == {"stage": "which-day", **day}
    opened = last_line(command, "open-day", *midnight, "--run", "first")
    input_of_day = {"input": {"rows": 100, "usual_rows": None}}
    assert opened == {"stage": "open-day", **day, "state": "open", **input_of_day}
    waits = last_line(command, "await-turn", "--date", DAY)
    assert (waits["exit_code"], waits["waits_for"]) == (75, ["2024-03-01"])
    assert "shop.toml --date 2024-03-01`" in waits["reason"]
    closed = {"stage": "close-day", "day": "2024-03-01", "closed": ["first"]}
    assert last_line(command, "close-day", "--date", "2024-03-01") == closed
    free = {"stage": "await-turn", "day": DAY, "state": None}
    assert last_line(command, "await-turn", "--date", DAY) == free


def test_a_day_that_failed_says_why_on_one_line(command):
    """Whoever opens the status need not look for the log of the task."""
    failed = last_line(command, "open-day", "--date", DAY, "--run", "scheduled")
    assert failed["exit_code"] == 3
    state, reason, line = status(command)
    assert state == "failed"
    assert reason == f"features: {failed['reason']}" and "\n" not in reason
    assert line.startswith(f"{DAY} failed: {reason} twinspire run ")


def test_the_reason_is_that_of_the_last_run(command):
    for error, reason in (
        (BadData("It is cut off."), "It is cut off."),
        (TryAgain("No\n  room"), "No room."),
        (KeyError("x" * 1000), f"KeyError: '{'x' * 388}…."),
    ):
        with pytest.raises(type(error)), run_leases.own_run(command.pipeline, date(2024, 3, 8)):
            raise error
        assert status(command)[:2] == ("failed", reason)


CLOSED = "It was closed while it was under way: its command was killed or gave up. See its log."
AWAY, GONE = TryAgain("gs://logs is away."), RunnerFailed("The runner\n is gone.")
NOT_NOW = NotItsTurn("2024-03-07 goes first.", [date(2024, 3, 7)])


@pytest.mark.parametrize(
    ("tries", "reason"),
    [
        ([], CLOSED),
        ([AWAY, GONE], "features: The runner is gone."),
        ([AWAY, SystemExit(143)], CLOSED),
        ([AWAY, NOT_NOW], CLOSED),
    ],
)
def test_a_run_that_was_closed_has_the_reason_of_its_last_try(command, monkeypatch, tries, reason):
    run_leases.acquire_day(command.pipeline, date(2024, 3, 8), "scheduled")
    for error in tries:
        monkeypatch.setattr(day_files, "check", Mock(side_effect=error))
        command("open-day", "--date", DAY, "--run", "scheduled")
        assert status(command)[0] == "under way"
    command("close-day", "--run", "scheduled")
    assert status(command)[:2] == ("failed", reason)


def test_a_day_that_waited_in_vain_says_for_which(command, monkeypatch):
    run_leases.acquire_day(command.pipeline, date(2024, 3, 1), "earlier")
    monkeypatch.setattr(run_leases, "waited", lambda *_: timedelta(hours=1))  # train.wait
    command("await-turn", "--date", DAY, "--run", "scheduled")
    state, reason, _ = status(command)
    assert state == "failed"
    assert "train.wait = 1:00:00" in reason and "2024-03-01 (run earlier" in reason
