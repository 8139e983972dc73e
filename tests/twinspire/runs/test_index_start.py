"""Which version's settings an index starts from, over a registry of versions that hold nothing."""

import json
from datetime import date
from pathlib import Path

import pytest

from index_builder.registry.parents import parent_of
from tests.twinspire.runs.conftest import day
from twinspire.runs.day_run import DayRun, find_start
from twinspire_core.contracts.attempts import Start


@pytest.fixture
def searched(publish, registry):
    """Publishes a version of a day whose index settings were searched for on another day."""

    def make(n, searched):
        version = publish(n)
        figures = {"kind": "exact", "items": 7, "dimension": 4, "k": 7, "reasons": [], "tried": []}
        figures |= {"recall": 1.0, "recall_error": 0.0, "recall_target": 0.9}
        figures |= {"settings": {"kind": "exact", "k": 7}}
        figures |= {"queries": {"tuning": 1, "measuring": 1, "source": "users"}}
        figures["tuning"] = {"how": "tuned", "searched": str(searched), "items": 7}
        figures["tuning"] |= {"kinds": [], "work": 14}
        Path(registry.place(version, "index.json")).write_text(json.dumps(figures))
        return version

    return make


@pytest.fixture
def start(pipeline):
    """What a day's index starts from."""

    def find(n):
        run = DayRun(pipeline, day(n))
        return find_start(run, parent_of(run.state, run.day))

    return find


def test_a_day_starts_from_the_settings_of_the_newest_accepted_version_before_it(searched, start):
    assert start(20).why == "there is no earlier version"
    first, second, third = (searched(n, day(k)) for n, k in ((20, 20), (22, 20), (24, 24)))
    starts = {20: None, 21: first, 22: first, 23: second, 25: third}
    assert {n: start(n).version for n in starts} == starts
    assert start(25).index.tuning.searched == "2024-02-24" and not start(25).why


def test_settings_are_tuned_again_every_28_days(searched, start):
    version = searched(20, date(2024, 1, 25))
    assert start(21).version == version and start(22).version is None
    assert f"settings of {version} are from 2024-01-25" in start(22).why


def test_settings_without_their_file_are_tuned_again(searched, start, registry):
    version = searched(20, day(20))
    Path(registry.place(version, "index.json")).unlink()
    unknown = Start(why=f"{version} does not say when its index settings were searched for")
    assert start(21) == unknown


def test_after_a_rollback_a_day_starts_from_the_version_that_it_goes_on_from(
    searched, start, registry
):
    """A day that was rolled back and is run again must not become another version and go live."""
    first, *_ = (searched(n, day(20)) for n in (20, 21, 22))
    before = start(21)
    registry.rollback(first, reason="bad")
    assert start(23).version == first and start(21) == before
    again = searched(23, day(23))
    assert start(24).version == again


def test_a_refresh_starts_from_the_version_of_its_towers(searched, pipeline):
    first, _ = searched(20, day(20)), searched(21, day(20))
    starts = [find_start(DayRun(pipeline, day(n)), first) for n in (20, 23, 29)]
    assert [start.version for start in starts] == [first] * 3
