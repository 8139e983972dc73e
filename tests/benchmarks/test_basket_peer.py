"""TIFU-KNN of the quality benchmark, against figures found by hand."""

import numpy as np
import pytest

from benchmarks.quality import basket_peer
from benchmarks.quality.basket_peer import Model, baskets_of, frequencies

TIFU = {"groups": 2, "within_decay": 0.5, "group_decay": 0.1, "alpha": 0.5}


def columns(*baskets: tuple[int, int, str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Owners, items and days of events, of `(owner, day, items)`."""
    events = [(owner, int(item), day) for owner, day, items in baskets for item in items]
    return tuple(np.array(column) for column in zip(*events, strict=True))  # type: ignore[return-value]


THREE = columns((0, 1, "0"), (0, 2, "01"), (0, 5, "12"), (1, 1, "0"), (1, 9, "33"), (2, 4, "45"))


def test_an_item_that_is_twice_in_a_basket_is_in_it_once() -> None:
    baskets = baskets_of(*THREE, owners=4)
    assert baskets.count.tolist() == [3, 2, 1, 0]
    assert baskets.owner.tolist() == [0, 0, 0, 0, 0, 1, 1, 2, 2]
    assert baskets.item.tolist() == [0, 0, 1, 1, 2, 0, 3, 4, 5]
    assert baskets.age.tolist() == [2, 1, 1, 0, 0, 1, 0, 0, 0]


@pytest.mark.parametrize("baskets", range(1, 12))
@pytest.mark.parametrize("groups", [1, 2, 3, 7])
def test_tifu_groups_of_any_size(baskets: int, groups: int) -> None:
    settings = {**TIFU, "groups": groups, "within_decay": 0.7}
    events = columns(*((0, day, str(day % 3)) for day in range(baskets)))
    parts = min(baskets, groups)
    sizes = [baskets // parts + (part >= parts - baskets % parts) for part in range(parts)]
    wanted, day = np.zeros(3), 0
    for part, size in enumerate(sizes):
        vector = np.zeros(3)
        for place in range(size):
            vector[day % 3] += 0.7 ** (size - 1 - place)
            day += 1
        wanted += 0.1 ** (parts - 1 - part) * vector / size / parts
    found = frequencies(baskets_of(*events, owners=1), 3, settings).toarray()[0]
    assert found == pytest.approx(wanted)


def model_of(settings: dict) -> Model:
    owner, item, day = THREE
    places = np.array([0, 1, 2, -1, 3, 4])  # item 3 is not in the catalogue
    return Model({"user": owner, "item": item, "day": day, "users": 3, "place": places}, settings)


def ranked(settings: dict, asked: tuple, users: list[int]) -> list[list[int]]:
    query, item, day = asked
    start = np.searchsorted(query, np.arange(len(users) + 1))
    queries = {"start": start, "item": item, "day": day, "user": np.array(users)}
    actual = model_of(settings).rank(queries)
    return [[int(place) for place in row if place >= 0] for row in actual]


def test_tifu_mixes_the_user_with_the_nearest_other() -> None:
    asked = columns((0, 1, "0"), (0, 2, "01"), (0, 5, "12"), (1, 7, "4"))
    # User 0, from [.175 .375 .25 0 0 0]: user 1 is .47 away (squares), user 2 far. Item 3 of user 1
    # is not listed. A stranger who had 4 is nearest to user 0 (1.23) or 1 (1.25) or 2 (1): 2.
    near = {**TIFU, "neighbours": 1}
    assert ranked(near, asked, [0, -1]) == [[1, 2, 0], [3, 4]]
    assert ranked(near, asked, [0, -1, -1])[2] == [], "without a past"
    users, both = frequencies(baskets_of(*THREE, owners=3), 6, TIFU), {**TIFU, "neighbours": 2}
    every = basket_peer.tifu_scores(users, users[:1], np.array([0]), both).toarray()[0]
    own = np.array([0.175, 0.375, 0.25, 0, 0, 0])
    others = np.array([0.05, 0, 0, 0.5, 1, 1]) / 2
    assert every == pytest.approx(0.5 * own + 0.5 * others)
