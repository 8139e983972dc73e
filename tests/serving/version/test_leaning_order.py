"""The fixed order leans on sources that go by what users take just now, as far as these know more than the
version.
"""

import numpy as np
import pytest

from serving.answers import retrieval
from tests.serving import conftest as circle
from tests.serving import rankers
from tests.serving.asking import recommend
from tests.serving.version.followed_version import WEIGHTS, Followed
from twinspire_core.sources.live_sources import RecentVisits


def weights(live: Followed, hours: float) -> dict[str, float]:
    live.update(hours)
    return pytest.approx(live.version.fixed_order.weights, abs=1e-4)


def test_the_order_leans_on_what_is_taken_by_the_hour(follow):
    """For a half-life after the newest event."""
    live = follow(most=2_000_000)
    assert weights(live, 1) == WEIGHTS, "nobody has sent anything"
    live.add(("i01", -1))
    assert weights(live, 1) == WEIGHTS, "the version knew that"
    live.add(*[("i05", 5)] * 10**6)
    leaning = {"two_tower": 0.171429, "popular": 0.8, "history": 0.028571}
    assert weights(live, 5) == leaning
    assert weights(live, 8) == leaning
    assert weights(live, 8 + 1e-9) == WEIGHTS, "events no longer come"
    live.add(("i05", 9))
    assert weights(live, 9) == leaning


def test_the_order_leans_as_far_as_the_counts_are_new(follow):
    """The version counts 78 events, which are 39 after a half-life; 117 were sent by then."""
    live = follow()
    live.add(*[("i00", 3)] * 117)
    fitted = weights(live, 3)
    leaning = {"two_tower": 0.342857, "popular": 0.6, "history": 0.057143}
    assert fitted == leaning, "117 of 156 were sent: .8 * .75"


@pytest.mark.parametrize("half_life", ["3h", "1d"])
def test_the_order_answers_in_the_rankers_place_while_most_counts_are_new(follow, half_life):
    """The version counts 78 events, which are 39 after three hours, when 20 or 117 were sent."""
    more = rankers.files(("two_tower", "history"), ("place:two_tower",), lambda rows: -rows[:, 0])
    live = follow(half_life, more)
    by_the_hour = "fixed_order" if half_life == "3h" else "ranked"

    def source(hour: int) -> str:
        live.update(hour)
        return recommend(live.version, [{}], 3).source

    assert source(3) == "ranked"
    live.add(*[("i00", 3)] * 20)
    assert source(3) == "ranked"
    live.add(*[("i00", 3)] * 97)
    assert source(3) == by_the_hour
    assert recommend(live.version, [{}], 3, source="ranked").source == "ranked"
    assert source(7) == "ranked", "events no longer come"


def test_the_order_leans_on_what_is_taken_together_too(follow):
    """All that counts is new: .4 of it, and of the rest .8 on `popular`; nothing once no event comes."""
    live = follow(most=2_000_000)
    live.add(*[("i05", 5)] * 10**6)
    live.update(5)
    assert live.version.fixed_order.sources == ("two_tower", "popular", "history"), (
        "nobody says who took it"
    )
    live.visit(5, ("u", "i05"), ("u", "i06"))
    live.update(6)
    assert live.version.fixed_order.sources == ("two_tower", "popular", "history", "co_occurrence")
    leaning = {"two_tower": 0.102857, "popular": 0.48, "history": 0.017143, "co_occurrence": 0.4}
    assert live.version.fixed_order.weights == pytest.approx(leaning, abs=1e-4)
    answer = recommend(live.version, [{"history": ["i05"]}], 2)
    assert "i06" in [circle.ITEMS[row] for row in answer.rows[0]]
    live.update(9)
    assert live.version.fixed_order.sources == ("two_tower", "popular", "history")


def test_visits_of_hours_ago_say_nothing_of_now(follow):
    """Who stops to say who took an item is as who never said it, though other events come."""
    live = follow()
    live.visit(1, ("u", "i03"), ("u", "i08"))
    for hour in range(1, 6):
        live.add(*[("i05", hour)] * 100)
        live.update(hour)
        has = "co_occurrence" in live.version.fixed_order.sources
        assert has == (hour < 5), "until three hours after the visit's last minute"


@pytest.mark.parametrize("rules", [None, {"new_share": 1.0}])
def test_an_answer_is_of_one_order_whatever_comes_meanwhile(follow, monkeypatch, rules):
    """Lists of several filters, and wider ones for a rule, are joined: all have the same sources."""
    version = follow().version
    visits = RecentVisits(len(circle.ITEMS))
    visits.add(np.array([1, 1]), np.array([3, 4]), np.array([0, 1]))
    fitted = version.fixed_order
    requests = [{"history": ["i03"], "allow": {"kind": kind}} for kind in ("odd", "even")]
    wanted = recommend(version, requests, 3, **(rules or {}))
    real = retrieval.search_without

    def search(*args):
        version.put_source(visits.source())
        adds = "co_occurrence" not in version.fixed_order.sources
        leaning = fitted.leaning_on("co_occurrence", 0.4, adding=True)
        version.fixed_order = leaning if adds else fitted
        return real(*args)

    monkeypatch.setattr(retrieval, "search_without", search)
    answer = recommend(version, requests, 3, **(rules or {}))
    assert answer.names == wanted.names
    np.testing.assert_array_equal(answer.rows, wanted.rows)
    np.testing.assert_array_equal(answer.shares, wanted.shares)
