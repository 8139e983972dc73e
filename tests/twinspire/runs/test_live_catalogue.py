from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from twinspire.runs import live_catalogue, stage_tasks
from twinspire.runs.day_run import DayRun
from twinspire.runs.live_catalogue import _load, plan_refresh
from twinspire.runs.stage_tasks import StageTask
from twinspire.runs.stages import REFRESH
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.errors import BadData, GateRefused, TryAgain, UsageError

DAY = date(2024, 2, 21)
LATER = date(2024, 2, 24)


def test_nothing_is_caught_up_where_only_the_training_is_older(pipeline, publish, monkeypatch):
    monkeypatch.setattr(live_catalogue, "refresh", None)
    first, newest = publish(20), publish(23)
    late = publish(21)
    run = DayRun(pipeline, DAY)
    assert run.state.live == newest
    assert not any(live_catalogue.catch_up(run, version) for version in (first, late, newest))


def test_a_version_behind_the_catalogue_alone_is_refreshed(pipeline, publish, monkeypatch):
    first = publish(20)
    refreshed = publish(20, refreshes=first, corpus=LATER)
    trained = publish(21, first)
    run = DayRun(pipeline, DAY)
    assert run.state.live == refreshed
    new = {"version": "new", "live": True}
    refresh = Mock(return_value=new | {"items": 1})
    monkeypatch.setattr(live_catalogue, "refresh", refresh)
    expected = {"trained": trained, **new, "refresh": {**new, "items": 1}}
    assert live_catalogue.catch_up(run, trained) == expected
    ((of_day,), options) = refresh.call_args
    assert (of_day.day, of_day.lease, options) == (LATER, None, {"version": trained})


@pytest.fixture
def refreshed(monkeypatch):
    """Days that what is live was refreshed for; nothing is run."""
    days = []

    def refresh(run, *, unasked):
        assert unasked
        days.append((run.day, run.lease))
        return {"version": f"refreshed {run.day}", "live": True}

    monkeypatch.setattr(live_catalogue, "refresh", refresh)
    return days


def test_what_is_live_follows_a_refused_day(pipeline, publish, refreshed):
    publish(20)
    run = DayRun(pipeline, DAY, lease="mine")
    assert live_catalogue.follow(run) == f"refreshed {DAY}"
    assert refreshed == [(DAY, None)]


def test_it_does_not_go_back_to_an_older_catalogue(pipeline, publish, refreshed):
    """As when the refused day is run once more after later ones, or fills a gap."""
    assert live_catalogue.follow(DayRun(pipeline, DAY)) is None, "nothing is live yet"
    first = publish(20)
    publish(20, refreshes=first, corpus=LATER)
    day_before = LATER - timedelta(days=1)
    assert live_catalogue.follow(DayRun(pipeline, day_before)) is None
    later = [LATER, LATER + timedelta(days=1)]
    # The refresh of the day itself may have been made before it was over
    assert [live_catalogue.follow(DayRun(pipeline, day)) for day in later] == [
        f"refreshed {day}" for day in later
    ]
    publish(24)
    assert live_catalogue.follow(DayRun(pipeline, LATER)) is None, "trained on the day"


@pytest.mark.parametrize("error", [UsageError, TryAgain, BadData, GateRefused, RuntimeError])
def test_an_obstacle_is_reported_and_the_day_stays_refused(
    pipeline, publish, refreshed, monkeypatch, capsys, error
):
    live = publish(20)
    notified = []
    fail = Mock(side_effect=error("items are gone, see twinspire show PIPELINE"))
    monkeypatch.setattr(live_catalogue, "refresh", fail)
    monkeypatch.setattr(live_catalogue, "notify_of_error", lambda *of: notified.append(of[1:3]))
    assert live_catalogue.follow(DayRun(pipeline, DAY)) is None
    text = " ".join(capsys.readouterr().err.split())
    assert f"{live} keeps its catalogue: items are gone" in text
    assert ("Traceback" in text) == (error is RuntimeError), "of a fault, where it is"
    assert notified == [(DAY, "refresh")] * (error is TryAgain), "a refresh tells of all else"


def test_a_log_that_cannot_be_read_does_not_hide_that_the_day_was_refused(
    pipeline, publish, refreshed, monkeypatch, capsys
):
    publish(20)
    monkeypatch.setattr(DayRun, "read_log", Mock(side_effect=TryAgain("the store is away")))
    assert live_catalogue.follow(DayRun(pipeline, DAY)) is None and refreshed == []
    assert "What is live keeps its catalogue: the store is away" in capsys.readouterr().err


def test_it_is_not_live_where_it_was_rolled_back(pipeline, publish, refreshed, monkeypatch):
    publish(20)
    monkeypatch.setattr(live_catalogue, "refresh", lambda *_, **__: {"version": "v", "live": False})
    assert live_catalogue.follow(DayRun(pipeline, DAY)) is None


def test_a_damaged_version_is_detected(tmp_path):
    verify = Mock(side_effect=BadData("it is damaged"))
    header, beam = SimpleNamespace(work_root=str(tmp_path)), SimpleNamespace(options={})
    pipeline = SimpleNamespace(name="shop", pipeline=header, beam=beam)
    run = SimpleNamespace(pipeline=pipeline, day=DAY, registry=SimpleNamespace(verify=verify))
    holder = SimpleNamespace(version="a version")
    context = StageContext(pipeline=pipeline, day=DAY, mode="incremental", out="")
    made = {
        "facts": {},
        "load": lambda: _load(run, "v", holder, unasked=False),
        "parent": "a version",
    }
    task = StageTask(stage=REFRESH, context=context, **made)
    with pytest.raises(BadData, match="it is damaged"):
        stage_tasks._make(run, task)


def test_a_day_without_a_row_of_logs_is_refused_whosever_towers_are_asked_for(
    pipeline, publish, monkeypatch
):
    """A folder with an empty file holds none; the other folders' files have none either."""
    events = pipeline.source.events
    pipeline.source = SimpleNamespace(
        events=events, items=None, users=None, late_days=0, format="csv"
    )
    other, live = publish(20), publish(21)

    def plan(day, version):
        return plan_refresh(DayRun(pipeline, date(2024, 2, day)), version, "auto")

    for version in (None, live, other):
        for day in (22, 27):
            with pytest.raises(GateRefused, match=r"has no logs.* Wait for the logs"):
                plan(day, version)
    Path(events.format(date="2024-02-22"), "part.csv").write_text("user,item\nu,i\n")
    monkeypatch.setattr(live_catalogue, "source_digests", lambda *_: {})
    monkeypatch.setattr(live_catalogue, "_check_features", lambda *_: None)
    for version in (None, other):
        assert plan(22, version).context.day == date(2024, 2, 22)
        with pytest.raises(GateRefused, match="Refresh 2024-02-22, the newest day with logs"):
            plan(23, version)
    assert plan(21, other).parent == other, "a day trained late takes up the live catalogue"
