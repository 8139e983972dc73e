"""A source of a corpus that has become longer lists what it would list of the corpus that it was made of."""

from dataclasses import dataclass

import numpy as np

from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.first_items import OfFirstItems
from twinspire_core.sources.history import History
from twinspire_core.sources.personal_counts import PersonalCounts
from twinspire_core.sources.popular import Popular
from twinspire_core.sources.source import Queries, Source


def lists(source: Source, queries: Queries, **left_out) -> list[list[int]]:
    found = OfFirstItems(source, 4).lists(queries, 6, **left_out).items
    return [[int(item) for item in row if item >= 0] for row in found]


def test_an_item_behind_the_first_ones_is_in_no_past():
    past = Ragged(np.array([5, 2, 4, 0, 4]), np.array([0, 0, 0, 0, 1]), 2)
    counts = PersonalCounts.of_histories(past)
    queries = Queries(past=past, events=past.lengths, personal=counts)
    assert lists(History(), Queries.of_past(past)) == [[2, 0], []]
    assert lists(History(), queries) == [[0, 2], []]
    assert counts.item.max() == 5, "what others read of a query stays"


def test_what_is_left_out_may_be_of_items_that_came_later():
    source = Popular(np.array([3, 1, 0, 2]), np.array([2, 3, 1, 4], np.float32))
    queries = Queries.of_past(Ragged(np.array([5]), np.array([0]), 1))
    exclude = Ragged(np.array([4, 3, 5]), np.zeros(3, np.int64), 1)
    passing = np.array([True, True, False, True, True, False])
    assert lists(source, queries) == [[3, 1, 0, 2]]
    assert lists(source, queries, exclude=exclude, passing=passing) == [[1, 0]]


@dataclass(frozen=True)
class _Strict(Popular):
    """Looks at positions itself, as sources by factors do, and has room for its own items alone."""

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
