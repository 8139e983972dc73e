"""What a refresh does before its first step."""

import sys
from datetime import date
from types import SimpleNamespace

import pytest

from twinspire.runs import task_attempts
from twinspire.runs.refresh import Towers, _load
from twinspire.runs.stage_tasks import StageTask
from twinspire.runs.stages import REFRESH
from twinspire_core.contracts.stage_context import StageContext
from twinspire_core.errors import BadData

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
