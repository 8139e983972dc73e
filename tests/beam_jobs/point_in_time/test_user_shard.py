import random

import numpy as np
import polars as pl
import pytest

from beam_jobs.features import read_steps
from beam_jobs.features.read_steps import UserEventLimit
from beam_jobs.ingest.records import ORDER
from beam_jobs.point_in_time import item_counts, user_shard
from beam_jobs.point_in_time.user_shard import within

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
    assert items.gather(placed[item_counts.ITEM_NUMBER]).to_list() == events["_item"].to_list()
    return placed.sort(user_shard._PLACE, item_counts.ITEM_NUMBER, "_order")


@pytest.mark.parametrize("seed", range(20))
def test_numbers_sort_as_strings_do(seed):
    events = drawn(seed)
    expected = events.sort("_user", "_time", "_item", "_order")
    records = by_numbers(events)
    assert records.select(events.columns).equals(expected)
    assert records["_code"].to_list() == expected["_user"].rle_id().to_list()


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
    assert user_shard.interaction_counts(events, 3).rows() == expected


def log(rows=3000, seed=0):
    draw = random.Random(seed)
    users = [min(20, int(draw.paretovariate(0.5))) for _ in range(rows)]
    events = {
        "_user": [f"u{user}" for user in users],
        "_day": [draw.choice([1, 2]) for _ in range(rows)],
    }
    return pl.DataFrame(events, {"_user": pl.String, "_day": pl.Int32}).with_row_index(ORDER)


def first(events, most):
    """Places of each user's first events of each day."""
    kept, seen = [], {}
    for row in events.sort(ORDER).iter_rows(named=True):
        key = row["_user"], row["_day"]
        seen[key] = seen.get(key, 0) + 1
        kept += [row[ORDER]] if seen[key] <= most else []
    return kept


@pytest.mark.parametrize("most", [1, 40, 400, 10_000])
def test_the_first_events_of_a_user_and_day_are_kept(most, monkeypatch):
    monkeypatch.setattr(read_steps, "_WATCHED", 20)
    events = log()
    parts = []
    for part in events.iter_slices(1000):
        limit = UserEventLimit(most)
        parts.append(pl.concat([limit.take(block) for block in part.iter_slices(250)]))
    came = pl.concat(parts).sample(fraction=1, shuffle=True, seed=1)
    assert within(came, most).sort(ORDER)[ORDER].to_list() == first(events, most)
    busiest = events.group_by("_user", "_day").len()["len"].max()
    left = came.group_by("_user", "_day").len()["len"].max()
    assert left == busiest if most > busiest else left <= 3 * most + 20 * 12, (
        "most goes before all parts meet"
    )
    assert within(came, most).equals(came.filter(pl.col(ORDER).is_in(first(events, most)))), (
        "in the frame's order"
    )


def test_a_feature_may_have_any_name(monkeypatch):
    monkeypatch.setattr(read_steps, "_WATCHED", 1)
    events = pl.DataFrame({"_user": ["u"] * 5, "_day": [1] * 5, ORDER: range(5)})
    events = events.with_columns(pl.lit("x").alias("before"), pl.lit("y").alias("n"))
    limit = UserEventLimit(3)
    kept = pl.concat([limit.take(events[:2]), limit.take(events[2:])])
    assert kept.equals(events[:3])
