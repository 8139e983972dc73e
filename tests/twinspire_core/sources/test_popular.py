import numpy as np
import pyarrow as pa

from twinspire_core.search.ragged import positions
from twinspire_core.sources.popular_and_history import past_then, popular_order, same_for_all

ITEMS = ["a", "b", "c", "d", "e"]
CORPUS = pa.table({"_item": ITEMS, "_popular": [5, 9, 5, 0, 7], "_lately": [1, 0, 3, 3, None]})


def names(ranked: np.ndarray) -> list[str]:
    return ["".join(ITEMS[x] if x >= 0 else "-" for x in row) for row in ranked]


def lists(*each: str):
    return positions(
        pa.array([list(items) for items in each], pa.list_(pa.string())), pa.array(ITEMS)
    )


def test_popular_by_count_then_by_the_other_count_then_by_position():
    assert names([popular_order(CORPUS, "_popular")]) == ["becad"]
    # C and d tie at 3: c has more in the window
    assert names([popular_order(CORPUS, "_lately")]) == ["cdabe"]


def test_the_same_list_for_all_without_what_each_has_seen():
    order = popular_order(CORPUS, "_popular")
    assert names(same_for_all(order, 2, 3)) == ["bec", "bec"]
    without = same_for_all(order, 3, 3, exclude=lists("b", "", "zbecd"))
    assert names(without) == ["eca", "bec", "a--"]
    assert names(same_for_all(order, 1, 7)) == ["becad--"]


def test_the_users_own_items_come_first_and_the_popular_fill_up():
    order = popular_order(CORPUS, "_popular")
    past = lists("da", "", "z", "abcde", "dzd")  # z has left the corpus
    assert names(past_then(past, order, 4)) == ["dabe", "beca", "beca", "abcd", "dbec"]
