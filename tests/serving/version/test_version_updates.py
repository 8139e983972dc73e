"""What users took since a version was made: the one that answers counts it, and learns from it what is
taken together.
"""

from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from serving.answers import retrieval
from serving.answers.recommend import recommend
from serving.version.event_buffer import EventBuffer, Events
from serving.version.loaded_version import Version
from serving.version.second_stage import SecondStage
from serving.version.version_updates import VersionUpdater, counted_until
from tests.serving import conftest as circle
from twinspire_core.contracts.feature_schema import TRENDING_HALF_LIVES
from twinspire_core.contracts.fusion_file import FittedOn
from twinspire_core.contracts.source_constants import FittedChoice, SourceConstants
from twinspire_core.fusion.fuse import Fusion
from twinspire_core.sources.recent_visits import RecentVisits
from twinspire_core.sources.trending import RunningCounts

HOUR = 3_600 * 1_000_000
LATE = 2_000_000_000 * 1_000_000
"""A moment long after the days of these versions."""


def publish(pipeline, towers, staged, half_life: str) -> Version:
    """A version whose counts, one for each half-life, fall from the first item to the last, and whose
    mix goes by the two-tower.
    """
    counts = {column: [12.0 - n for n in range(12)] for column in TRENDING_HALF_LIVES}
    mix = Fusion(
        sources=("two_tower", "trending", "past"),
        bounds=(1,),
        weights=np.array([[0.6, 0.3, 0.1], [0.05, 0.9, 0.05]]),
        fitted=FittedOn(on="progressive"),
    )
    constants = SourceConstants(sources={"trending": FittedChoice(choice=half_life)})
    files = {"mix.json": mix.dump(), SourceConstants.FILE: constants.dump()}
    circle.publish(pipeline, towers, staged, nominators=files, counts=counts)
    return Version.open(pipeline)


@pytest.fixture
def trending(pipeline, towers, tmp_path) -> Version:
    return publish(pipeline, towers, tmp_path / "staged", "1d")


def listed(version: Version, k: int = 3) -> list[str]:
    rows = recommend(version, [{}], k, source="trending").rows[0]
    return [circle.ITEMS[row] for row in rows]


def add(events: EventBuffer, end: int, *told: tuple[str, float]) -> None:
    """Events by their hours after the end of the version's day."""
    times = np.array([end + round(hours * HOUR) for _, hours in told])
    events.add(Events.of([item for item, _ in told], times))


def test_a_versions_counts_end_with_its_day(trending):
    assert counted_until(trending) == 1_704_121_200 * 1_000_000
    assert datetime.fromtimestamp(1_704_121_200, UTC).isoformat() == "2024-01-01T15:00:00+00:00", (
        "2024-01-02 in Tokyo"
    )


def test_lists_go_by_what_was_told(trending):
    """Half-life of a day: what was counted before halves in a day, and so does what is told."""
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


def test_a_version_that_comes_later_is_told_all(trending, pipeline):
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
    assert version.candidate_sources is None


def test_of_a_day_that_is_not_over_events_count_from_now_on(trending):
    """A refresh counts what its logs hold by then, and says that it is of the whole day."""
    end = counted_until(trending)
    events = EventBuffer(1000)
    updater = VersionUpdater(trending, events, end - 10 * HOUR)
    add(events, end, *[("i09", -11)] * 20, *[("i07", -9)] * 20)
    updater.update(end - 9 * HOUR)
    assert listed(trending, 2) == ["i07", "i00"]


def weights(version: Version, updater: VersionUpdater, at: int) -> list[list[float]]:
    updater.update(at)
    return np.round(version.fusion.weights, 6).tolist()


def test_the_mix_leans_on_what_is_taken_by_the_hour(pipeline, towers, tmp_path):
    """For a half-life after the newest event, and on no slice less than it did before."""
    version = publish(pipeline, towers, tmp_path / "staged", "3h")
    events = EventBuffer(2_000_000)
    updater = VersionUpdater(version, events, LATE)
    end = counted_until(version)
    fitted = [[0.6, 0.3, 0.1], [0.05, 0.9, 0.05]]
    assert weights(version, updater, end + HOUR) == fitted, "nobody has told anything"
    add(events, end, ("i01", -1))
    assert weights(version, updater, end + HOUR) == fitted, "the version knew that"
    add(events, end, *[("i05", 5)] * 10**6)
    leaning = [[0.171429, 0.8, 0.028571], [0.05, 0.9, 0.05]]
    assert np.allclose(weights(version, updater, end + 5 * HOUR), leaning, atol=1e-4)
    assert np.allclose(weights(version, updater, end + 8 * HOUR), leaning, atol=1e-4)
    assert weights(version, updater, end + 8 * HOUR + 1) == fitted, "events no longer come"
    add(events, end, ("i05", 9))
    assert np.allclose(weights(version, updater, end + 9 * HOUR), leaning, atol=1e-4)


def test_the_mix_leans_as_far_as_the_counts_are_new(pipeline, towers, tmp_path):
    """The version counts 78 events, which are 39 after a half-life; 117 were told by then."""
    version = publish(pipeline, towers, tmp_path / "staged", "3h")
    events = EventBuffer(1000)
    updater = VersionUpdater(version, events, LATE)
    end = counted_until(version)
    add(events, end, *[("i00", 3)] * 117)
    found = weights(version, updater, end + 3 * HOUR)
    assert found[0] == [0.342857, 0.6, 0.057143], "117 of 156 were told: .8 * .75"
    assert found[1] == [0.05, 0.9, 0.05]


def test_no_slice_leans_that_does_not_go_by_the_source():
    weights = np.array([[0.9, 0.0, 0.1], [0.0, 0.0, 0.0], [0.5, 0.3, 0.2]])
    mix = Fusion(sources=("a", "b", "c"), bounds=(1, 5), weights=weights, fitted=FittedOn())
    found = mix.leaning_on("b", 0.75).weights
    np.testing.assert_allclose(
        found, [[0.9, 0.0, 0.1], [0, 0, 0], [0.25 * 5 / 7, 0.75, 0.25 * 2 / 7]]
    )


def test_where_habits_hold_the_weights_do(trending):
    events = EventBuffer(100)
    updater = VersionUpdater(trending, events, LATE)
    add(events, counted_until(trending), ("i05", 1))
    fitted = [[0.6, 0.3, 0.1], [0.05, 0.9, 0.05]]
    assert weights(trending, updater, counted_until(trending) + HOUR) == fitted
    assert listed(trending, 1) != ["i05"]


def test_a_mix_that_goes_by_it_alone_stays_as_it_is():
    mix = Fusion(
        sources=("trending", "past"),
        bounds=(),
        weights=np.array([[2.0, 0.0]]),
        fitted=FittedOn(),
    )
    assert mix.leaning_on("trending", 0.8).weights.tolist() == [[1.0, 0.0]]


def visit(events: EventBuffer, end: int, hours: float, *told: tuple[str, str]) -> None:
    """Events by user and item, a minute apart."""
    times = np.array([end + round(hours * HOUR) + n * HOUR // 60 for n in range(len(told))])
    events.add(Events.of([item for _, item in told], times, [user for user, _ in told]))


def first_after(version: Version, item: str) -> str | None:
    """The first item for somebody who took another one last, of what is taken together."""
    request = {"history": [item]}
    found = recommend(version, [request], 1, source="co_visitation", explore=False).rows[0][0]
    return circle.ITEMS[found]


def test_what_visitors_take_together_just_now_is_learnt(pipeline, towers, tmp_path):
    version = publish(pipeline, towers, tmp_path / "staged", "3h")
    events = EventBuffer(1000)
    updater = VersionUpdater(version, events, LATE)
    end = counted_until(version)
    assert "co_visitation" not in version.sources
    visit(events, end, 1, *[(f"u{n}", item) for n in range(5) for item in ("i03", "i08")])
    visit(events, end, 1, ("v", "i03"), ("v", "i09"), ("w", "nowhere"), ("w", "i03"))
    updater.update(end + 2 * HOUR)
    assert "co_visitation" in version.sources
    assert first_after(version, "i03") == "i08"
    assert first_after(version, "i08") == "i03"
    visit(events, end, 2, *[(f"x{n}", item) for n in range(9) for item in ("i03", "i09")])
    updater.update(end + 2 * HOUR + 9_000_000)
    assert first_after(version, "i03") == "i08", "fitted once in ten seconds"
    updater.update(end + 2 * HOUR + 10_000_000)
    assert first_after(version, "i03") == "i09"


def test_the_mix_leans_on_what_is_taken_together_too(pipeline, towers, tmp_path):
    """All that counts is new: .4 of it, and of the rest .8 on `trending`; nothing once no event comes."""
    version = publish(pipeline, towers, tmp_path / "staged", "3h")
    events = EventBuffer(2_000_000)
    updater = VersionUpdater(version, events, LATE)
    end = counted_until(version)
    add(events, end, *[("i05", 5)] * 10**6)
    updater.update(end + 5 * HOUR)
    assert version.fusion.sources == ("two_tower", "trending", "past"), "nobody says who took it"
    visit(events, end, 5, ("u", "i05"), ("u", "i06"))
    updater.update(end + 6 * HOUR)
    assert version.fusion.sources == ("two_tower", "trending", "past", "co_visitation")
    leaning = [[0.102857, 0.48, 0.017143, 0.4], [0.03, 0.54, 0.03, 0.4]]
    assert np.allclose(version.fusion.weights, leaning, atol=1e-4)
    answer = recommend(version, [{"history": ["i05"]}], 2)
    assert "i06" in [circle.ITEMS[row] for row in answer.rows[0]]
    updater.update(end + 9 * HOUR)
    assert version.fusion.sources == ("two_tower", "trending", "past")


@pytest.mark.parametrize("half_life", ["1d", "60d"])
def test_where_habits_hold_nothing_is_learnt_by_the_hour(pipeline, towers, tmp_path, half_life):
    version = publish(pipeline, towers, tmp_path / "staged", half_life)
    events = EventBuffer(1000)
    visit(events, counted_until(version), 1, ("u", "i03"), ("u", "i08"))
    VersionUpdater(version, events, LATE).update(counted_until(version) + HOUR)
    assert "co_visitation" not in version.sources
    assert version.fusion.sources == ("two_tower", "trending", "past")


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


def test_a_ranker_keeps_the_table_that_it_was_fitted_with(pipeline, towers, tmp_path):
    """It goes by scores of its sources, which another table would turn into something else."""
    version = publish(pipeline, towers, tmp_path / "staged", "3h")
    own = RecentVisits(len(circle.ITEMS))
    own.add(np.array([1, 1]), np.array([3, 4]), np.array([0, 1]))
    version.put_source(own.source())
    version._second_stage = SecondStage(SimpleNamespace(sources=("two_tower", "co_visitation")))
    events = EventBuffer(1000)
    updater = VersionUpdater(version, events, LATE)
    end = counted_until(version)
    visit(events, end, 1, ("u", "i03"), ("u", "i08"))
    add(events, end, *[("i05", 1)] * 800)
    updater.update(end + HOUR)
    assert first_after(version, "i03") == "i04"


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
    found = version.candidate_sources.by_name["trending"].scores
    assert found[11] == 11, "1 of before, 8 and 2 visits"


def test_a_known_users_history_tells_all_of_it(pipeline, towers, tmp_path):
    """Also what the version knows, of which it holds no decayed counts: anna took i03, then i05."""
    version = publish(pipeline, towers, tmp_path / "staged", "3h")
    events = EventBuffer(1000)
    end = counted_until(version)
    visit(events, end, 1, *[(f"u{n}", item) for n in range(9) for item in ("i05", "i02")])
    VersionUpdater(version, events, LATE).update(end + HOUR)
    request = {"user": "anna", "history": ["i03", "i05"]}
    answer = recommend(version, [request], 1, source="co_visitation")
    assert circle.ITEMS[answer.rows[0][0]] == "i02"


def test_visits_of_hours_ago_say_nothing_of_now(pipeline, towers, tmp_path):
    """Who stops to say who took an item is as who never said it, though other events come."""
    version = publish(pipeline, towers, tmp_path / "staged", "3h")
    events = EventBuffer(1000)
    updater = VersionUpdater(version, events, LATE)
    end = counted_until(version)
    visit(events, end, 1, ("u", "i03"), ("u", "i08"))
    for hour in range(1, 6):
        add(events, end, *[("i05", hour)] * 100)
        updater.update(end + hour * HOUR)
        has = "co_visitation" in version.fusion.sources
        assert has == (hour < 5), "until three hours after the visit's last minute"


def test_a_clock_that_is_set_back_stops_nothing(pipeline, towers, tmp_path):
    version = publish(pipeline, towers, tmp_path / "staged", "3h")
    events = EventBuffer(1000)
    updater = VersionUpdater(version, events, LATE)
    end = counted_until(version)
    visit(events, end, 1, ("u", "i03"), ("u", "i08"))
    updater.update(end + 2 * HOUR)
    visit(events, end, 1, *[(f"x{n}", item) for n in range(9) for item in ("i03", "i09")])
    updater.update(end + HOUR)
    assert first_after(version, "i03") == "i09"


def test_a_slice_without_weights_may_lean_on_a_source_that_is_added():
    weights = np.array([[0.9, 0.0], [0.0, 0.0], [0.2, 0.8]])
    mix = Fusion(sources=("a", "b"), bounds=(1, 5), weights=weights, fitted=FittedOn())
    found = mix.leaning_on("c", 0.5, adding=True)
    assert found.sources == ("a", "b", "c")
    np.testing.assert_allclose(found.weights, [[0.5, 0, 0.5], [0, 0, 0], [0.1, 0.4, 0.5]])
    assert mix.leaning_on("b", 0.5, adding=True).weights[0].tolist() == [0.5, 0.5]
    assert mix.leaning_on("b", 0.5).weights[0].tolist() == [1, 0]


@pytest.mark.parametrize("rules", [None, {"new_share": 1.0}])
def test_an_answer_is_of_one_mix_whatever_comes_meanwhile(
    pipeline, towers, tmp_path, monkeypatch, rules
):
    """Lists of several filters, and wider ones for a rule, are joined: all have the same sources."""
    version = publish(pipeline, towers, tmp_path / "staged", "3h")
    visits = RecentVisits(len(circle.ITEMS))
    visits.add(np.array([1, 1]), np.array([3, 4]), np.array([0, 1]))
    fitted = version.fusion
    requests = [{"history": ["i03"], "allow": {"kind": kind}} for kind in ("odd", "even")]
    wanted = recommend(version, requests, 3, **(rules or {}))
    real = retrieval.search_without

    def search(*args):
        version.put_source(visits.source())
        adds = "co_visitation" not in version.fusion.sources
        version.fusion = fitted.leaning_on("co_visitation", 0.4, adding=True) if adds else fitted
        return real(*args)

    monkeypatch.setattr(retrieval, "search_without", search)
    found = recommend(version, requests, 3, **(rules or {}))
    assert found.names == wanted.names
    np.testing.assert_array_equal(found.rows, wanted.rows)
    np.testing.assert_array_equal(found.shares, wanted.shares)


def test_a_version_may_hold_users_with_counts_of_another_half_life(
    pipeline, towers, tmp_path, monkeypatch
):
    """That of `personal`, where the mix names no source that is fitted on sequences."""
    table = circle.users()
    lists = {
        "_personal": [["i05", "i03"], [], []],
        "_personal_7d": [[2.0, 1.0], [], []],
        "_personal_age": [[1.0, 0.5], [], []],
    }
    for name, values in lists.items():
        kind = pa.list_(pa.string() if name == "_personal" else pa.float32())
        table = table.append_column(name, pa.array(values, kind))
    monkeypatch.setattr(circle, "users", lambda: table)
    version = publish(pipeline, towers, tmp_path / "staged", "3h")
    events = EventBuffer(1000)
    end = counted_until(version)
    visit(events, end, 1, ("u", "i03"), ("u", "i08"), ("v", "i05"), ("v", "i09"))
    VersionUpdater(version, events, LATE).update(end + HOUR)
    for request, first in (({"user": "anna"}, "i08"), ({"history": ["i05"]}, "i09")):
        found = recommend(version, [request], 1, source="co_visitation").rows[0][0]
        assert circle.ITEMS[found] == first
    assert recommend(version, [{"user": "anna"}, {}], 3).rows.shape == (2, 3)
