"""`twinspire status` of days that failed: why they did."""

import json
from datetime import date, timedelta
from unittest.mock import Mock

import pytest
from typer.testing import CliRunner

from beam_jobs.ingest import day_files
from tests.twinspire.cli.test_day_steps import FILE
from twinspire.cli.main import app
from twinspire.runs import run_leases
from twinspire_core.config.pipeline import load
from twinspire_core.errors import BadData, NotItsTurn, RunnerFailed, TryAgain

DAY = "2024-03-08"


@pytest.fixture
def command(tmp_path):
    """Runs a command of a shop whose newest day has one event, and the same weekday before it a hundred:
    what it printed.
    """
    file = tmp_path / "shop.toml"
    file.write_text(FILE.format(tmp_path))
    for day, events in (("2024-03-01", 100), (DAY, 1)):
        home = tmp_path / f"events/dt={day}"
        home.mkdir(parents=True)
        rows = [f"u,i,{day}T10:00:00"] * events
        (home / "part.csv").write_text("\n".join(["user,item,time", *rows]) + "\n")

    def run(name, *arguments):
        return CliRunner().invoke(app, [name, str(file), *arguments]).stdout

    run.pipeline = load(file)
    return run


def status(command):
    """The day's state and reason in JSON, and its line for people."""
    [day] = json.loads(command("status", "--from", DAY, "--json").splitlines()[-1])["days"]
    lines = command("status", "--from", DAY).splitlines()
    [line] = [line for line in lines if line.startswith(f"{DAY} {day['state']}:")]
    return day["state"], day["reason"], line


def test_a_day_that_failed_says_why_on_one_line(command):
    """Whoever opens the status need not look for the log of the task."""
    failed = json.loads(command("open-day", "--date", DAY, "--run", "scheduled").splitlines()[-1])
    assert failed["exit_code"] == 3
    state, reason, line = status(command)
    assert state == "failed"
    assert reason == f"features: {failed['reason']}" and "\n" not in reason
    assert line.startswith(f"{DAY} failed: {reason} twinspire run ")


def test_why_the_last_run_failed_is_said_and_not_why_one_before_it_did(command):
    for number, error in enumerate((BadData("It is cut off."), TryAgain("No\n  room"))):
        with pytest.raises(type(error)), run_leases.own_run(command.pipeline, date(2024, 3, 8)):
            raise error
        assert status(command)[:2] == ("failed", ("It is cut off.", "No room.")[number])
    with pytest.raises(KeyError), run_leases.own_run(command.pipeline, date(2024, 3, 8)):
        raise KeyError("x" * 1000)
    reason = status(command)[1]
    assert reason.startswith("KeyError: 'xxx") and len(reason) < 410


def test_a_run_that_was_closed_says_so(command):
    run_leases.acquire_day(command.pipeline, date(2024, 3, 8), "scheduled")
    command("close-day", "--date", DAY)
    assert status(command)[:2] == (
        "failed",
        "It was closed while it was under way: its command was killed or gave up. See its log.",
    )


def test_a_run_that_gave_up_says_what_its_last_try_failed_by(command, monkeypatch):
    for error in (TryAgain("gs://logs is away."), RunnerFailed("The runner\n is gone.")):
        monkeypatch.setattr(day_files, "check", Mock(side_effect=error))
        assert '"exit_code": 75' in command("open-day", "--date", DAY, "--run", "one")
        assert status(command)[0] == "under way"
    command("close-day", "--run", "one")
    assert status(command)[:2] == ("failed", "features: The runner is gone.")


@pytest.mark.parametrize(
    "last", [SystemExit(143), NotItsTurn("2024-03-07 goes first.", [date(2024, 3, 7)])]
)
def test_a_try_that_was_ended_does_not_say_what_the_one_before_it_failed_by(
    command, monkeypatch, last
):
    for error in (TryAgain("gs://logs is away."), last):
        monkeypatch.setattr(day_files, "check", Mock(side_effect=error))
        command("open-day", "--date", DAY, "--run", "one")
    command("close-day", "--date", DAY)
    state, reason, _ = status(command)
    assert state == "failed" and reason.startswith("It was closed while it was under way")


def test_a_day_that_waited_in_vain_says_for_which(command, monkeypatch):
    run_leases.acquire_day(command.pipeline, date(2024, 3, 1), "earlier")
    monkeypatch.setattr(run_leases, "waited", lambda *_: timedelta(hours=1))  # train.wait
    command("await-turn", "--date", DAY, "--run", "scheduled")
    state, reason, _ = status(command)
    assert state == "failed"
    assert "train.wait = 1:00:00" in reason and "2024-03-01 (run earlier" in reason
