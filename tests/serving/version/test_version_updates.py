from datetime import UTC, datetime

import pytest

from serving.version.event_buffer import EventBuffer
from serving.version.loaded_version import Version
from serving.version.version_updates import VersionUpdater, counted_until
from tests.serving.version.followed_version import HOUR, LATE, add, listed, publish, visit
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
