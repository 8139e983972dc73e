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


def test_a_version_with_only_an_older_catalogue_is_refreshed(pipeline, publish, monkeypatch):
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
def refresh(monkeypatch):
    """A refresh that makes nothing."""
    mock = Mock(side_effect=lambda run, unasked: {"version": f"of {run.day}", "live": True})
    monkeypatch.setattr(live_catalogue, "refresh", mock)
    return mock


@pytest.fixture
def follow(pipeline, refresh):
    """What is live after the day was refused."""
    return lambda day=DAY: live_catalogue.follow(DayRun(pipeline, day, lease="mine"))


def test_what_is_live_follows_a_refused_day(publish, refresh, follow):
    publish(20)
    assert follow() == f"of {DAY}"
    ((run,), options) = refresh.call_args
    assert (run.day, run.lease, options) == (DAY, None, {"unasked": True})


def test_the_live_version_does_not_go_back_to_an_older_catalogue(publish, follow):
    """As when the refused day is run once more after later ones, or fills a gap."""
    assert follow() is None, "nothing is live yet"
    first = publish(20)
    publish(20, refreshes=first, corpus=LATER)
    assert follow(LATER - timedelta(days=1)) is None
    # The refresh of the day itself may have been made before it was over
    for day in (LATER, LATER + timedelta(days=1)):
        assert follow(day) == f"of {day}"
    publish(24)
    assert follow(LATER) is None, "trained on the day"


@pytest.mark.parametrize("error", [UsageError, TryAgain, BadData, GateRefused, RuntimeError])
def test_an_obstacle_is_reported_and_the_day_stays_refused(
    publish, refresh, follow, monkeypatch, capsys, error
):
    live = publish(20)
    notify = Mock()
    refresh.side_effect = error("items are gone, see twinspire show PIPELINE")
    monkeypatch.setattr(live_catalogue, "notify_of_error", notify)
    assert follow() is None
    text = " ".join(capsys.readouterr().err.split())
    assert f"{live} keeps its catalogue: items are gone" in text
    assert ("Traceback" in text) == (error is RuntimeError), "only an unexpected error has it"
    # A refresh has reported all other errors
    calls = [call.args[1:3] for call in notify.call_args_list]
    assert calls == [(DAY, "refresh")] * (error is TryAgain)


def test_a_log_that_cannot_be_read_does_not_hide_that_the_day_was_refused(
    publish, refresh, follow, monkeypatch, capsys
):
    publish(20)
    monkeypatch.setattr(DayRun, "read_log", Mock(side_effect=TryAgain("the store is away")))
    assert follow() is None and not refresh.called
    assert "What is live keeps its catalogue: the store is away" in capsys.readouterr().err


def test_a_refresh_that_was_rolled_back_is_not_live(publish, refresh, follow):
    publish(20)
    refresh.side_effect = lambda *_, **__: {"version": "v", "live": False}
    assert follow() is None


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
