"""Which version's settings an index starts from, over a registry of versions that hold nothing."""

import json
import shutil
from datetime import date
from pathlib import Path

import pytest

from index_builder.registry.registry import Registry
from twinspire.runs.day_run import DayRun, find_start, find_start_of_refresh
from twinspire_core.contracts import attempts
from twinspire_core.contracts.attempts import Start


def day(n):
    return date(2024, 2, n)


@pytest.fixture
def searched(shop):
    """Publishes a version whose index settings were searched for on a day; also the registry.

    Each has vectors of its own, unless they are named. A refresh names the version that it is one
    of, and its key.
    """
    pipeline, publish = shop
    registry = Registry(pipeline.registry.root, "shop")

    def make(n, searched=None, *, vectors=None, refreshes=None, corpus=None, key=""):
        stage = "refresh" if refreshes else "embed"
        uri = attempts.begin(pipeline, corpus or day(n), stage)
        about = {"config": "", "mode": "full", "parent": None, "inputs": {}, "summary": {}}
        attempts.commit(attempts.Attempt(uri=uri, key=key, output=vectors or uri, **about))
        embed = attempts.name(pipeline, uri) + ("/embed" if refreshes else "")
        version = publish(n, sources={"embed": embed}, refreshes=refreshes, corpus=corpus)
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


def start(pipeline, n, vectors="new"):
    return find_start(DayRun(pipeline, day(n)), vectors)


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


def test_settings_are_searched_for_anew_every_28_days(searched):
    pipeline, make, _ = searched
    version = make(20, date(2024, 1, 25))
    assert start(pipeline, 21).version == version
    found = start(pipeline, 22)
    assert found.version is None
    assert f"settings of {version} are from 2024-01-25" in found.why


def test_settings_whose_file_is_gone_are_searched_for_anew(searched):
    pipeline, make, registry = searched
    version = make(20, day(20))
    unknown = Start(why=f"{version} does not say when its index settings were searched for")
    Path(registry.place(version, "index.json")).unlink()
    assert start(pipeline, 21) == unknown


def test_settings_are_searched_for_anew_after_a_rollback_and_inherited_again_from_there(searched):
    pipeline, make, registry = searched
    one, two, three = (make(n, day(20)) for n in (20, 21, 22))
    registry.rollback(one, reason="bad")
    assert start(pipeline, 23) == Start(why=f"{three} was rolled back")
    assert start(pipeline, 22) == Start(why=f"{three} was rolled back"), (
        "the day itself, with other logs"
    )
    assert start(pipeline, 21) == Start(why=f"{two} was rolled back")
    again = make(23, day(23))
    assert start(pipeline, 24).version == again


def test_a_day_that_was_rolled_back_is_done_as_it_was_while_its_inputs_are_the_same(searched):
    """Run again, it must not become another version and go live."""
    pipeline, make, registry = searched
    one, two = make(20, day(20)), make(21, day(20), vectors="first")
    assert start(pipeline, 21, "first") == (before := start(pipeline, 21)) and before.version == one
    registry.rollback(one, reason="bad")
    assert start(pipeline, 21, "first") == before
    mended = make(21, day(21), vectors="mended")
    anew = Start(why=f"{two} was rolled back")
    assert start(pipeline, 21, "mended") == anew, "what was made from mended logs stays done"
    assert start(pipeline, 22).version == mended
    registry.rollback(one, reason="bad again")
    assert start(pipeline, 21, "mended") == anew, "and when it is rolled back too"
    assert start(pipeline, 21, "first") == before


def test_a_day_that_was_rolled_back_and_whose_working_files_are_gone_inherits(searched):
    pipeline, make, registry = searched
    one, two = make(20, day(20)), make(21, day(20))
    registry.rollback(one, reason="bad")
    shutil.rmtree(attempts.place(pipeline, f"dt={day(21)}/embed"))
    assert start(pipeline, 21).version == one
    assert start(pipeline, 22) == Start(why=f"{two} was rolled back")


def test_a_refresh_searches_anew_after_a_rollback(searched):
    pipeline, make, registry = searched

    def refreshed(n, key="other"):
        return find_start_of_refresh(DayRun(pipeline, day(n)), one, key)

    one = make(20, day(20))
    two = make(21, day(20))
    third = make(20, day(20), refreshes=one, corpus=day(23), key="this")
    assert all(refreshed(n).version == one for n in (20, 21, 22, 23))
    registry.rollback(one, reason="bad")
    assert refreshed(20).version == one, "which is older than what went wrong"
    assert all(refreshed(n) == Start(why=f"{two} was rolled back") for n in (21, 22, 23, 24))
    assert two > third
    assert refreshed(23, "this").version == one, "done over, it is the same version"


def test_a_refresh_of_a_rolled_back_refresh_searches_anew(searched):
    pipeline, make, registry = searched
    one = make(20, day(20))
    bad = make(20, day(20), refreshes=one, corpus=day(22), key="this")
    registry.rollback(one, reason="bad")
    starts = {
        n: find_start_of_refresh(DayRun(pipeline, day(n)), one, "other") for n in (21, 22, 23)
    }
    assert starts[21].version == one
    assert starts[22] == starts[23] == Start(why=f"{bad} was rolled back")
    assert start(pipeline, 22).version == one, "a day is no run again of a refresh"
    assert start(pipeline, 23) == Start(why=f"{bad} was rolled back")
    shutil.rmtree(attempts.place(pipeline, f"dt={day(22)}/refresh"))
    assert find_start_of_refresh(DayRun(pipeline, day(22)), one, "other").version == one, (
        "nobody knows any more"
    )
