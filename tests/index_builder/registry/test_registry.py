import os
import time
from datetime import date
from pathlib import Path

import pytest

from index_builder.registry.registry import Registry, unpublished
from tests.index_builder.registry.staging import ONE, THREE, TWO, staged
from twinspire_core import storage
from twinspire_core.contracts.version_manifest import FORMAT_VERSION
from twinspire_core.errors import BadData, TryAgain, UsageError


def test_without_a_live_version_the_remedy_is_named(registry):
    with pytest.raises(UsageError, match="twinspire run"):
        registry.open()


def test_a_refused_version_is_stored_logged_and_not_inherited(publish, registry):
    good, bad = publish(ONE), publish(TWO, accepted=False)
    assert registry.live() == good and registry.accepted_before(THREE).version == good
    assert [e.action for e in registry.log()] == ["publish", "refuse"]
    assert registry.verify(bad).version == bad
    with pytest.raises(UsageError, match="despite-gate"):
        registry.promote(bad, reason="hope")
    registry.promote(bad, reason="known holiday", despite_gate=True)
    assert registry.live() == bad and registry.accepted_before(THREE).version == bad


def test_a_report_makes_no_other_version(registry, tmp_path):
    """The first run's report stays, is digested, and found damaged like the rest."""
    for report in (b"quick", b"slow"):
        folder, manifest = staged(tmp_path / str(report), ONE, "x")
        registry.publish(
            folder, manifest, accepted=True, reason="", side_files={"report.html": report}
        )
    version = registry.live()
    assert [e.version for e in registry.log()] == [version] == [manifest.version]
    assert (registry.open(cache=tmp_path / "cache") / "report.html").read_bytes() == b"quick"
    assert set(registry.verify(version).files) == {"items.txt", "index/data.txt", "report.html"}
    storage.write_bytes(storage.join(registry.root, "p/versions", version, "report.html"), b"other")
    with pytest.raises(BadData, match=r"report\.html"):
        registry.verify(version)


def test_two_runs_at_once_agree_on_one_report(registry, tmp_path, monkeypatch):
    """The second run stores all that it has, its manifest too, just before the first one's report
    is written.
    """
    runs = [staged(tmp_path / name, ONE, "x") for name in ("first", "second")]
    real, waiting = storage.put_if_absent, [runs[1]]

    def put(uri, data):
        if uri.endswith("report.html") and waiting:
            registry.publish(
                *waiting.pop(), accepted=True, reason="", side_files={"report.html": b"second"}
            )
        return real(uri, data)

    monkeypatch.setattr(storage, "put_if_absent", put)
    registry.publish(*runs[0], accepted=True, reason="", side_files={"report.html": b"first"})
    assert len(registry.log()) == 1 and registry.verify(registry.live())
    assert (registry.open(cache=tmp_path / "cache") / "report.html").read_text() == "second"


def test_after_a_rollback_later_versions_are_not_inherited(publish, registry):
    one, two, three = publish(ONE), publish(TWO), publish(THREE)
    entry = registry.rollback(one, reason="bad logs")
    assert registry.live() == one and set(entry.rolled_back) == {two, three}
    assert registry.accepted_before(date(2017, 10, 9)).version == one
    fates = {one: "live", two: "rolled back", three: "rolled back"}
    assert {s.version: s.status for s in registry.statuses()} == fates
    publish(THREE)
    assert registry.live() == one, "the same content does not come back by itself"
    publish(THREE, promote="yes")
    assert registry.live() == one, "nor by a rerun that promotes older days"
    registry.promote(three, reason="it was not that", despite_gate=True)
    assert registry.live() == three


def test_a_rollback_goes_to_the_version_that_was_live_before(publish, registry):
    with pytest.raises(UsageError, match="accepted version"):
        registry.rollback(reason="nothing there")
    one = publish(ONE)
    with pytest.raises(UsageError, match="accepted version"):
        registry.rollback(reason="nowhere to go")
    publish(TWO)
    assert registry.rollback(reason="worse").live == one


def test_a_folder_that_does_not_match_its_manifest_is_not_published(registry, tmp_path):
    folder, manifest = staged(tmp_path / "staged", ONE, "x")
    Path(folder, "items.txt").write_text("y")
    with pytest.raises(BadData, match=r"items\.txt"):
        registry.publish(folder, manifest, accepted=True, reason="")
    assert registry.log() == []


def set_format(registry, version: str, number: int) -> None:
    place = storage.join(registry.root, "p/versions", version, "manifest.json")
    of_now = f'"format_version": {FORMAT_VERSION}'.encode()
    content = storage.read_bytes(place)
    assert of_now in content
    storage.write_bytes(place, content.replace(of_now, f'"format_version": {number}'.encode()))


def test_a_newer_format_is_refused(registry, publish):
    version = publish(ONE)
    set_format(registry, version, FORMAT_VERSION + 1)
    with pytest.raises(BadData, match="Upgrade"):
        registry.manifest(version)


def test_nothing_answers_by_a_version_of_an_older_format_but_days_go_on_from_it(registry, publish):
    older, newer = publish(ONE), publish(TWO)
    set_format(registry, older, FORMAT_VERSION - 1)
    again = f"twinspire run PIPELINE --date {ONE} --force"
    for use in (
        registry.open,
        registry.verify,
        lambda version: registry.promote(version, reason=""),
        lambda version: registry.rollback(version, reason=""),
        lambda _: registry.rollback(reason=""),
    ):
        with pytest.raises(BadData, match=again):
            use(older)
    assert registry.live() == newer and len(registry.log()) == 2
    assert registry.accepted_before(TWO).version == older
    assert [one.version for one in registry.statuses()] == [newer, older]
    registry.delete(older)
    assert registry.folders() == [newer]


def test_what_an_unfinished_publication_left_is_discarded(registry, publish, tmp_path, monkeypatch):
    one = publish(ONE)
    with monkeypatch.context() as patch, pytest.raises(TryAgain):
        patch.setattr(Registry, "_append", _give_up)
        publish(TWO, "given up")
    storage.write_bytes(
        f"{registry.root}/p/versions/2017-10-03-00000000/half", b"killed before its manifest"
    )
    folders = storage.list_names(f"{registry.root}/p/versions")
    [left] = [name for name in folders if name[:10] == "2017-10-02"]
    with pytest.raises(UsageError, match="never published"):
        registry.promote(left, reason="it looks whole")
    now = time.time()
    assert unpublished(registry, before=now - 60) == [], "somebody may be at work there"
    assert unpublished(registry, before=now + 60) == [left, "2017-10-03-00000000"]
    for name in unpublished(registry, before=now + 60):
        registry.discard(name, before=now + 60)
    assert unpublished(registry, before=now + 60) == []
    assert storage.list_names(f"{registry.root}/p/versions") == [one]
    assert registry.live() == one == registry.state().accepted[0]
    assert [s.version for s in registry.statuses()] == [one]
    with pytest.raises(UsageError, match="pruned"):
        publish(TWO, "given up")
    assert registry.live() == one


def _give_up(*_):
    raise TryAgain("other towers went live")


def test_what_is_published_meanwhile_is_not_discarded(registry, publish):
    one = publish(ONE)
    registry.discard(one, before=time.time() + 60)
    assert registry.verify(registry.live()).version == one and len(registry.log()) == 1


def test_what_goes_on_being_published_is_neither_listed_nor_discarded(tmp_path):
    """No file of a new folder is finished yet; one that a killed publication left is being
    finished.
    """
    registry, before = Registry(str(tmp_path), "p"), time.time() - 60
    new, again = (
        tmp_path / "p/versions" / name for name in ("2017-10-02-00000000", "2017-10-03-00000000")
    )
    for folder, name in ((new, ".tmp-0123"), (again, "items.txt")):
        folder.mkdir(parents=True)
        (folder / name).touch()
    for place in (new, again, again / "items.txt"):
        os.utime(place, (before - 60,) * 2)
    assert unpublished(registry, before=before) == [again.name]
    (again / ".tmp-4567").touch()
    registry.discard(again.name, before=before)
    assert (again / "items.txt").exists() and registry.log() == []
    assert unpublished(registry, before=before) == []
    for place in (new / ".tmp-0123", again / ".tmp-4567", again):
        os.utime(place, (before - 60,) * 2)
    assert unpublished(registry, before=before) == [new.name, again.name], (
        "their writers were killed"
    )
