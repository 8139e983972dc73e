"""The registry as a reader sees it, whatever happens to writers."""

import random
from datetime import date
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from index_builder.manifest import File, Manifest
from index_builder.registry import Registry
from twinspire import storage
from twinspire.errors import BadData, UsageError

ONE, TWO, THREE = date(2017, 10, 1), date(2017, 10, 2), date(2017, 10, 3)


def staged(folder: Path, day: date, text: str) -> tuple[str, Manifest]:
    """A folder with two files that both say `text`, and its manifest."""
    (folder / "index").mkdir(parents=True)
    for name in ("items.txt", "index/data.txt"):
        (folder / name).write_text(text)
    files = {f.path: File(sha256=storage.file_digest(f.uri), size=f.size) for f in storage.list_files(str(folder))}
    return str(folder), Manifest.create(pipeline="p", day=day, files=files, items=1, dimension=2)


@pytest.fixture
def registry(place):
    return Registry(place, "p")


@pytest.fixture
def publish(registry, tmp_path):
    """Publishes a version of a day; its id."""

    def publish(day, text="x", *, accepted=True, promote="auto"):
        folder, manifest = staged(tmp_path / f"staged-{random.random()}", day, text)
        registry.publish(folder, manifest, accepted=accepted, reason="because", promote=promote)
        return manifest.version

    return publish


def test_what_is_published_is_live_and_whole(registry, publish, tmp_path):
    version = publish(ONE, "first")
    home = registry.open(cache=tmp_path / "cache")
    assert registry.live() == version and version.startswith("2017-10-01-")
    assert (home / "items.txt").read_text() == (home / "index/data.txt").read_text() == "first"
    assert registry.open(cache=tmp_path / "cache") == home


def test_without_a_live_version_the_remedy_is_named(registry):
    with pytest.raises(UsageError, match="twinspire run"):
        registry.open()


@pytest.mark.parametrize(("promote", "live"), [("auto", "new"), ("yes", "old"), ("no", "new")])
def test_an_older_day_goes_live_only_when_asked(publish, registry, promote, live):
    new = publish(TWO)
    old = publish(ONE, promote=promote)
    assert registry.live() == {"new": new, "old": old}[live]
    assert registry.accepted() == [new, old]


def test_a_newer_day_may_be_kept_from_going_live(publish, registry):
    old, new = publish(ONE), publish(TWO, promote="no")
    assert registry.live() == old and registry.accepted_before(THREE).version == new


def test_a_refused_version_is_stored_logged_and_not_inherited(publish, registry):
    good, bad = publish(ONE), publish(TWO, accepted=False)
    assert registry.live() == good and registry.accepted_before(THREE).version == good
    assert [e.action for e in registry.log()] == ["publish", "refuse"]
    assert registry.verify(bad).version == bad
    with pytest.raises(UsageError, match="despite-gate"):
        registry.promote(bad, reason="hope")
    registry.promote(bad, reason="known holiday", despite_gate=True)
    assert registry.live() == bad and registry.accepted_before(THREE).version == bad


def test_the_parent_is_the_newest_accepted_day_strictly_before(publish, registry):
    one, _ = publish(ONE), publish(THREE)
    two = publish(TWO)
    assert registry.accepted_before(THREE).version == two
    assert registry.accepted_before(TWO).version == one
    assert registry.accepted_before(ONE) is None


def test_of_two_versions_of_a_day_the_later_published_is_the_parent(publish, registry):
    publish(ONE, "first")
    again = publish(ONE, "again")
    assert registry.accepted_before(TWO).version == again == registry.live()


def test_publishing_again_changes_nothing(publish, registry):
    version = publish(ONE)
    before = registry.log()
    assert publish(ONE) == version and registry.log() == before
    publish(TWO, "refused", accepted=False)
    publish(TWO, "refused", accepted=False)
    assert len(registry.log()) == 2


def test_a_report_makes_no_other_version(registry, tmp_path):
    """The first run's report stays, is digested, and found damaged like the rest."""
    for report in (b"quick", b"slow"):
        folder, manifest = staged(tmp_path / str(report), ONE, "x")
        registry.publish(folder, manifest, accepted=True, reason="", about={"report.html": report})
    version = registry.live()
    assert [e.version for e in registry.log()] == [version] == [manifest.version]
    assert (registry.open(cache=tmp_path / "cache") / "report.html").read_bytes() == b"quick"
    assert set(registry.verify(version).files) == {"items.txt", "index/data.txt", "report.html"}
    storage.write_bytes(storage.join(registry.root, "p/versions", version, "report.html"), b"other")
    with pytest.raises(BadData, match=r"report\.html"):
        registry.verify(version)


def test_two_runs_at_once_agree_on_one_report(registry, tmp_path, monkeypatch):
    """The second run stores all that it has, its manifest too, just before the first one's report is written."""
    runs = [staged(tmp_path / name, ONE, "x") for name in ("first", "second")]
    real, waiting = storage.put_if_absent, [runs[1]]

    def put(uri, data):
        if uri.endswith("report.html") and waiting:
            registry.publish(*waiting.pop(), accepted=True, reason="", about={"report.html": b"second"})
        return real(uri, data)

    monkeypatch.setattr(storage, "put_if_absent", put)
    registry.publish(*runs[0], accepted=True, reason="", about={"report.html": b"first"})
    assert len(registry.log()) == 1 and registry.verify(registry.live())
    assert (registry.open(cache=tmp_path / "cache") / "report.html").read_text() == "second"


def test_after_a_rollback_later_versions_are_not_inherited(publish, registry):
    one, two, three = publish(ONE), publish(TWO), publish(THREE)
    entry = registry.rollback(one, reason="bad logs")
    assert registry.live() == one and set(entry.rolled_back) == {two, three}
    assert registry.accepted_before(date(2017, 10, 9)).version == one
    assert {s.version: s.status for s in registry.statuses()} == {one: "live", two: "rolled back", three: "rolled back"}
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


@pytest.mark.parametrize("damage", ["truncate", "alter", "remove"])
def test_a_damaged_file_is_found(publish, registry, tmp_path, damage):
    version = publish(ONE, "twelve bytes")
    victim = storage.join(registry.root, "p/versions", version, "index/data.txt")
    if damage == "remove":
        storage.delete_file(victim)
    else:
        storage.write_bytes(victim, b"twelve" if damage == "truncate" else b"TWELVE BYTES")
    for use in (
        registry.verify,
        lambda v: registry.open(v, cache=tmp_path / "cache"),
        lambda v: registry.promote(v, reason=""),
    ):
        with pytest.raises(BadData, match=r"index/data\.txt"):
            use(version)


def test_a_folder_that_does_not_match_its_manifest_is_not_published(registry, tmp_path):
    folder, manifest = staged(tmp_path / "staged", ONE, "x")
    Path(folder, "items.txt").write_text("y")
    with pytest.raises(BadData, match=r"items\.txt"):
        registry.publish(folder, manifest, accepted=True, reason="")
    assert registry.log() == []


def test_a_newer_format_is_refused(registry, publish):
    version = publish(ONE)
    place = storage.join(registry.root, "p/versions", version, "manifest.json")
    storage.write_bytes(place, storage.read_bytes(place).replace(b'"format_version": 1', b'"format_version": 2'))
    with pytest.raises(BadData, match="upgrade"):
        registry.manifest(version)


def test_pruning_spares_the_live_the_pinned_and_the_newest(publish, registry):
    days = [date(2017, 10, d) for d in range(1, 9)]
    made = [publish(day) for day in days]
    registry.pin(made[0])
    registry.rollback(made[1], reason="")
    spare = registry.prunable(keep=2, keep_days=3, today=date(2017, 10, 9))
    assert sorted(spare) == made[2:5]
    for version in spare:
        registry.delete(version)
    assert [s.stored for s in registry.statuses()] == [True, True, True, False, False, False, True, True]
    for kept in made[:2]:
        with pytest.raises(UsageError, match="pinned"):
            registry.delete(kept)


class Deeds(RuleBasedStateMachine):
    """Random deeds against a plain model of what should be live, inherited and kept."""

    def __init__(self):
        super().__init__()
        import tempfile

        self.home = tempfile.TemporaryDirectory()
        self.registry = Registry(f"{self.home.name}/registry", "p")
        self.live, self.accepted, self.day, self.count = None, [], {}, 0
        self.stored, self.pinned = set(), set()

    def teardown(self):
        self.home.cleanup()

    @rule(day=st.integers(1, 9), accepted=st.booleans(), promote=st.sampled_from(["auto", "yes", "no"]))
    def publish(self, day, accepted, promote):
        self.count += 1
        folder, manifest = staged(Path(self.home.name, str(self.count)), date(2017, 10, day), str(self.count))
        self.registry.publish(folder, manifest, accepted=accepted, reason="", promote=promote)
        self.day[manifest.version] = day
        self.stored.add(manifest.version)
        if accepted:
            self.accepted.append(manifest.version)
            newer = self.live is None or day >= self.day[self.live]
            if promote == "yes" or (promote == "auto" and newer):
                self.live = manifest.version

    @precondition(lambda self: self.stored)
    @rule(data=st.data(), despite=st.booleans())
    def promote(self, data, despite):
        version = data.draw(st.sampled_from(sorted(self.stored)))
        if version not in self.accepted and not despite:
            with pytest.raises(UsageError):
                self.registry.promote(version, reason="")
            return
        self.registry.promote(version, reason="", despite_gate=despite)
        self.live = version
        if version not in self.accepted:
            self.accepted.append(version)

    @precondition(lambda self: self.accepted)
    @rule(data=st.data())
    def rollback(self, data):
        target = data.draw(st.sampled_from(self.accepted))
        self.registry.rollback(target, reason="")
        place = {v: (self.day[v], n) for n, v in enumerate(self.accepted)}
        self.live, self.accepted = target, [v for v in self.accepted if place[v] <= place[target]]

    @precondition(lambda self: self.stored)
    @rule(data=st.data(), pin=st.booleans())
    def pin(self, data, pin):
        version = data.draw(st.sampled_from(sorted(self.stored)))
        (self.registry.pin if pin else self.registry.unpin)(version)
        (self.pinned.add if pin else self.pinned.discard)(version)

    @precondition(lambda self: self.stored)
    @rule(keep=st.integers(0, 3), keep_days=st.integers(0, 5))
    def prune(self, keep, keep_days):
        today = 10
        spare = self.registry.prunable(keep=keep, keep_days=keep_days, today=date(2017, 10, today))
        for version in spare:
            assert version in self.stored and version != self.live and version not in self.pinned
            assert today - self.day[version] > keep_days
            self.registry.delete(version)
        self.stored -= set(spare)
        self.accepted = [v for v in self.accepted if v in self.stored]
        old = [v for v in self.stored if today - self.day[v] > keep_days]
        assert len([v for v in old if v != self.live and v not in self.pinned]) <= keep

    @invariant()
    def agrees(self):
        assert self.registry.live() == self.live
        assert self.registry.accepted() == self.accepted
        assert {s.version for s in self.registry.statuses() if s.stored} == self.stored
        assert {s.version for s in self.registry.statuses() if s.pinned} == self.pinned
        for day in (1, 5, 10):
            found = self.registry.accepted_before(date(2017, 10, day))
            days = [self.day[v] for v in self.accepted if self.day[v] < day]
            assert (found.date.day if found else None) == (max(days) if days else None)
        for version in self.stored:
            self.registry.verify(version)


TestDeeds = Deeds.TestCase
TestDeeds.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
