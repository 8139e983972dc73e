"""A day whose working files and registry are in an object store that fails."""

import os
from types import SimpleNamespace

import pytest

from tests.object_servers import ADDRESS
from tests.store_faults import faulty_store
from tests.system.days import STAGES, THIRD, registry_of, twinspire

pytestmark = pytest.mark.system
OFTEN = {"429": 0.05, "503": 0.05, "lost": 0.03, "cut": 0.03, "half": 0.03, "slow": 0.03}


@pytest.fixture
def remote(remote_shop, monkeypatch):
    """The shop after two days, in the store: its pipeline file and the proxy before the store."""
    scheme = registry_of(remote_shop).root.partition(":")[0]
    with faulty_store(os.environ[ADDRESS[scheme]], seed=1) as store:
        monkeypatch.setenv(ADDRESS[scheme], store.url)
        yield SimpleNamespace(pipeline_file=remote_shop, store=store, scheme=scheme)


def published(pipeline_file):
    """What is published, each version read through and found whole."""
    registry = registry_of(pipeline_file)
    for version in registry.state().accepted:
        registry.verify(version)
    return [(entry.action, entry.version, entry.live) for entry in registry.log()]


def test_a_failing_store_gets_each_version_once(remote, undisturbed):
    remote.store.shares = OFTEN
    done = {stage: twinspire(stage, str(remote.pipeline_file), "--date", THIRD) for stage in STAGES}
    remote.store.shares = {}
    assert published(remote.pipeline_file) == undisturbed.result["log"]
    assert {stage: one["status"] for stage, one in done.items()} == dict.fromkeys(STAGES, "done")
    assert all(remote.store.met[fault] for fault in OFTEN)


def test_a_read_only_store_is_named_and_the_day_continues_afterwards(remote, undisturbed):
    for stage in STAGES:
        remote.store.shares = {"403": 1.0}
        remote.store.only = "POST" if remote.scheme == "gs" else "PUT"
        outcome = twinspire(stage, str(remote.pipeline_file), "--date", THIRD, check=2)
        assert (
            f"{remote.scheme}://" in outcome["reason"]
            and "This account has no access to" in outcome["reason"]
        ), stage
        remote.store.shares = {}
        twinspire(stage, str(remote.pipeline_file), "--date", THIRD)
    assert published(remote.pipeline_file) == undisturbed.result["log"]


def test_a_stage_retries_for_two_minutes_when_the_store_is_away(remote, undisturbed):
    """After some requests it answers 503 to all that come."""
    for stage in STAGES:
        # One stage that also reads by Beam, and the last.
        if (after := {"features": 10, "publish": 5}.get(stage)) is not None:
            remote.store.away_after = remote.store.requests.total() + after
            outcome = twinspire(stage, str(remote.pipeline_file), "--date", THIRD, check=75)
            assert f"{remote.scheme}://" in outcome["reason"], stage
            remote.store.away_after = None
        twinspire(stage, str(remote.pipeline_file), "--date", THIRD)
    assert published(remote.pipeline_file) == undisturbed.result["log"]
