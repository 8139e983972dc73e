"""Items that came after a version: when they are taken up, and which lists hold them.

The version is the circle of twelve items (tests/serving/conftest.py): i11, i10, … are popular, i00, i01, …
trend; who took i05 took i08 and i07 too. Of new items, `a` comes before all others in order of id.
"""

from dataclasses import replace
from weakref import ref

import numpy as np
import pytest

from serving.answers.recommend import recommend, similar
from serving.version.event_buffer import EventBuffer, Events
from serving.version.grown_version import NEW_IN, GrownVersion
from serving.version.loaded_version import Version
from serving.version.version_updates import VersionUpdater, counted_until
from tests.serving import conftest as circle
from tests.serving import rankers
from tests.serving.answers.test_retrieval import files
from tests.serving.version.followed_version import HOUR, LATE
from twinspire_core.config.tables.deployment import ListsConfig
from twinspire_core.contracts.feature_schema import TRENDING_HALF_LIVES
from twinspire_core.contracts.fusion_file import FittedOn
from twinspire_core.contracts.source_constants import FittedChoice, SourceConstants
from twinspire_core.errors import UsageError
from twinspire_core.fusion.fuse import Fusion
from twinspire_core.sources.trending import RunningCounts

SECOND = 1_000_000
MIXED = ("two_tower", "past", "popular_lately", "most_popular", "co_occurrence", "trending")


def publish(pipeline, towers, staged, half_life: str = "3h") -> Version:
    """A version with a mix of six sources and a ranker that the gate did not choose."""
    mix = Fusion(sources=MIXED, bounds=(), weights=np.full((1, 6), 1 / 6), fitted=FittedOn())
    constants = SourceConstants(sources={"trending": FittedChoice(choice=half_life)})
    ranker = rankers.files(
        ("past", "trending"), ("popular",), lambda rows: rows[:, 0], serves="mix"
    )
    carried = files(mix) | ranker | {SourceConstants.FILE: constants.dump()}
    counts = {column: [12.0 - n for n in range(12)] for column in TRENDING_HALF_LIVES}
    circle.publish(pipeline, towers, staged, nominators=carried, counts=counts)
    return Version.open(pipeline)


@pytest.fixture
def published(pipeline, towers, tmp_path) -> Version:
    return publish(pipeline, towers, tmp_path / "staged")


class Sender:
    """Sends events of a time after the version's day, and updates the version as servers do."""

    def __init__(self, version: Version, new_items: int = 100) -> None:
        self.events = EventBuffer(1000)
        self.updater = VersionUpdater(version, self.events, LATE, new_items)
        self.moment = counted_until(version) + HOUR

    def send(self, *sent: tuple[str, str | None], seconds: int = 60) -> Version:
        """Events by user and item, all at once, some seconds after those of before."""
        self.moment += seconds * SECOND
        users, items = zip(*sent, strict=True)
        self.events.add(Events.of(list(items), np.full(len(items), self.moment), list(users)))
        self.updater.update(self.moment)
        return self.updater.version


def takers(item: str, count: int) -> list[tuple[str, str]]:
    return [(f"{item}-{n}", item) for n in range(count)]


def listed(version: Version, k: int = 3, source: str | None = "trending", **query) -> list[str]:
    rows = recommend(version, [query], k, source=source).rows[0]
    return version.ids[rows[rows >= 0]].tolist()


@pytest.fixture
def grown(published) -> Version:
    """Knows `a`, which nine users took, each with i03."""
    both = [taken for n in range(9) for taken in ((f"u{n}", "i03"), (f"u{n}", "a"))]
    version = Sender(published).send(*both)
    assert isinstance(version, GrownVersion)
    return version


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
    counts = version.candidate_sources.by_name["trending"].scores
    assert counts[12] == pytest.approx(7, abs=0.1)


def test_what_the_version_could_know_is_not_new(published):
    """Events of its day or before: it knew them, and left the item out."""
    sender = Sender(published)
    sender.moment -= 2 * HOUR
    assert sender.send(*takers("a", 9)) is published


@pytest.mark.parametrize("half_life", ["1d", "60d"])
def test_where_habits_hold_the_catalogue_does(pipeline, towers, tmp_path, half_life):
    version = publish(pipeline, towers, tmp_path / "staged", half_life)
    assert Sender(version).send(*takers("a", 9)) is version


def test_it_is_listed_after_what_was_taken_with_it_and_leads_on_itself(grown):
    assert listed(grown, 1, "co_visitation", history=["i03"]) == ["a"]
    assert listed(grown, 1, "co_visitation", history=["a"]) == ["i03"]
    answer = recommend(grown, [{"history": ["i03"]}], 13)
    assert answer.source == "mix"
    named = dict(zip(grown.ids[answer.rows[0]], answer.sources(0), strict=True))
    assert sorted(named["a"]) == ["co_visitation", "trending"]


def test_what_is_taken_together_with_it_is_learnt_at_once(published):
    """Not ten seconds after what is taken together was fitted last."""
    sender = Sender(published)
    sender.send(*[(f"w{n}", item) for n in range(3) for item in ("i03", "i08")])
    both = [taken for n in range(9) for taken in ((f"u{n}", "i03"), (f"u{n}", "a"))]
    version = sender.send(*both, seconds=2)
    assert listed(version, 1, "co_visitation", history=["i03"]) == ["a"]


def test_all_other_lists_are_those_of_the_version_as_it_was_published(grown):
    """Also where a request names the new item, and whatever the order of ids."""
    requests = [{"history": ["i05", "a", "i03"]}, {"user": "anna"}, {"history": ["a"]}, {}]
    others = [source for source in grown.sources if source not in NEW_IN]
    assert {"two_tower", "ranked", "co_occurrence", "past"} <= set(others)
    for source in others:
        of_grown = recommend(grown, requests, 20, source=source, explain=source == "ranked")
        of_published = recommend(grown.published, requests, 20, source=source)
        assert of_grown.rows.tolist() == of_published.rows.tolist(), source
        assert of_grown.rows.max() == 11
    assert listed(grown, 2, "co_occurrence", history=["i05"]) == ["i08", "i07"]


def test_within_the_mix_other_sources_say_what_they_said(grown):
    """Their shares of an item's score are those of the mix without the new item."""
    requests = [{"history": ["i05", "a", "i03"]}, {"user": "anna", "exclude": ["a"]}, {}]
    grown.fusion = grown.published.fusion
    with_new = recommend(grown, requests, 13, exclude_seen=False)
    without = recommend(grown.published, requests, 12, exclude_seen=False)
    for query in range(len(requests)):
        found = dict(zip(with_new.rows[query], with_new.shares[query], strict=True))
        expected = dict(zip(without.rows[query], without.shares[query], strict=True))
        for row in range(12):
            np.testing.assert_allclose(found[row][:5], expected[row][:5], err_msg=f"{query} {row}")
            assert found[row][:5].any()


def test_a_ranker_has_candidates_of_the_moment_but_for_new_items(published):
    sender = Sender(published)
    sender.send(*takers("a", 3))
    version = sender.send(*takers("i04", 90))
    assert listed(version.published, 1) == ["i04"] == listed(version, 1)
    assert "a" not in listed(version, 20, "ranked")
    beside = [taken for n in range(9) for taken in ((f"u{n}", "i03"), (f"u{n}", "a"))]
    version = sender.send(*beside, ("u0", "i07"))
    assert listed(version, 2, "co_visitation", history=["i03"]) == ["a", "i07"]
    assert listed(version.published, 1, "co_visitation", history=["i03"]) == ["i07"]


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
    """Caps go by values, of which the new item has none; exploration is of what has no events."""
    rules = ListsConfig(caps={"kind": 2}, exploration=0.4)
    for version in (grown, grown.published):
        version.pipeline = version.pipeline.model_copy(update={"lists": rules})
    answer = recommend(grown, [{"history": ["i03"], "user": "dora"}], 13)
    items = grown.ids[answer.rows[0][answer.rows[0] >= 0]].tolist()
    kinds = [int(item[1:]) % 2 for item in items if item != "a"]
    assert "a" in items and sorted(kinds) == [0, 0, 1, 1]
    explored = [items[n] for n, names in enumerate(answer.sources(0)) if names == ["exploration"]]
    assert explored == ["i00"], "alone without events"


def test_a_list_may_be_of_all_items(grown):
    answer = recommend(grown, [{"history": ["i03"]}], 40, exclude_seen=False)
    assert sorted(answer.rows[0][answer.rows[0] >= 0]) == list(range(13))
    assert "13" in answer.warnings.of(0)[0]
    assert recommend(grown, [{}], 13).warnings.of(0) == ()
    assert listed(grown, 13, "co_visitation") == [*reversed(circle.ITEMS), "a"], "nothing to go by"


def test_an_item_without_a_vector_is_like_no_other(grown):
    with pytest.raises(UsageError, match="one of the 12"):
        similar(grown, "a", 5)
    assert similar(grown, "i03", 40).rows.max() == 11


def test_of_a_new_item_there_is_its_id_alone(grown):
    assert grown.describe([12, 3]) == [
        {"item": "a", "name": None, "colour": None},
        {"item": "i03", "name": "Item [3]", "colour": None},
    ]
    row = grown.items.slice(12, 1).to_pylist()[0]
    assert (row["_item"], row["_name"], row["_popular"], row["_attribute_kind"]) == (
        "a",
        None,
        0,
        None,
    )
    assert np.flatnonzero(grown.without_events).tolist() == [0], "`a` is here for its events"
    assert (grown.id, grown.manifest) == (grown.published.id, grown.published.manifest)


def test_an_older_list_of_what_is_taken_together_comes_back(published):
    """What a version says itself knows no new item, and serves while no events come."""
    own = published.candidate_sources.by_name["co_occurrence"]
    published.put_source(own, "co_visitation")
    sender = Sender(published)
    both = [taken for n in range(60) for taken in ((f"u{n}", "i05"), (f"u{n}", "a"))]
    version = sender.send(*both)
    assert listed(version, 1, "co_visitation", history=["i05"]) == ["a"]
    sender.updater.update(sender.moment + 4 * HOUR)
    assert listed(version, 2, "co_visitation", history=["i05", "a"]) == ["i08", "i07"]


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


def test_what_is_shared_is_loaded_once(grown):
    for part in ("index", "users", "vocabularies", "ranking_features", "ranker"):
        assert getattr(grown, part) is getattr(grown.published, part)
    assert replace(grown.candidate_sources, by_name={}, popular=None) == replace(
        grown.published.candidate_sources, by_name={}, popular=None
    )
