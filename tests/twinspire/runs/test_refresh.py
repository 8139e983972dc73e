import sys
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest

from twinspire.runs import refresh, task_attempts
from twinspire.runs.day_run import DayRun
from twinspire.runs.refresh import Towers, _load, plan_refresh
from twinspire.runs.stage_tasks import StageTask
from twinspire.runs.stages import REFRESH
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.errors import BadData, GateRefused

DAY = date(2024, 2, 21)


def test_a_damaged_version_is_found_while_its_store_can_be_reached(tmp_path):
    """Google's library cannot be imported while Beam is."""

    def verify(version):
        assert sys.modules.get("google.cloud", ...) is not None
        raise BadData(f"{version} is damaged")

    pipeline = SimpleNamespace(
        name="shop",
        pipeline=SimpleNamespace(work_root=str(tmp_path)),
        beam=SimpleNamespace(options={}),
    )
    run = SimpleNamespace(pipeline=pipeline, day=DAY, registry=SimpleNamespace(verify=verify))
    holder = SimpleNamespace(version="a version")
    task = StageTask(
        stage=REFRESH,
        facts={},
        context=StageContext(pipeline=pipeline, day=DAY, mode="incremental", out=""),
        load=lambda: _load(run, Towers("a version", holder, "a version"), {}),
        parent="a version",
    )
    with pytest.raises(BadData, match="a version is damaged"):
        task_attempts._make(run, task, key="", config="")


def test_a_day_without_a_row_of_logs_is_refused_whosever_towers_are_asked_for(shop, monkeypatch):
    """A folder with an empty file holds none; the other folders' files have none either."""
    pipeline, publish = shop
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
    monkeypatch.setattr(refresh, "source_digests", lambda *_: {})
    for version in (None, other):
        assert plan(22, version).context.day == date(2024, 2, 22)
        with pytest.raises(GateRefused, match="Refresh 2024-02-22, the newest day with logs"):
            plan(23, version)
    assert plan(21, other).parent == other, "a day trained late takes up the live catalogue"
