"""Live events: which are kept, and how they update the sources of a version."""

import sys
from threading import Thread

import numpy as np
import pytest

from serving.version.event_buffer import BYTES, EventBuffer, Events
from serving.version.live_updates import counted_until
from tests.serving import conftest as circle
from tests.serving.asking import recommend
from tests.serving.version.followed_version import HOUR, Followed, first_after, listed
from twinspire_core.sources.live_sources import RecentVisits, RunningCounts


def test_lists_go_by_what_was_sent(follow):
    """Half-life of a day: what was counted before halves in a day, and so does what is sent."""
    live = follow("1d")
    assert live.end == 1_704_121_200 * 1_000_000, "midnight after 2024-01-01 in Tokyo"
    live.update(0)
    assert listed(live.version) == ["i00", "i01", "i02"]
    # 7 for i05 and 6.5 for i00 at the end of the next day, when the counts of before are half.
    live.add(*[("i05", 24)] * 4, ("i00", 0))
    live.add(("nowhere", 1), *[("i11", -1)] * 4)
    assert listed(live.version) == ["i00", "i01", "i02"], "nothing was updated"
    live.update(0)
    assert listed(live.version) == ["i05", "i00", "i01"]
    live.update(0)
    assert listed(live.version) == ["i05", "i00", "i01"], "an event counts once"
    assert listed(live.version, 12)[-1] == "i11", "the version's counts hold it already"


def test_a_version_without_the_source_stays_as_it_is(version):
    live = Followed(version)
    live.add(("i05", 1))
    live.update(1)
    assert not live.updater.moves_lists
    assert live.updater.version is version


def test_of_a_day_that_is_not_over_events_count_from_now_on(pipeline, follow):
    """A refresh counts what its logs hold by then, and says that it is of the whole day."""
    version = follow("1d").version
    live = Followed(version, moment=counted_until(version) - 10 * HOUR)
    live.add(*[("i09", -11)] * 20, *[("i07", -9)] * 20)
    live.update(-9)
    assert listed(version, 2) == ["i07", "i00"]


def test_a_fault_has_no_event_counted_twice(follow, monkeypatch):
    """What was counted when a list could not be made is listed with the next event."""
    live = follow()

    def fail(*_):
        raise MemoryError("no room")

    live.add(*[("i11", 0)] * 8)
    for part in (RunningCounts, RecentVisits):
        monkeypatch.setattr(part, "source" if part is RunningCounts else "add", fail)
        live.visit(0, ("u", "i11"))
        with pytest.raises(MemoryError):
            live.update(0)
        monkeypatch.undo()
    live.update(0)
    found = live.version.candidate_sources.by_name["popular"].scores
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


@pytest.mark.parametrize("longest", [10, 100, 1000])
def test_memory_is_bounded_however_long_ids_are(longest):
    rng = np.random.default_rng(longest)
    events, sent = EventBuffer(1000), []
    for n in range(300):
        some = [f"{n}-{m}" + "x" * int(rng.integers(longest)) for m in range(rng.integers(1, 40))]
        events.add(Events.of(some, np.arange(len(some))))
        sent += some
        number, kept = events.after(0)
        assert number == len(sent) and kept.items == sent[len(sent) - len(kept.items) :]
        memory = sum(sys.getsizeof(item) + 24 for item in kept.items)
        assert len(kept.items) <= 1250 and memory <= 1.25 * 1000 * BYTES
    assert memory > 0.9 * 1000 * BYTES or len(kept.items) >= 1000
    assert events.after(number - 3)[1].items == sent[-3:]


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


def test_what_visitors_take_together_just_now_is_learnt(follow):
    live = follow()
    version = live.version
    assert "co_occurrence" not in version.sources
    live.visit(1, *[(f"u{n}", item) for n in range(5) for item in ("i03", "i08")])
    live.visit(1, ("v", "i03"), ("v", "i09"), ("w", "nowhere"), ("w", "i03"))
    live.update(2)
    assert "co_occurrence" in version.sources
    assert first_after(version, "i03") == "i08"
    assert first_after(version, "i08") == "i03"
    live.visit(2, *[(f"x{n}", item) for n in range(9) for item in ("i03", "i09")])
    live.updater.update(live.end + 2 * HOUR + 9_000_000)
    assert first_after(version, "i03") == "i08", "fitted once in ten seconds"
    live.updater.update(live.end + 2 * HOUR + 10_000_000)
    assert first_after(version, "i03") == "i09"


def test_it_is_not_learnt_again_while_nobody_takes_anything(follow):
    """A fit takes up to two seconds of a processor."""
    live = follow()
    live.visit(1, ("u", "i03"), ("u", "i08"))

    def learnt(minutes):
        live.update(1 + minutes / 60)
        return live.version.candidate_sources.by_name["co_occurrence"]

    first = learnt(1)
    assert learnt(2) is first
    live.add(("i09", 1))  # of nobody: that moves `popular` alone
    assert learnt(3) is first
    live.visit(1, ("v", "i03"), ("v", "i09"))
    second = learnt(4)
    assert second is not first
    assert learnt(5) is second


def test_a_catalogue_that_grew_by_events_of_nobody_keeps_what_was_learnt(follow):
    live = follow(new_items=10)
    live.visit(1, *[(user, item) for user in "uvw" for item in ("i03", "new")])
    live.update(1)
    live.add(*[("newer", 1)] * 3)
    live.update(1 + 1 / 60)
    grown = live.updater.version
    assert grown.rows(["new", "newer"]).tolist() == [12, 13]
    answer = recommend(grown, [{"history": ["i03"]}], 1, source="co_occurrence")
    assert grown.ids[answer.rows[0][0]] == "new"


@pytest.mark.parametrize("half_life", ["1d", "60d"])
def test_where_habits_hold_nothing_is_learnt_by_the_hour(follow, half_life):
    """Nor is an item taken up that the version lacks."""
    live = follow(half_life, new_items=10)
    live.visit(1, ("u", "i03"), ("u", "i08"), *[(f"v{n}", "new") for n in range(9)])
    live.update(1)
    assert live.updater.version is live.version
    assert "co_occurrence" not in live.version.sources
    assert live.version.fixed_order.sources == ("two_tower", "popular", "history")


def test_what_a_version_mixes_itself_comes_back(follow):
    """Its own table of what is taken together serves while few events come or none."""
    version = follow().version
    own = RecentVisits(len(circle.ITEMS))
    own.add(np.array([1, 1]), np.array([3, 4]), np.array([0, 1]))
    version.put_source(own.source())
    live = Followed(version)
    assert first_after(version, "i03") == "i04"
    live.visit(1, ("u", "i03"), ("u", "i08"))
    live.update(1)
    assert first_after(version, "i03") == "i04", "it knows more than two events do"
    live.add(*[("i05", 1)] * 1000)
    live.update(1)
    assert first_after(version, "i03") == "i08"
    live.update(9)
    assert first_after(version, "i03") == "i04"
    live.update(1)
    assert first_after(version, "i03") == "i08", "a clock that was set back"
