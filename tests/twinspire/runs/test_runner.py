"""What the runner does around a stage: the run's lease, and what a publication starts."""

from datetime import date, timedelta
from types import SimpleNamespace

import pytest

from twinspire.runs import day_order, run_leases, runner
from twinspire.runs.day_run import DayRun
from twinspire.runs.stages import STAGES
from twinspire_core.errors import (
    BadData,
    GateRefused,
    LogsLate,
    NothingToDo,
    NotItsTurn,
    TryAgain,
)

DAY = date(2024, 2, 21)


@pytest.fixture
def run(shop):
    pipeline, _ = shop
    return DayRun(pipeline, DAY, lease="mine")


@pytest.mark.parametrize(
    ("name", "error", "state"),
    [
        ("features", LogsLate("no logs yet"), "late"),
        ("train", TryAgain("an earlier day is under way"), "open"),
        ("publish", TryAgain("other towers are live"), "open"),
        ("features", NothingToDo("no rows"), "skipped"),
        ("publish", GateRefused("worse"), "refused"),
        ("embed", BadData("damaged"), "failed"),
        ("index", KeyboardInterrupt(), "failed"),
        ("index", SystemExit(143), "open"),
    ],
)
def test_a_run_goes_on_or_ends_as_a_stage_does(run, monkeypatch, name, error, state):
    def fail(*_, **__):
        assert run_leases.state(run.pipeline, DAY) == "open"
        raise error

    monkeypatch.setattr(runner, "_run_stage", fail)
    with pytest.raises(type(error)):
        runner.run_stage(run, name)
    assert run_leases.state(run.pipeline, DAY) == state


def test_a_run_that_gives_way_does_so_to_a_day_that_began_after_its_turn(shop, planned):
    """A scheduler's slot is the one that the earlier day needs."""
    pipeline, _ = shop
    pipeline.train = SimpleNamespace(wait=timedelta(seconds=1))
    run = DayRun(pipeline, DAY, lease="later", gives_way=True)
    run.acquire_lease()
    run_leases.acquire_day(pipeline, DAY - timedelta(days=2), "earlier")
    with pytest.raises(NotItsTurn, match=r"waits for its turn.*2024-02-19"):
        runner.run_stage(run, "train")
    assert run_leases.state(pipeline, DAY) == "open"
    run_leases.release_day(pipeline, DAY - timedelta(days=2), "earlier", "published")
    assert runner.run_stage(run, "train")["status"] == "done"


def test_only_publishing_ends_a_run_that_fares_well(run, monkeypatch):
    monkeypatch.setattr(runner, "_run_stage", lambda *_, **__: {"live": True})
    states = {}
    for name in STAGES:
        runner.run_stage(run, name)
        states[name] = run_leases.state(run.pipeline, DAY)
    assert states == dict.fromkeys(STAGES, "open") | {"publish": "published"}


@pytest.mark.parametrize(
    ("name", "promote", "live", "caught_up"),
    [
        ("publish", "auto", False, True),
        ("publish", "auto", True, False),
        ("publish", "no", False, False),
        ("publish", "yes", False, False),
        ("index", "auto", False, False),
    ],
)
def test_a_version_that_is_not_live_is_given_the_live_catalogue(
    run, monkeypatch, name, promote, live, caught_up
):
    asked = []

    def catch_up(run, version):
        assert run_leases.state(run.pipeline, DAY) == "published", "its training is over"
        asked.append(version)
        return {"version": "refreshed", "live": True}

    result = {"version": "trained", "live": live}
    monkeypatch.setattr(runner, "_run_stage", lambda *_, **__: dict(result))
    monkeypatch.setattr(runner, "catch_up", catch_up)
    told = runner.run_stage(run, name, promote=promote)
    assert asked == (["trained"] if caught_up else [])
    assert told == ({"version": "refreshed", "live": True} if caught_up else result)


def test_nothing_is_caught_up_where_only_the_training_is_older(shop, monkeypatch):
    pipeline, publish = shop
    monkeypatch.setattr(runner, "refresh", None)
    first, newest = publish(20), publish(23)
    late = publish(21)
    run = DayRun(pipeline, DAY)
    assert run.state.live == newest
    assert [runner.catch_up(run, version) for version in (first, late, newest)] == [{}, {}, {}]


def test_a_version_behind_the_catalogue_alone_is_refreshed(shop, monkeypatch):
    pipeline, publish = shop
    first = publish(20)
    refreshed = publish(20, refreshes=first, corpus=date(2024, 2, 24))
    trained = publish(21, first)
    run = DayRun(pipeline, DAY)
    assert run.state.live == refreshed
    asked = []

    def refresh(run, *, version):
        asked.append((run.day, run.lease, version))
        return {"version": "new", "live": True, "items": 1}

    monkeypatch.setattr(runner, "refresh", refresh)
    assert runner.catch_up(run, trained) == {
        "trained": trained,
        "version": "new",
        "live": True,
        "refresh": {"version": "new", "live": True, "items": 1},
    }
    assert asked == [(date(2024, 2, 24), None, trained)]


@pytest.fixture
def planned(monkeypatch):
    """Parents of what was planned; nothing is run."""
    parents = []

    def plan_stage(run, stage, mode, promote, **_):
        parent = run.parent()
        parents.append(parent and parent.version)
        context = SimpleNamespace(inputs={}, parent=parent, mode=mode)
        return SimpleNamespace(stage=stage, context=context)

    monkeypatch.setattr(runner, "plan_stage", plan_stage)
    monkeypatch.setattr(
        runner, "complete", lambda *_, **__: (SimpleNamespace(uri="", summary={}), "done")
    )
    return parents


def test_the_day_that_was_waited_for_is_the_parent(shop, monkeypatch, planned):
    """A run that has read the log before sees what came since."""
    pipeline, publish = shop
    sources = {"train": "dt=2024-02-20/train/0001-aa"}
    first = publish(18, sources=sources)
    run = DayRun(pipeline, DAY)
    assert run.parent().version == first
    monkeypatch.setattr(day_order, "await_turn", lambda *_: publish(20, first, sources=sources))
    result = runner.run_stage(run, "train")
    assert planned == [result["parent"]] and planned[0].startswith("2024-02-20")
    later = publish(20, first, sources=sources)
    assert runner.run_stage(run, "embed")["parent"] == later
