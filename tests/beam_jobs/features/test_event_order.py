import numpy as np
import polars as pl
import pytest

from beam_jobs.point_in_time import user_history, user_shard

NAMES = ["a", "B", "é", "z-", "", "ab", "a b", "日本", "0", "00"]
"""Strings whose order by bytes is not that of any alphabet."""


def drawn(seed):
    """Events whose users, items and times often are the same."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    return pl.DataFrame(
        {
            "_user": rng.choice(NAMES, n).tolist(),
            "_item": rng.choice(NAMES, n).tolist(),
            "_time": rng.integers(-5, 4, n),
            "_order": rng.permutation(n),
        }
    )


def by_numbers(events):
    items, places = user_shard._places(events)
    placed = events.with_columns(places)
    assert items.gather(placed[user_history.ITEM_NUMBER]).to_list() == events["_item"].to_list()
    return placed.sort(user_shard._PLACE, user_history.ITEM_NUMBER, "_order")


@pytest.mark.parametrize("seed", range(20))
def test_numbers_sort_as_strings_do(seed):
    events = drawn(seed)
    expected = events.sort("_user", "_time", "_item", "_order")
    found = by_numbers(events)
    assert found.select(events.columns).equals(expected)
    assert found["_code"].to_list() == expected["_user"].rle_id().to_list()


@pytest.mark.parametrize("seed", range(20))
def test_what_users_took_most(seed):
    events = by_numbers(drawn(seed))
    expected = []
    for user in sorted(set(events["_user"]), key=str.encode):
        taken = {}
        for item, time in events.filter(pl.col("_user") == user)["_item", "_time"].iter_rows():
            n, last = taken.get(item, (0, time))
            taken[item] = (n + 1, max(last, time))
        ranked = sorted(taken, key=lambda i: (-taken[i][0], -taken[i][1], i.encode()))
        counts = [taken[item][0] for item in ranked]
        expected.append((user, ranked[:3], counts[:3], sum(counts)))
    assert user_history.interaction_counts(events, 3).rows() == expected
