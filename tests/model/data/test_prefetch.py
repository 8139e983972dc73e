import threading
from itertools import count

import pytest

from model.data.prefetch import prefetched


def test_the_same_items_and_no_more_than_asked_for_in_advance():
    made = []
    items = prefetched((made.append(n) or n for n in range(20)), 3)
    for expected, item in enumerate(items):
        assert item == expected
        assert len(made) <= expected + 1 + 3
    assert made == list(range(20))
    assert list(prefetched(iter([]), 3)) == []


def test_an_error_comes_in_its_turn():
    items = prefetched((1 // (2 - n) for n in range(5)), 2)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(items)


def test_no_thread_is_left_of_items_that_nobody_wants():
    before = threading.active_count()
    items = prefetched(count(), 3)
    assert next(items) == 0
    items.close()
    assert threading.active_count() == before
