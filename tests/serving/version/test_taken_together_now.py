"""What users take together just now: the version that answers learns it of events that say who took
what.
"""

import numpy as np
import pytest

from serving.version.event_buffer import EventBuffer
from serving.version.version_updates import VersionUpdater, counted_until
from tests.serving import conftest as circle
from tests.serving.asking import recommend
from tests.serving.version.followed_version import HOUR, LATE, add, first_after, publish, visit
from twinspire_core.sources.live_sources import RecentVisits


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
