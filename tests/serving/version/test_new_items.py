"""Items that came after a version: when they are taken up, and which lists hold them."""

from shutil import rmtree
from weakref import ref

import numpy as np
import pytest

from serving.http.hot_swap import warm
from serving.version.event_buffer import EventBuffer, Events
from serving.version.live_updates import (
    NEW_IN,
    GrownVersion,
    NewItems,
    VersionUpdater,
    counted_until,
)
from serving.version.loaded_version import Version
from tests.serving import conftest as circle
from tests.serving.asking import recommend, similar
from tests.serving.version.followed_version import HOUR, LATE
from tests.serving.version.growing_version import NAMED, Sender, listed, publish, takers
from twinspire_core.config.tables.deployment import ListsConfig
from twinspire_core.errors import UsageError
from twinspire_core.fusion.rank_fusion import FixedOrder
from twinspire_core.sources.live_sources import RunningCounts


def test_users_who_are_days_apart_are_not_enough():
    new = NewItems(10)
    new.add(Events.of(["a", "a", "a"], np.array([0, 1, 25]) * HOUR, ["u", "v", "w"]))
    new.add(Events.of(["b", "b", "b"], np.array([2, 2, 25]) * HOUR, ["u", "v", "w"]))
    found = new.find()
    assert found is not None and found.ids == ["b"] and new.ids == []
    assert (found.events.times / HOUR).tolist() == [2, 2, 25]
    new.take_up(found)
    assert new.ids == ["b"]
    new.add(Events.of(["a"], np.array([25]) * HOUR, ["v"]))
    assert new.find() is None


@pytest.fixture
def published(pipeline, towers, tmp_path) -> Version:
    return publish(pipeline, towers, tmp_path / "staged")


@pytest.fixture
def grown(published) -> Version:
    """Knows `a`, which sixty users took, each with i03."""
    both = [taken for n in range(60) for taken in ((f"u{n}", "i03"), (f"u{n}", "a"))]
    version = Sender(published).send(*both)
    assert isinstance(version, GrownVersion)
    return version


def test_it_is_listed_after_what_was_taken_with_it_and_leads_on_itself(grown):
    assert listed(grown, 1, "co_occurrence", history=["i03"]) == ["a"]
    assert listed(grown, 1, "co_occurrence", history=["a"]) == ["i03"]
    answer = recommend(grown, [{"history": ["i03"]}], 13)
    assert answer.source == "fixed_order"
    place = grown.ids[answer.rows[0]].tolist().index("a")
    parts = dict(zip(answer.names, answer.shares[0, place], strict=True))
    assert {name for name, part in parts.items() if part > 0} == {"co_occurrence", "popular"}


def test_all_other_lists_are_those_of_the_version_as_it_was_published(grown):
    """Also where a request names the new item, and whatever the order of ids."""
    requests = [{"history": ["i05", "a", "i03"]}, {"user": "anna"}, {"history": ["a"]}, {}]
    others = [source for source in grown.sources if source not in NEW_IN]
    assert {"two_tower", "ranked", "history"} <= set(others)
    for source in others:
        of_grown = recommend(grown, requests, 20, source=source, explain=source == "ranked")
        of_published = recommend(grown.published, requests, 20, source=source)
        assert of_grown.rows.tolist() == of_published.rows.tolist(), source
        assert of_grown.rows.max() == 11


def test_within_the_order_other_sources_say_what_they_said(grown):
    """Their shares of an item's score are those of the fixed order without the new item."""
    requests = [{"history": ["i05", "a", "i03"]}, {"user": "anna", "exclude": ["a"]}, {}]
    grown.fixed_order = grown.published.fixed_order
    with_new = recommend(grown, requests, 13, exclude_seen=False)
    without = recommend(grown.published, requests, 12, exclude_seen=False)
    for query in range(len(requests)):
        found = dict(zip(with_new.rows[query], with_new.shares[query], strict=True))
        expected = dict(zip(without.rows[query], without.shares[query], strict=True))
        for row in range(12):
            np.testing.assert_allclose(found[row][:2], expected[row][:2], err_msg=f"{query} {row}")
            assert found[row][0]


def test_a_ranker_has_candidates_of_the_moment_but_for_new_items(published):
    sender = Sender(published)
    sender.send(*takers("a", 3))
    version = sender.send(*takers("i04", 90))
    assert listed(version.published, 1) == ["i04"] == listed(version, 1)
    assert "a" not in listed(version, 20, "ranked")
    beside = [taken for n in range(9) for taken in ((f"u{n}", "i03"), (f"u{n}", "a"))]
    version = sender.send(*beside, ("u0", "i07"))
    assert listed(version, 2, "co_occurrence", history=["i03"]) == ["a", "i07"]
    assert listed(version.published, 1, "co_occurrence", history=["i03"]) == ["i07"]


@pytest.mark.parametrize("source", NEW_IN)
def test_what_a_request_leaves_out_is_left_out(grown, source):
    """Histories, what was had, what is excluded; and what no filter lets through."""
    assert "a" in listed(grown, 13, source, history=["i03"])
    assert "a" not in listed(grown, 13, source, history=["i03"], exclude=["a"])
    seen = recommend(grown, [{"history": ["a", "i03"]}], 13, source=source, exclude_seen=True)
    assert not {3, 12} & set(seen.rows[0])
    for wanted in (
        {"allow": {"kind": "even"}},
        {"deny": {"kind": "even"}},
        {"deny": {"tags": "two"}},
    ):
        found = listed(grown, 13, source, history=["i03"], **wanted)
        assert found and "a" not in found, wanted
    by_argument = recommend(grown, [{}], 13, source=source, deny={"kind": "odd"})
    assert sorted(by_argument.rows[0][by_argument.rows[0] >= 0]) == [0, 2, 4, 6, 8, 10]


def test_rules_on_lists_hold(grown):
    """Caps go by values, of which the new item has none."""
    rules = ListsConfig(caps={"kind": 2})
    for version in (grown, grown.published):
        version.pipeline = version.pipeline.model_copy(update={"lists": rules})
    answer = recommend(grown, [{"history": ["i03"], "user": "dora"}], 13)
    items = grown.ids[answer.rows[0][answer.rows[0] >= 0]].tolist()
    kinds = [int(item[1:]) % 2 for item in items if item != "a"]
    assert "a" in items and sorted(kinds) == [0, 0, 1, 1]


def test_a_list_may_be_of_all_items(grown):
    answer = recommend(grown, [{"history": ["i03"]}], 40, exclude_seen=False)
    assert sorted(answer.rows[0][answer.rows[0] >= 0]) == list(range(13))
    assert "13" in answer.warnings.of(0)[0]
    assert recommend(grown, [{}], 13).warnings.of(0) == ()
    assert listed(grown, 13, "co_occurrence") == [*reversed(circle.ITEMS), "a"], "nothing to go by"


def test_an_item_without_a_vector_is_like_no_other(grown):
    with pytest.raises(UsageError, match="has 12 items, but no item"):
        similar(grown, "a", 5)
    assert similar(grown, "i03", 40).rows.max() == 11


def test_an_older_list_of_what_is_taken_together_comes_back(published):
    """What a version says itself knows no new item, and serves while no events come."""
    own = published.candidate_sources.by_name["co_occurrence"]
    published.put_source(own, "co_occurrence")
    sender = Sender(published)
    both = [taken for n in range(60) for taken in ((f"u{n}", "i05"), (f"u{n}", "a"))]
    version = sender.send(*both)
    assert listed(version, 1, "co_occurrence", history=["i05"]) == ["a"]
    sender.updater.update(sender.moment + 4 * HOUR)
    assert listed(version, 2, "co_occurrence", history=["i05", "a"]) == ["i08", "i07"]


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


def test_an_order_without_events_does_not_change(published):
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
