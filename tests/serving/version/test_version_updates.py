"""Live events: which are kept, and how they update the sources of a version."""

from datetime import UTC, datetime
from threading import Thread

import numpy as np
import pytest

from serving.version.event_buffer import NOBODY, EventBuffer, Events
from serving.version.loaded_version import Version
from serving.version.version_updates import VersionUpdater, counted_until
from tests.serving import conftest as circle
from tests.serving.asking import recommend
from tests.serving.version.followed_version import (
    HOUR,
    LATE,
    add,
    first_after,
    listed,
    publish,
    visit,
)
from twinspire_core.sources.live_sources import RecentVisits, RunningCounts


@pytest.fixture
def trending(pipeline, towers, tmp_path) -> Version:
    return publish(pipeline, towers, tmp_path / "staged", "1d")


def test_a_versions_counts_end_with_its_day(trending):
    assert counted_until(trending) == 1_704_121_200 * 1_000_000
    assert datetime.fromtimestamp(1_704_121_200, UTC).isoformat() == "2024-01-01T15:00:00+00:00", (
        "2024-01-02 in Tokyo"
    )


def test_lists_go_by_what_was_sent(trending):
    """Half-life of a day: what was counted before halves in a day, and so does what is sent."""
    events = EventBuffer(1000)
    updater = VersionUpdater(trending, events, LATE)
    end = counted_until(trending)
    updater.update(counted_until(trending))
    assert listed(trending) == ["i00", "i01", "i02"]
    # 7 for i05 and 6.5 for i00 at the end of the next day, when the counts of before are half.
    add(events, end, ("i05", 24), ("i05", 24), ("i05", 24), ("i05", 24), ("i00", 0))
    add(events, end, ("nowhere", 1), *[("i11", -1)] * 4)
    assert listed(trending) == ["i00", "i01", "i02"], "nothing was updated"
    updater.update(counted_until(trending))
    assert listed(trending) == ["i05", "i00", "i01"]
    updater.update(counted_until(trending))
    assert listed(trending) == ["i05", "i00", "i01"], "an event counts once"
    assert listed(trending, 12)[-1] == "i11", "the version's counts hold it already"


def test_a_version_that_comes_later_counts_all(trending, pipeline):
    events = EventBuffer(1000)
    add(events, counted_until(trending), *[("i07", 2)] * 20)
    for version in (trending, Version.open(pipeline)):
        VersionUpdater(version, events, LATE).update(counted_until(version))
        assert listed(version, 1) == ["i07"]


def test_a_version_without_the_source_stays_as_it_is(version):
    events = EventBuffer(10)
    updater = VersionUpdater(version, events, LATE)
    add(events, counted_until(version), ("i05", 1))
    updater.update(LATE)
    assert not updater.moves_lists
    assert updater.version is version


def test_of_a_day_that_is_not_over_events_count_from_now_on(trending):
    """A refresh counts what its logs hold by then, and says that it is of the whole day."""
    end = counted_until(trending)
    events = EventBuffer(1000)
    updater = VersionUpdater(trending, events, end - 10 * HOUR)
    add(events, end, *[("i09", -11)] * 20, *[("i07", -9)] * 20)
    updater.update(end - 9 * HOUR)
    assert listed(trending, 2) == ["i07", "i00"]


def test_a_fault_has_no_event_counted_twice(pipeline, towers, tmp_path, monkeypatch):
    """What was counted when a list could not be made is listed with the next event."""
    version = publish(pipeline, towers, tmp_path / "staged", "3h")
    events = EventBuffer(1000)
    updater = VersionUpdater(version, events, LATE)
    end = counted_until(version)

    def fail(*_):
        raise MemoryError("no room")

    add(events, end, *[("i11", 0)] * 8)
    for part in (RunningCounts, RecentVisits):
        monkeypatch.setattr(part, "source" if part is RunningCounts else "add", fail)
        visit(events, end, 0, ("u", "i11"))
        with pytest.raises(MemoryError):
            updater.update(end)
        monkeypatch.undo()
    updater.update(end)
    found = version.candidate_sources.by_name["popular"].scores
    assert found[11] == 11, "1 of before, 8 and 2 visits"


def test_the_newest_are_kept():
    events = EventBuffer(8)
    for n in range(10):
        events.add(Events.of([f"i{n}"], np.array([n])))
    number, kept = events.after(0)
    assert (number, kept.items) == (10, [f"i{n}" for n in range(10)]), "up to a quarter more"
    events.add(Events.of(["i10"], np.array([10])))
    number, kept = events.after(0)
    assert number == 11
    assert (kept.items, kept.times.tolist()) == ([f"i{n}" for n in range(3, 11)], [*range(3, 11)])
    assert events.after(9)[1].items == ["i9", "i10"]
    number, kept = events.after(11)
    assert (number, kept.items) == (11, [])


def test_only_of_users_that_are_named_is_a_number_kept():
    made = Events.of(["a", "b", "c", "d"], np.arange(4), ["u", None, "", "u"])
    assert (made.users == NOBODY).tolist() == [False, True, True, False]
    assert made.users[0] == made.users[3]
    assert Events.of(["a"], np.arange(1)).users.tolist() == [NOBODY]


def test_threads_lose_nothing():
    events = EventBuffer(10_000)

    def tell(name: int) -> None:
        for n in range(500):
            events.add(Events.of([f"{name}-{n}"], np.array([n])))

    threads = [Thread(target=tell, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    number = 0
    found: list[str] = []
    while any(thread.is_alive() for thread in threads) or number < 2000:
        number, kept = events.after(number)
        found += kept.items
    assert len(found) == len(set(found)) == 2000


def test_what_visitors_take_together_just_now_is_learnt(pipeline, towers, tmp_path):
    version = publish(pipeline, towers, tmp_path / "staged", "3h")
    events = EventBuffer(1000)
    updater = VersionUpdater(version, events, LATE)
    end = counted_until(version)
    assert "co_occurrence" not in version.sources
    visit(events, end, 1, *[(f"u{n}", item) for n in range(5) for item in ("i03", "i08")])
    visit(events, end, 1, ("v", "i03"), ("v", "i09"), ("w", "nowhere"), ("w", "i03"))
    updater.update(end + 2 * HOUR)
    assert "co_occurrence" in version.sources
    assert first_after(version, "i03") == "i08"
    assert first_after(version, "i08") == "i03"
    visit(events, end, 2, *[(f"x{n}", item) for n in range(9) for item in ("i03", "i09")])
    updater.update(end + 2 * HOUR + 9_000_000)
    assert first_after(version, "i03") == "i08", "fitted once in ten seconds"
    updater.update(end + 2 * HOUR + 10_000_000)
    assert first_after(version, "i03") == "i09"


def test_it_is_not_learnt_again_while_nobody_takes_anything(pipeline, towers, tmp_path):
    """A fit takes up to two seconds of a processor."""
    version = publish(pipeline, towers, tmp_path / "staged", "3h")
    events = EventBuffer(1000)
    updater = VersionUpdater(version, events, LATE)
    end = counted_until(version)
    visit(events, end, 1, ("u", "i03"), ("u", "i08"))

    def learnt(minutes):
        updater.update(end + HOUR + minutes * HOUR // 60)
        return version.candidate_sources.by_name["co_occurrence"]

    first = learnt(1)
    assert learnt(2) is first
    add(events, end, ("i09", 1))  # of nobody: that moves `popular` alone
    assert learnt(3) is first
    visit(events, end, 1, ("v", "i03"), ("v", "i09"))
    second = learnt(4)
    assert second is not first
    assert learnt(5) is second


def test_a_catalogue_that_grew_by_events_of_nobody_keeps_what_was_learnt(
    pipeline, towers, tmp_path
):
    version = publish(pipeline, towers, tmp_path / "staged", "3h")
    events = EventBuffer(1000)
    end = counted_until(version)
    updater = VersionUpdater(version, events, LATE, new_items=10)
    visit(events, end, 1, *[(user, item) for user in "uvw" for item in ("i03", "new")])
    updater.update(end + HOUR)
    add(events, end, *[("newer", 1)] * 3)
    updater.update(end + HOUR + HOUR // 60)
    grown = updater.version
    assert grown.rows(["new", "newer"]).tolist() == [12, 13]
    answer = recommend(grown, [{"history": ["i03"]}], 1, source="co_occurrence")
    assert grown.ids[answer.rows[0][0]] == "new"


@pytest.mark.parametrize("half_life", ["1d", "60d"])
def test_where_habits_hold_nothing_is_learnt_by_the_hour(pipeline, towers, tmp_path, half_life):
    version = publish(pipeline, towers, tmp_path / "staged", half_life)
    events = EventBuffer(1000)
    visit(events, counted_until(version), 1, ("u", "i03"), ("u", "i08"))
    VersionUpdater(version, events, LATE).update(counted_until(version) + HOUR)
    assert "co_occurrence" not in version.sources
    assert version.fixed_order.sources == ("two_tower", "popular", "history")


def test_what_a_version_mixes_itself_comes_back(pipeline, towers, tmp_path):
    """Its own table of what is taken together serves while few events come or none."""
    version = publish(pipeline, towers, tmp_path / "staged", "3h")
    own = RecentVisits(len(circle.ITEMS))
    own.add(np.array([1, 1]), np.array([3, 4]), np.array([0, 1]))
    version.put_source(own.source())
    events = EventBuffer(1000)
    updater = VersionUpdater(version, events, LATE)
    end = counted_until(version)
    assert first_after(version, "i03") == "i04"
    visit(events, end, 1, ("u", "i03"), ("u", "i08"))
    updater.update(end + HOUR)
    assert first_after(version, "i03") == "i04", "it knows more than two events do"
    add(events, end, *[("i05", 1)] * 1000)
    updater.update(end + HOUR)
    assert first_after(version, "i03") == "i08"
    updater.update(end + 9 * HOUR)
    assert first_after(version, "i03") == "i04"
    updater.update(end + HOUR)
    assert first_after(version, "i03") == "i08", "a clock that was set back"


def test_a_known_users_history_tells_all_of_it(pipeline, towers, tmp_path):
    """Also what the version knows, of which it holds no decayed counts: anna took i03, then i05."""
    version = publish(pipeline, towers, tmp_path / "staged", "3h")
    events = EventBuffer(1000)
    end = counted_until(version)
    visit(events, end, 1, *[(f"u{n}", item) for n in range(9) for item in ("i05", "i02")])
    VersionUpdater(version, events, LATE).update(end + HOUR)
    request = {"user": "anna", "history": ["i03", "i05"]}
    answer = recommend(version, [request], 1, source="co_occurrence")
    assert circle.ITEMS[answer.rows[0][0]] == "i02"
