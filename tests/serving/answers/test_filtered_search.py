"""What must not come back, as pairs of a query and an item."""

import numpy as np

from serving.answers.filtered_search import Seen


def test_the_items_of_each_query_stay_in_the_order_given():
    seen = Seen(np.array([2, 0, 2]), np.array([5, 3, 1]))
    lists = seen.by_query(3)
    assert lists.row.tolist() == [0, 2, 2] and lists.values.tolist() == [3, 5, 1]
    assert lists.lengths.tolist() == [1, 0, 2]


def test_pairs_of_some_queries_are_numbered_anew():
    seen = Seen(np.array([2, 0, 2, 1]), np.array([5, 3, 1, 4]))
    query, row = seen.of(np.array([1, 2]))
    assert (query.tolist(), row.tolist()) == ([1, 1, 0], [5, 1, 4])
