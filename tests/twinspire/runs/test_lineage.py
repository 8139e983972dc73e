"""Which days did not learn from which, over a registry of versions that hold nothing."""

import hashlib
import json
import shutil
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest

from index_builder.registry.registry import Registry
from twinspire.runs import lineage
from twinspire_core.contracts import attempts
from twinspire_core.contracts.manifest import File, Manifest
from twinspire_core.contracts.stage_context import Gap, Start


def day(n):
    return date(2024, 2, n)


@pytest.fixture
def shop(tmp_path):
    """A pipeline whose logs miss the 27th, and a function that publishes a version of a day."""
    pipeline = SimpleNamespace(
        name="shop",
        pipeline=SimpleNamespace(work_root=str(tmp_path / "work")),
        registry=SimpleNamespace(root=str(tmp_path / "registry")),
        source=SimpleNamespace(events=f"{tmp_path}/events/dt={{date}}/"),
    )
    for n in (*range(20, 27), 28, 29):
        (tmp_path / f"events/dt={day(n)}").mkdir(parents=True)
        (tmp_path / f"events/dt={day(n)}/part.csv").touch()
    registry, count = Registry(pipeline.registry.root, "shop"), iter(range(99))

    def publish(n, parent=None, *, accepted=True, sources=None, refreshes=None, corpus=None):
        content = str(next(count)).encode()
        (tmp_path / "staged").mkdir(exist_ok=True)
        (tmp_path / "staged/file").write_bytes(content)
        files = {"file": File(sha256=hashlib.sha256(content).hexdigest(), size=len(content))}
        more = {"sources": sources or {}, "refreshes": refreshes, "corpus_date": corpus}
        described = Manifest.create(
            pipeline="shop", day=day(n), files=files, parent=parent, items=1, dimension=1, **more
        )
        registry.publish(str(tmp_path / "staged"), described, accepted=accepted, reason="")
        return described.version

    return pipeline, publish


def test_gaps_are_days_with_logs_in_unbroken_stretches(shop):
    pipeline, publish = shop
    one = publish(21)
    publish(23, one, accepted=False)
    publish(25, one)
    found = lineage.missing(pipeline, day(21), date(2024, 3, 1))
    # And no day after February
    assert found == [Gap(day(22), day(24)), Gap(day(26), day(26)), Gap(day(28), day(29))]
    assert (
        found[0].told("a-shop")["command"]
        == "twinspire run a-shop --from 2024-02-22 --to 2024-02-24"
    )
    assert (
        lineage.missing(pipeline, None, day(29))
        == lineage.missing(pipeline, day(28), day(29))
        == []
    )


def test_a_day_that_was_never_trained_would_go_on_from_the_newest(shop):
    pipeline, publish = shop
    publish(21)
    assert lineage.lineage(pipeline, day(23)).gaps == [Gap(day(22), day(22))]
    assert lineage.lineage(pipeline, day(20)) == lineage.Lineage(
        gaps=[], filled=[], heirs=[], later=Gap(day(20), day(21))
    )


def test_heirs_of_a_filled_day_are_all_that_descend_from_those_that_passed_it_by(shop):
    pipeline, publish = shop
    first = publish(20)
    passed = publish(22, first)
    publish(23, passed)
    publish(24)  # from scratch: it learned from all days of its window
    filled = publish(21, first)
    assert lineage.lineage(pipeline, day(21)).heirs == [Gap(day(22), day(23))]
    publish(22, filled)
    assert lineage.lineage(pipeline, day(21)).heirs == [Gap(day(23), day(23))]


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
        figures = {
            "kind": "exact",
            "items": 7,
            "dimension": 4,
            "k": 7,
            "recall": 1.0,
            "recall_error": 0.0,
            "recall_target": 0.9,
            "settings": {"kind": "exact", "k": 7},
            "reasons": [],
            "queries": {"tuning": 1, "measuring": 1, "source": "users"},
            "tried": [],
        }
        if searched:
            origin = {
                "how": "tuned",
                "searched": str(searched),
                "items": 7,
                "kinds": [],
                "work": 14,
            }
            figures["tuning"] = origin
        Path(registry.place(version, "index.json")).write_text(json.dumps(figures))
        return version

    return pipeline, make, registry


def start(pipeline, n, vectors="new"):
    return lineage.find_start(pipeline, day(n), vectors)


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
    assert (
        found.version is None
        and f"settings of {version} were searched for on 2024-01-25" in found.why
    )


def test_settings_that_nobody_dated_are_searched_for_anew(searched):
    pipeline, make, registry = searched
    version = make(20)
    unknown = Start(why=f"{version} does not tell when its settings were searched for")
    assert start(pipeline, 21) == unknown
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
        return lineage.find_start_of_refresh(pipeline, one, day(n), key)

    one = make(20, day(20))
    two = make(21, day(20))
    third = make(20, day(20), refreshes=one, corpus=day(23), key="this")
    assert all(refreshed(n).version == one for n in (20, 21, 22, 23))
    registry.rollback(one, reason="bad")
    assert refreshed(20).version == one, "which is older than what went wrong"
    assert (
        all(refreshed(n) == Start(why=f"{two} was rolled back") for n in (21, 22, 23, 24))
        and two > third
    )
    assert refreshed(23, "this").version == one, "done over, it is the same version"


def test_a_refresh_of_a_rolled_back_refresh_searches_anew(searched):
    pipeline, make, registry = searched
    one = make(20, day(20))
    bad = make(20, day(20), refreshes=one, corpus=day(22), key="this")
    registry.rollback(one, reason="bad")
    starts = {
        n: lineage.find_start_of_refresh(pipeline, one, day(n), "other") for n in (21, 22, 23)
    }
    assert starts[21].version == one and starts[22] == starts[23] == Start(
        why=f"{bad} was rolled back"
    )
    assert start(pipeline, 22).version == one, "a day is no run again of a refresh"
    assert start(pipeline, 23) == Start(why=f"{bad} was rolled back")
    shutil.rmtree(attempts.place(pipeline, f"dt={day(22)}/refresh"))
    assert lineage.find_start_of_refresh(pipeline, one, day(22), "other").version == one, (
        "nobody knows any more"
    )
