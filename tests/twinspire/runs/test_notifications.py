import json
import time
from datetime import date, timedelta
from types import SimpleNamespace

import pytest

from twinspire.runs import live_catalogue, notifications, run_leases, runner
from twinspire.runs.day_run import DayRun
from twinspire.runs.notifications import notify
from twinspire_core.errors import BadData, GateRefused, LogsLate, NothingToDo, TryAgain, UsageError

DAY = date(2024, 2, 21)


@pytest.fixture
def notices(shop, tmp_path):
    """Lets the shop's messages be written to a file: the messages so far."""
    pipeline, _ = shop
    command = f"cat >> '{tmp_path}/told' && echo >> '{tmp_path}/told'"
    pipeline.notify = SimpleNamespace(command=command, timeout=timedelta(seconds=20))

    def read():
        if not (tmp_path / "told").exists():
            return []
        return [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]

    return read


def run_into(pipeline, monkeypatch, error, stage="features"):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(runner, "_run_stage", fail)
    with pytest.raises(type(error)):
        runner.run_stage(DayRun(pipeline, DAY, lease="mine"), stage)


@pytest.mark.parametrize(
    ("error", "stage", "event", "exit_code"),
    [
        (BadData("damaged"), "features", "failed", 3),
        (GateRefused("worse"), "publish", "refused", 4),
        (RuntimeError("a bug"), "train", "failed", 1),
    ],
)
def test_a_day_that_needs_somebody_sends_a_notification(
    shop, notices, monkeypatch, error, stage, event, exit_code
):
    run_into(shop[0], monkeypatch, error, stage)
    [message] = notices()
    assert message.pop("command").endswith(f" --date {DAY}")
    about = {"event": event, "pipeline": "shop", "day": str(DAY), "stage": stage}
    assert message == {**about, "exit_code": exit_code, "reason": str(error)}


@pytest.mark.parametrize(
    "error", [NothingToDo("no rows"), KeyboardInterrupt(), SystemExit(143), TryAgain("a full disk")]
)
def test_empty_stopped_and_retried_days_send_no_notification(shop, notices, monkeypatch, error):
    run_into(shop[0], monkeypatch, error)
    assert notices() == []


def test_late_logs_send_one_notification_for_many_checks(shop, notices, monkeypatch):
    for _ in range(3):
        run_into(shop[0], monkeypatch, LogsLate("no logs yet"))
    assert [one["event"] for one in notices()] == ["late"]
    # Then they came, and were bad.
    run_into(shop[0], monkeypatch, BadData("damaged"))
    assert [one["event"] for one in notices()] == ["late", "failed"]
    assert run_leases.state(shop[0], DAY) == "failed"


def test_late_logs_send_one_notification_for_many_runs(shop, notices, monkeypatch):
    def fail(*_, **__):
        raise LogsLate("no logs yet")

    monkeypatch.setattr(runner, "_run_stage", fail)
    for _ in range(3):
        with run_leases.own_run(shop[0], DAY) as lease, pytest.raises(LogsLate):
            runner.run_stage(DayRun(shop[0], DAY, lease=lease), "features")
    assert [one["event"] for one in notices()] == ["late"]


def test_a_version_refused_twice_sends_one_notification(shop, notices, monkeypatch):
    """As where a task was killed in the refresh that follows the refusal, and is tried again."""
    refusal = GateRefused("worse", is_found=True)
    # Killed before a notification was sent.
    run_into(shop[0], monkeypatch, refusal, "publish")
    for _ in range(2):
        run_into(shop[0], monkeypatch, refusal, "publish")
    assert [one["event"] for one in notices()] == ["refused"]
    run_into(shop[0], monkeypatch, GateRefused("worse still"), "publish")
    run_into(shop[0], monkeypatch, BadData("damaged"), "publish")
    run_into(shop[0], monkeypatch, refusal, "publish")
    assert [one["event"] for one in notices()] == ["refused", "refused", "failed", "refused"]


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
    shop, notices, monkeypatch, error, event, unasked
):
    """An automatic refresh follows a reported refusal: it sends nothing that is no news."""

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(live_catalogue, "plan_refresh", fail)
    for _ in range(2):
        with pytest.raises(type(error)):
            live_catalogue.refresh(DayRun(shop[0], DAY))
    assert [(one["event"], one["stage"]) for one in notices()] == [(event, "refresh")] * 2
    with pytest.raises(type(error)):
        live_catalogue.refresh(DayRun(shop[0], DAY), unasked=True)
    assert [one["event"] for one in notices()[2:]] == ([unasked] if unasked else [])


def test_a_command_that_fails_or_hangs_stops_no_day(shop, notices, capsys, monkeypatch):
    pipeline, _ = shop
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


def test_the_output_of_a_failed_command_is_shown_without_secrets(shop, monkeypatch, capsys):
    monkeypatch.setenv("HOOK", "https://example.com/s3cr3t")
    monkeypatch.setenv("KEY", "s3cr3t-key")
    monkeypatch.setenv("OTHER", "no secret of this command")
    command = "echo $HOOK ${KEY} no secret of this command https://example.com/s3cr3t >&2; exit 3"
    shop[0].notify = SimpleNamespace(command=command, timeout=timedelta(seconds=20))
    assert not notify(shop[0], "test", DAY, "tried")
    said = capsys.readouterr().err
    assert "exit code 3" in said and "$HOOK $KEY" in said
    assert "s3cr3t" not in said
