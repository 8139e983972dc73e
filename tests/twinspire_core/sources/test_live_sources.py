"""What is taken close together just now, against sums made pair by pair; and sources of a corpus that has grown."""

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pytest

from twinspire_core.search.ragged import Ragged
from twinspire_core.sources import live_sources
from twinspire_core.sources.live_sources import OfFirstItems, RecentVisits
from twinspire_core.sources.popular_and_history import History, Popular
from twinspire_core.sources.source import Queries, Source
from twinspire_core.sources.user_histories import PersonalCounts

HOUR = 3_600 * 1_000_000
C = 30
NOON = 1_700_000_000 * 1_000_000


def events(seed: int, number: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users, items and times of the last 20 hours."""
    rng = np.random.default_rng(seed)
    times = NOON - rng.choice(20 * 3600, number, replace=False) * 1_000_000
    return rng.integers(1, 6, number), rng.integers(0, C, number), times


def by_pairs(users, items, times) -> dict[tuple[int, int], float]:
    """The similarity of two items, both orders. Of each user only the newest event of an item counts,
    and each pair of these that are at most 20 apart adds exp(-hours between) .5^(hours since the
    newer / 3), over the root of the product of the items' decayed events, plus 1.
    """
    now = max(times)
    newest = defaultdict(int)
    for user, item, time in zip(users, items, times, strict=True):
        newest[user, item] = max(newest[user, item], time)
    users, items = zip(*newest, strict=True)
    times = newest.values()
    since = [(now - time) / HOUR for time in times]
    counts = defaultdict(float)
    for item, hours in zip(items, since, strict=True):
        counts[item] += 0.5 ** (hours / 3)
    sums = defaultdict(float)
    for user in set(users):
        visited = zip(users, items, since, strict=True)
        visits = sorted((hours, item) for visitor, item, hours in visited if visitor == user)
        for place, (newer, item) in enumerate(visits):
            for older, other in visits[place + 1 : place + 21]:
                if item != other:
                    sums[item, other] += math.exp(newer - older) * 0.5 ** (newer / 3)
    actual = defaultdict(float)
    for (item, other), value in sums.items():
        for pair in ((item, other), (other, item)):
            actual[pair] += value / (math.sqrt(counts[item] * counts[other]) + 1)
    return actual


def similarities(visits: RecentVisits) -> dict[tuple[int, int], float]:
    offsets, others, values, _ = visits.source().near_items
    items = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    pairs = zip(items.tolist(), others.tolist(), strict=True)
    return dict(zip(pairs, values.tolist(), strict=True))


def test_similarities_are_those_of_all_pairs():
    users, items, times = events(1)
    visits = RecentVisits(C)
    visits.add(users, items, times)
    actual, wanted = similarities(visits), by_pairs(users, items, times)
    assert actual.keys() == wanted.keys()
    assert actual == pytest.approx(wanted, rel=1e-4)


def test_events_may_come_in_any_order():
    users, items, times = events(2)
    at_once = RecentVisits(C)
    at_once.add(users, items, times)
    one_by_one = RecentVisits(C)
    for n in np.random.default_rng(0).permutation(len(times)):
        one_by_one.add(users[[n]], items[[n]], times[[n]])
    assert similarities(one_by_one) == pytest.approx(similarities(at_once), rel=1e-6)


def test_what_is_a_day_old_is_gone():
    visits = RecentVisits(12)
    visits.add(np.array([1, 1]), np.array([3, 4]), np.array([NOON - 25 * HOUR, NOON - 25 * HOUR]))
    assert similarities(visits)
    visits.add(np.array([2]), np.array([5]), np.array([NOON]))
    assert not similarities(visits)


def test_of_more_the_newest_are_kept(monkeypatch):
    monkeypatch.setattr(live_sources, "MOST_EVENTS", 4)
    visits = RecentVisits(12)
    times = NOON + np.arange(6) * 1_000_000
    visits.add(np.ones(6, np.int64), np.array([0, 1, 2, 3, 4, 5]), times[::-1])
    assert {item for pair in similarities(visits) for item in pair} == {0, 1, 2, 3}


def test_a_large_corpus_has_fewer_neighbours(monkeypatch):
    users, items, times = events(3)
    monkeypatch.setattr(live_sources, "_CELLS", 2 * C)
    visits = RecentVisits(C)
    visits.add(users, items, times)
    assert np.diff(visits.source().near_items.offsets).max() == 2


def test_no_visitor_moves_what_all_are_shown():
    """Ten read 0, then 1; one goes to and fro between 0 and 2, and counts like any other."""
    readers = np.repeat(np.arange(1, 11), 2)
    visits = RecentVisits(C)
    visits.add(readers, np.tile([0, 1], 10), NOON + np.arange(20) * 1_000_000)
    restless = np.full(1000, 99)
    visits.add(restless, np.tile([0, 2], 500), NOON + np.arange(1000) * 1_000_000)
    similar = similarities(visits)
    assert similar[0, 2] < similar[0, 1]
    assert similar[0, 2] < 1


def test_one_visitor_leaves_room_for_others(monkeypatch):
    monkeypatch.setattr(live_sources, "MOST_EVENTS", 8)
    monkeypatch.setattr(live_sources, "MOST_OF_ONE", 3)
    visits = RecentVisits(C)
    visits.add(np.array([1, 1]), np.array([3, 4]), np.array([NOON, NOON + 1]))
    for n in range(2, 30):
        visits.add(np.array([99]), np.array([n]), np.array([NOON + n]))
        assert len(visits._times) <= 10, "a quarter more than are fitted on"
    actual = {item for pair in similarities(visits) for item in pair}
    assert actual == {3, 4, 27, 28, 29}


def test_of_events_of_one_time_the_later_one_is_the_newer(monkeypatch):
    monkeypatch.setattr(live_sources, "MOST_OF_ONE", 2)
    visits = RecentVisits(C)
    for item in range(6):
        visits.add(np.array([1]), np.array([item]), np.array([NOON]))
        actual = {item for pair in similarities(visits) for item in pair}
        assert actual == ({item - 1, item} if item else set())


def lists(source: Source, queries: Queries, **left_out) -> list[list[int]]:
    actual = OfFirstItems(source, 4).lists(queries, 6, **left_out).items
    return [[int(item) for item in row if item >= 0] for row in actual]


def test_an_item_behind_the_first_ones_is_in_no_past():
    past = Ragged(np.array([5, 2, 4, 0, 4]), np.array([0, 0, 0, 0, 1]), 2)
    counts = PersonalCounts.of_histories(past)
    queries = Queries(past=past, events=past.lengths, personal=counts)
    assert lists(History(), Queries.of_past(past)) == [[2, 0], []]
    assert lists(History(), queries) == [[0, 2], []]
    assert counts.items.values.max() == 5, "what others read of a query stays"


def test_what_is_left_out_may_be_of_items_that_came_later():
    source = Popular(np.array([3, 1, 0, 2]), np.array([2, 3, 1, 4], np.float32))
    queries = Queries.of_past(Ragged(np.array([5]), np.array([0]), 1))
    exclude = Ragged(np.array([4, 3, 5]), np.zeros(3, np.int64), 1)
    passing = np.array([True, True, False, True, True, False])
    assert lists(source, queries) == [[3, 1, 0, 2]]
    assert lists(source, queries, exclude=exclude, passing=passing) == [[1, 0]]


@dataclass(frozen=True)
class _Strict(Popular):
    """Looks at positions itself, as sources by factors do, and has room for no other items."""

    def lists(self, queries, depth, *, exclude=None, passing=None):
        room = np.zeros(4)
        room[queries.past.values] += 1
        if exclude is not None:
            room[exclude.values] += 1
        assert passing is None or len(passing) == 4
        return super().lists(queries, depth, exclude=exclude, passing=passing)


def test_a_source_never_hears_of_a_position_that_it_has_not():
    source = _Strict(np.array([3, 1, 0, 2]), np.array([2, 3, 1, 4], np.float32))
    queries = Queries.of_past(Ragged(np.array([5, 1]), np.array([0, 0]), 1))
    exclude = Ragged(np.array([4, 3]), np.zeros(2, np.int64), 1)
    assert lists(source, queries, exclude=exclude, passing=np.ones(6, bool)) == [[1, 0, 2]]
