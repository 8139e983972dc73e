"""Which version's settings an index starts from, over a registry of versions that hold nothing."""

import json
from datetime import date
from pathlib import Path

import pytest

from index_builder.registry.parents import parent_of
from index_builder.registry.registry import Registry
from tests.twinspire.runs.conftest import day
from twinspire.runs.day_run import DayRun, find_start
from twinspire_core.contracts.attempts import Start


@pytest.fixture
def searched(shop):
    """Publishes a version whose index settings were searched for on a day; also the registry."""
    pipeline, publish = shop
    registry = Registry(pipeline.registry.root, "shop")

    def make(n, searched=None):
        version = publish(n)
        figures = {"kind": "exact", "items": 7, "dimension": 4, "k": 7, "reasons": [], "tried": []}
        figures |= {"recall": 1.0, "recall_error": 0.0, "recall_target": 0.9}
        figures |= {"settings": {"kind": "exact", "k": 7}}
        figures |= {"queries": {"tuning": 1, "measuring": 1, "source": "users"}}
        if searched:
            figures["tuning"] = {"how": "tuned", "searched": str(searched), "items": 7}
            figures["tuning"] |= {"kinds": [], "work": 14}
        Path(registry.place(version, "index.json")).write_text(json.dumps(figures))
        return version

    return pipeline, make, registry


def start(pipeline, n):
    run = DayRun(pipeline, day(n))
    return find_start(run, parent_of(run.state, run.day))


def test_a_day_starts_from_the_settings_of_the_newest_accepted_version_before_it(searched):
    pipeline, make, _ = searched
    assert start(pipeline, 20).version is None
    one, two, three = make(20, day(20)), make(22, day(20)), make(24, day(24))
    starts = {n: start(pipeline, n) for n in (20, 21, 22, 23, 25)}
    assert {n: start.version for n, start in starts.items()} == {
        20: None,
        21: one,
        22: one,
        23: two,
        25: three,
    }
    assert starts[25].index.tuning.searched == "2024-02-24" and not starts[25].why
    assert starts[20].why == "there is no earlier version"


def test_settings_are_tuned_again_every_28_days(searched):
    pipeline, make, _ = searched
    version = make(20, date(2024, 1, 25))
    assert start(pipeline, 21).version == version
    result = start(pipeline, 22)
    assert result.version is None
    assert f"settings of {version} are from 2024-01-25" in result.why


def test_settings_without_their_file_are_tuned_again(searched):
    pipeline, make, registry = searched
    version = make(20, day(20))
    unknown = Start(why=f"{version} does not say when its index settings were searched for")
    Path(registry.place(version, "index.json")).unlink()
    assert start(pipeline, 21) == unknown


def test_after_a_rollback_a_day_starts_from_the_version_that_it_goes_on_from(searched):
    pipeline, make, registry = searched
    one, *_ = (make(n, day(20)) for n in (20, 21, 22))
    registry.rollback(one, reason="bad")
    assert start(pipeline, 23).version == start(pipeline, 21).version == one
    again = make(23, day(23))
    assert start(pipeline, 24).version == again


def test_a_day_that_was_rolled_back_starts_as_it_did_before(searched):
    """Run again, it must not become another version and go live."""
    pipeline, make, registry = searched
    one, _ = make(20, day(20)), make(21, day(20))
    before = start(pipeline, 21)
    registry.rollback(one, reason="bad")
    assert start(pipeline, 21) == before and before.version == one


def test_a_refresh_starts_from_the_version_of_its_towers(searched):
    pipeline, make, _ = searched
    one, _ = make(20, day(20)), make(21, day(20))
    assert all(find_start(DayRun(pipeline, day(n)), one).version == one for n in (20, 23, 29))
