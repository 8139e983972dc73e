"""Which working files `prune` takes for unused."""

from datetime import date, timedelta
from types import SimpleNamespace

import pytest

from twinspire.cli.change_versions import unused_working_files
from twinspire.runs import run_leases
from twinspire_core import storage
from twinspire_core.contracts import attempts
from twinspire_core.contracts.attempts import Attempt

DAY = date(2024, 2, 21)


@pytest.fixture
def pipeline(tmp_path):
    return SimpleNamespace(name="shop", pipeline=SimpleNamespace(work_root=str(tmp_path)))


def commit(pipeline):
    uri = attempts.begin(pipeline, DAY, "features")
    attempts.commit(
        Attempt(
            uri=uri,
            key="",
            config="",
            output="",
            mode="full",
            parent=None,
            inputs={},
            summary={},
        )
    )
    return uri


def unused(pipeline):
    return unused_working_files(pipeline, set(), keep_days=7, today=DAY)


def test_what_a_newer_attempt_replaced_is_unused(pipeline):
    first, second = commit(pipeline), commit(pipeline)
    assert unused(pipeline) == [first]
    commit(pipeline)
    assert unused(pipeline) == [first, second]


def test_an_attempt_that_is_committed_meanwhile_does_no_harm(pipeline, monkeypatch):
    first = commit(pipeline)
    list_names = storage.list_names

    def list_and_commit(uri):
        names = list_names(uri)
        if uri.endswith("/features"):
            monkeypatch.undo()
            commit(pipeline)
        return names

    monkeypatch.setattr(storage, "list_names", list_and_commit)
    assert unused(pipeline) == []
    assert unused(pipeline) == [first]


def test_an_old_day_that_is_being_made_keeps_its_files_until_its_run_has_ended(pipeline):
    home = commit(pipeline)
    later = DAY + timedelta(days=8)

    def old():
        return unused_working_files(pipeline, set(), keep_days=7, today=later)

    run_leases.acquire_day(pipeline, DAY, "backfill")
    assert old() == []
    run_leases.release_day(pipeline, DAY, "backfill", run_leases.FAILED)
    assert old() == [home]
