from datetime import date, timedelta
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from tests.shop import PIPELINE
from twinspire.runs import run_leases, runner
from twinspire.runs.day_run import DayRun
from twinspire.runs.stage_tasks import StageTask, complete
from twinspire.runs.stages import STAGES
from twinspire_core import storage
from twinspire_core.config.pipeline import load
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.errors import (
    BadData,
    GateRefused,
    JobFailed,
    LogsLate,
    NothingToDo,
    NotItsTurn,
    ParentChanged,
    RunnerFailed,
    TryAgain,
)

DAY = date(2024, 2, 21)


@pytest.fixture
def run(pipeline):
    return DayRun(pipeline, DAY, lease="mine")


@pytest.mark.parametrize(
    ("name", "error", "state"),
    [
        ("features", LogsLate("no logs yet"), "late"),
        ("train", TryAgain("an earlier day is under way"), "open"),
        ("publish", TryAgain("other towers are live"), "open"),
        ("features", RunnerFailed("a worker is lost"), "open"),
        ("features", JobFailed("a step is wrong"), "failed"),
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


def test_a_run_that_gives_way_does_so_to_a_day_that_began_after_its_turn(pipeline, planned):
    """The earlier day needs the scheduler's slot."""
    pipeline.train = SimpleNamespace(wait=timedelta(seconds=1))
    run = DayRun(pipeline, DAY, lease="later", gives_way=True)
    run_leases.acquire_day(pipeline, DAY, "later")
    run_leases.acquire_day(pipeline, DAY - timedelta(days=2), "earlier")
    with pytest.raises(NotItsTurn, match=r"waits for its turn.*2024-02-19"):
        runner.run_stage(run, "train")
    assert run_leases.state(pipeline, DAY) == "open"
    run_leases.write(pipeline, DAY - timedelta(days=2), "earlier", "published")
    assert runner.run_stage(run, "train")["status"] == "done"


@pytest.mark.parametrize(
    ("lease", "during", "after"), [("mine", "open", "published"), (None, None, None)]
)
def test_only_publishing_ends_a_run_that_has_a_lease(pipeline, monkeypatch, lease, during, after):
    """Without a lease, no later day waits."""

    def run_stage(*_, **__):
        assert run_leases.state(pipeline, DAY) == during
        return {"live": True}

    monkeypatch.setattr(runner, "_run_stage", run_stage)
    for name in STAGES:
        runner.run_stage(DayRun(pipeline, DAY, lease), name)
    assert run_leases.state(pipeline, DAY) == after


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
    def catch_up(run, version):
        assert run_leases.state(run.pipeline, DAY) == "published", "its training is over"
        return {"version": f"refreshed {version}", "live": True}

    result = {"version": "trained", "live": live}
    monkeypatch.setattr(runner, "_run_stage", lambda *_, **__: dict(result))
    monkeypatch.setattr(runner, "catch_up", catch_up)
    outcome = runner.run_stage(run, name, promote=promote)
    assert outcome == ({"version": "refreshed trained", "live": True} if caught_up else result)


def refused():
    return GateRefused("worse", {"folder": "F"})


@pytest.mark.parametrize(
    ("error", "promote", "facts"),
    [
        (refused(), "no", {"folder": "F"}),
        (refused(), "auto", {"folder": "F", "live_version": "2024-02-20-bbbbbbbb"}),
        (refused(), "yes", {"folder": "F", "live_version": "2024-02-20-bbbbbbbb"}),
        (BadData("damaged"), "auto", {}),
    ],
)
def test_what_is_live_follows_a_day_that_was_refused(run, monkeypatch, error, promote, facts):
    def follow(run):
        assert run_leases.state(run.pipeline, DAY) == "refused", "later days need not wait for it"
        return "2024-02-20-bbbbbbbb"

    monkeypatch.setattr(runner, "_run_stage", Mock(side_effect=error))
    monkeypatch.setattr(runner, "follow", follow)
    with pytest.raises(type(error)) as raised:
        runner.run_stage(run, "publish", promote=promote)
    assert raised.value.facts() == facts


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
    monkeypatch.setattr(runner, "complete", lambda *_, **__: {"status": "done"})
    return parents


def test_the_day_that_was_waited_for_is_the_parent(pipeline, publish, monkeypatch, planned):
    """A run that has read the log before sees what came since."""
    first = publish(18)
    run = DayRun(pipeline, DAY)
    assert run.parent().version == first
    monkeypatch.setattr(run_leases, "await_turn", lambda *_: publish(20, first))
    result = runner.run_stage(run, "train")
    assert planned == [result["parent"]] and planned[0].startswith("2024-02-20")
    later = publish(20, first)
    assert runner.run_stage(run, "embed")["parent"] == later


def test_a_day_whose_parent_is_rolled_back_meanwhile_is_trained_again(
    pipeline, monkeypatch, planned
):
    """In a run of the whole day; to publish alone it is an error that asks for that."""
    pipeline.train = SimpleNamespace(wait=timedelta(0))
    plan, made = runner.plan_stage, []

    def plan_stage(run, stage, mode, promote, **options):
        if stage.name == "publish" and "train" not in made:
            raise ParentChanged("it was rolled back")
        made.append(stage.name)
        return plan(run, stage, mode, promote, **options)

    monkeypatch.setattr(runner, "plan_stage", plan_stage)
    monkeypatch.setattr(runner, "complete", lambda *_, **__: {"live": True})
    with pytest.raises(ParentChanged) as raised:
        runner.run_stage(DayRun(pipeline, DAY), "publish")
    assert (raised.value.exit_code, made) == (75, [])
    runner.run_stage(DayRun(pipeline, DAY, lease="mine"), "publish")
    assert made == ["train", "measure", "embed", "index", "publish"]
    assert run_leases.state(pipeline, DAY) == "published"


def test_a_stage_whose_input_was_deleted_is_made_again(tmp_path):
    """The stages after it would look for that input: `forget` or `prune` may have deleted it."""
    (tmp_path / "shop.toml").write_text(PIPELINE)
    run = DayRun(load(tmp_path / "shop.toml"), DAY)

    def made(name, **inputs):
        about = {"pipeline": run.pipeline, "day": DAY, "mode": "full", "out": ""}
        made = {"facts": {}, "load": lambda: lambda _: {}, "parent": None}
        task = StageTask(stage=STAGES[name], context=StageContext(**about, inputs=inputs), **made)
        result = complete(run, task, force=False, began=0)
        return result["attempt"], result["status"]

    embed, _ = made("embed")
    assert made("index", embed=embed)[1] == "done"
    again, _ = made("embed")
    assert again == embed and made("index", embed=embed)[1] == "already done"
    storage.delete_tree(embed)
    again, _ = made("embed")
    assert again != embed and made("index", embed=again)[1] == "done"
    assert made("index", embed=again)[1] == "already done"
