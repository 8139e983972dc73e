"""When items that came after a version are taken up (tests/serving/version/growing_version.py)."""

from shutil import rmtree
from weakref import ref

import pytest

from serving.http.hot_swap import warm
from serving.version.event_buffer import EventBuffer
from serving.version.grown_version import GrownVersion
from serving.version.loaded_version import Version
from serving.version.version_updates import VersionUpdater, counted_until
from tests.serving import conftest as circle
from tests.serving.asking import recommend
from tests.serving.version.followed_version import LATE
from tests.serving.version.growing_version import NAMED, Sender, listed, publish, takers
from twinspire_core.fusion.rank_fusion import FixedOrder
from twinspire_core.sources.live_sources import RunningCounts


@pytest.fixture
def published(pipeline, towers, tmp_path) -> Version:
    return publish(pipeline, towers, tmp_path / "staged")


def test_what_enough_users_take_is_listed(published):
    sender = Sender(published)
    version = sender.send(*takers("a", 2), *[("a-1", "a")] * 9)
    assert version is published and "a" not in listed(version, 13), "two users, however often"
    version = sender.send(("another", "a"), (None, "b"), (None, "b"))
    # 12 and 11 were counted an hour before these, which leaves .8 of them.
    assert listed(version) == ["a", "i00", "i01"], "12 events of three users"
    assert "b" not in listed(version, 13)
    version = sender.send((None, "b"))
    assert "b" in listed(version, 14), "whose events do not say who took it"
    assert listed(version, 2) == ["a", "i00"], "nothing was forgotten of what came before"
    assert version.ids.tolist() == [*circle.ITEMS, "a", "b"]
    assert published.ids.tolist() == circle.ITEMS


@pytest.mark.parametrize(("late", "is_listed"), [(-1, False), (0, True)])
def test_events_count_from_the_end_of_the_versions_day_on(published, late, is_listed):
    sender = Sender(published)
    sender.moment = counted_until(published) + late
    version = sender.send(*takers("a", 3), seconds=0)
    assert ("a" in version.ids) == is_listed


def test_its_place_is_that_of_its_events(published):
    """The version counts 12, 11, … at the end of its day, an hour and a minute before: .79 of that."""
    version = Sender(published).send(*takers("a", 7), *takers("b", 4))
    assert listed(version, 14) == [
        *("i00", "i01", "i02", "i03", "a", "i04", "i05", "i06", "b", "i07", "i08", "i09"),
        *("i10", "i11"),
    ]
    assert 0.79 * 9 > 7 > 0.8 * 8 and 0.79 * 6 > 4 > 0.8 * 5 - 0.1


def test_a_catalogue_grows_at_most_once_in_ten_seconds(published):
    sender = Sender(published)
    first = sender.send(*takers("a", 3))
    second = sender.send(*takers("b", 3), seconds=9)
    assert second is first
    third = sender.send(("u", "i00"), seconds=1)
    assert third is not first and third.rows(["a", "b", "c"]).tolist() == [12, 13, -1]
    assert first.rows(["a", "b"]).tolist() == [12, -1], "whoever answers by it sees one catalogue"
    fourth = sender.send(*takers("c", 3), seconds=-3600)
    assert fourth.rows(["c"]).tolist() == [14], "a clock that was set back stops nothing"


def test_no_file_is_read_when_a_catalogue_grows(published):
    """Cleaning up elsewhere may have removed them by then."""
    warm(published)
    rmtree(published.home)
    version = Sender(published).send(*takers("a", 9))
    request = {"user": "anna", "history": ["i03", "a"], "deny": {"kind": "odd"}}
    for source in (None, *version.sources):
        assert recommend(version, [request], 5, source=source).counts.tolist() == [5], source
    assert listed(version, 1, None) and version.fixed_order.sources == NAMED


def test_an_order_that_goes_by_no_events_stays_what_it_is(published):
    order = FixedOrder(weights={"two_tower": 0.5, "history": 0.5}, half_life="3h")
    published.fixed_order = order
    version = Sender(published).send(*takers("a", 9))
    assert version is not published and version.fixed_order is order
    assert "a" in listed(version, 3) and "a" not in listed(version, 3, None, history=["i03"])


def test_nothing_keeps_a_version_that_has_grown_further(published):
    sender = Sender(published)
    before = ref(sender.send(*takers("a", 3)))
    recommend(before(), [{"allow": {"kind": "odd"}}], 5)
    assert sender.send(*takers("b", 3)) is not before()
    assert before() is None


def test_no_more_items_are_taken_up_than_may_be(published):
    sender = Sender(published, new_items=2)
    version = sender.send(*takers("a", 3), *takers("b", 4), *takers("c", 5))
    assert version.ids.tolist()[12:] == ["c", "b"], "those of most users"
    assert sender.send(*takers("a", 30), *takers("d", 30)) is version
    assert Sender(published, new_items=0).send(*takers("a", 30)) is published


def test_a_fault_takes_an_item_up_in_all_places_or_in_none(published, monkeypatch):
    def fail(*_):
        raise MemoryError("no room")

    sender = Sender(published)
    for part, method in ((GrownVersion, "rows"), (RunningCounts, "grow")):
        monkeypatch.setattr(part, method, fail)
        with pytest.raises(MemoryError):
            sender.send(*takers("a", 3))
        monkeypatch.undo()
        assert sender.updater.version is published
    version = sender.send(("another", "a"), *takers("i04", 90))
    assert version.ids.tolist() == [*circle.ITEMS, "a"]
    assert listed(version, 2) == ["i04", "i00"]
    # Its events are those that were sent in all, 7 of 3 users and another one.
    counts = version.candidate_sources.by_name["popular"].scores
    assert counts[12] == pytest.approx(7, abs=0.1)


@pytest.mark.parametrize("half_life", ["1d", "60d"])
def test_where_habits_hold_the_catalogue_does(pipeline, towers, tmp_path, half_life):
    version = publish(pipeline, towers, tmp_path / "staged", half_life)
    assert Sender(version).send(*takers("a", 9)) is version


def test_what_is_taken_together_with_it_is_learnt_at_once(published):
    """Not ten seconds after what is taken together was fitted last."""
    sender = Sender(published)
    sender.send(*[(f"w{n}", item) for n in range(60) for item in ("i03", "i08")])
    both = [taken for n in range(90) for taken in ((f"u{n}", "i03"), (f"u{n}", "a"))]
    version = sender.send(*both, seconds=2)
    assert listed(version, 1, "co_occurrence", history=["i03"]) == ["a"]


def test_another_version_takes_up_what_it_lacks(published, pipeline, towers, tmp_path):
    """And forgets what it has not been sent; its own items are none of the new ones."""
    sender = Sender(published)
    sender.send(*takers("a", 3), *takers("i12", 5))
    again = VersionUpdater(Version.open(pipeline), sender.events, LATE, 100)
    again.update(sender.moment)
    assert again.version.ids.tolist()[12:] == ["i12", "a"]
    assert listed(again.version, 14) == listed(sender.updater.version, 14)
    nothing = VersionUpdater(Version.open(pipeline), EventBuffer(10), LATE, 100)
    nothing.update(sender.moment)
    assert nothing.version.ids.tolist() == circle.ITEMS
