import json
import time
from datetime import date
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from twinspire.runs import live_catalogue, notifications, run_leases, runner
from twinspire.runs.day_run import DayRun
from twinspire.runs.notifications import notify
from twinspire_core.errors import BadData, GateRefused, LogsLate, NothingToDo, TryAgain, UsageError

DAY = date(2024, 2, 21)


@pytest.fixture
def notices(pipeline, tmp_path):
    """Lets the shop's messages be written to a file: the messages so far."""
    file = tmp_path / "messages"
    file.touch()
    pipeline.notify = SimpleNamespace(command=f"cat >> '{file}' && echo >> '{file}'")
    return lambda: [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture
def run_into(pipeline, monkeypatch):
    """Runs a stage that ends by an error."""

    def run(error, stage="features", lease="mine"):
        monkeypatch.setattr(runner, "_run_stage", Mock(side_effect=error))
        with pytest.raises(type(error)):
            runner.run_stage(DayRun(pipeline, DAY, lease=lease), stage)

    return run


@pytest.mark.parametrize(
    ("error", "stage", "event", "exit_code"),
    [
        (BadData("damaged"), "features", "failed", 3),
        (GateRefused("worse"), "publish", "refused", 4),
        (RuntimeError("a bug"), "train", "failed", 1),
    ],
)
def test_a_day_that_needs_somebody_sends_a_notification(
    notices, run_into, error, stage, event, exit_code
):
    run_into(error, stage)
    [message] = notices()
    assert message.pop("command").endswith(f" --date {DAY}")
    about = {"event": event, "pipeline": "shop", "day": str(DAY), "stage": stage}
    assert message == {**about, "exit_code": exit_code, "reason": str(error)}


@pytest.mark.parametrize(
    "error", [NothingToDo("no rows"), KeyboardInterrupt(), SystemExit(143), TryAgain("a full disk")]
)
def test_empty_stopped_and_retried_days_send_no_notification(notices, run_into, error):
    run_into(error)
    assert notices() == []


def test_late_logs_send_one_notification_for_many_checks_and_runs(pipeline, notices, run_into):
    for _ in range(2):
        run_into(LogsLate("no logs yet"))
    for _ in range(2):
        with run_leases.own_run(pipeline, DAY) as lease:
            run_into(LogsLate("no logs yet"), lease=lease)
    assert [notice["event"] for notice in notices()] == ["late"]
    # Then they came, and were bad.
    run_into(BadData("damaged"))
    assert [notice["event"] for notice in notices()] == ["late", "failed"]
    assert run_leases.state(pipeline, DAY) == "failed"


def test_a_version_refused_twice_sends_one_notification(notices, run_into):
    """As where a task was killed in the refresh that follows the refusal, and is tried again."""
    refusal = GateRefused("worse", is_found=True)
    # Killed before a notification was sent.
    run_into(refusal, "publish")
    for _ in range(2):
        run_into(refusal, "publish")
    assert [notice["event"] for notice in notices()] == ["refused"]
    run_into(GateRefused("worse still"), "publish")
    run_into(BadData("damaged"), "publish")
    run_into(refusal, "publish")
    assert [notice["event"] for notice in notices()] == ["refused", "refused", "failed", "refused"]


@pytest.mark.parametrize(
    ("error", "event", "unasked"),
    [
        (GateRefused("too much is gone"), "refused", "refused"),
        (GateRefused("too much is gone", is_found=True), "refused", None),
        (UsageError("features changed"), "failed", None),
        (BadData("damaged"), "failed", "failed"),
    ],
)
def test_a_refresh_that_needs_somebody_sends_a_notification(
    pipeline, notices, monkeypatch, error, event, unasked
):
    """An automatic refresh follows a reported refusal: it sends nothing that is no news."""
    monkeypatch.setattr(live_catalogue, "plan_refresh", Mock(side_effect=error))
    for _ in range(2):
        with pytest.raises(type(error)):
            live_catalogue.refresh(DayRun(pipeline, DAY))
    assert [(notice["event"], notice["stage"]) for notice in notices()] == [(event, "refresh")] * 2
    with pytest.raises(type(error)):
        live_catalogue.refresh(DayRun(pipeline, DAY), unasked=True)
    assert [notice["event"] for notice in notices()[2:]] == ([unasked] if unasked else [])


def test_a_command_that_fails_or_hangs_stops_no_day(pipeline, notices, capsys, monkeypatch):
    pipeline.notify.command = "echo no such channel >&2; exit 7"
    assert not notify(pipeline, "test", DAY, "why")
    assert "exit code 7. no such channel" in capsys.readouterr().err
    pipeline.notify.command = r"printf '\351\n' >&2; exit 7"  # no UTF-8
    assert not notify(pipeline, "test", DAY, "why")
    pipeline.notify.command = "setsid sleep 60 & wait"
    monkeypatch.setattr(notifications, "_TIMEOUT", 0.3)
    began = time.monotonic()
    assert not notify(pipeline, "test", DAY, "why")
    assert "did not end within" in capsys.readouterr().err and time.monotonic() - began < 20


def test_the_output_of_a_failed_command_is_shown_without_secrets(pipeline, monkeypatch, capsys):
    monkeypatch.setenv("HOOK", "https://example.com/s3cr3t")
    monkeypatch.setenv("KEY", "s3cr3t-key")
    monkeypatch.setenv("OTHER", "no secret of this command")
    command = "echo $HOOK ${KEY} no secret of this command https://example.com/s3cr3t >&2; exit 3"
    pipeline.notify = SimpleNamespace(command=command)
    assert not notify(pipeline, "test", DAY, "tried")
    message = capsys.readouterr().err
    assert "exit code 3" in message and "$HOOK $KEY" in message
    assert "s3cr3t" not in message
