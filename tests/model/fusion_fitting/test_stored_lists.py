"""Which lists of earlier days are kept, and that they come back from their files as they were."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pyarrow.parquet as pq

from model.fusion_fitting import stored_lists
from model.fusion_fitting.stored_lists import (
    MOST_OF_A_DAY,
    DayLists,
    keep_needed,
    users_by_slice,
)
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.queries import ScoredLists

TODAY = date(2024, 5, 20)
BOUNDS = (1, 5)


def a_day(days_ago: int, events: list[int], *, held_out: int = 0, seed: int = 0) -> DayLists:
    """Users with so many events; the first so many were held out. Lists end early, some at once."""
    rng = np.random.default_rng(seed)
    users = len(events)
    listed = np.stack([rng.permutation(1_000)[:100] for _ in events])
    listed = np.where(np.arange(100) < rng.integers(0, 101, users)[:, None], listed, -1)
    return DayLists(
        day=TODAY - timedelta(days=days_ago),
        two_tower=f"v{days_ago}",
        past_events=np.array(events),
        held_out=np.arange(users) < held_out,
        taken=Ragged.of_lengths(rng.integers(-1, 1_000, 2 * users), np.full(users, 2)),
        lists={
            name: ScoredLists(items, np.where(items >= 0, scores, -np.inf).astype(np.float32))
            for name, items, scores in (
                ("two_tower", listed, -np.sort(-rng.random(listed.shape))),
                ("past", listed[::-1], np.arange(100, 0, -1)),
            )
        },
    )


def needed(days: list[DayLists], **options) -> list[DayLists]:
    settings = {"sources": ("two_tower", "past"), "bounds": BOUNDS, "enough": 3} | options
    return keep_needed(days, TODAY, **settings)


def same(one: DayLists, other: DayLists) -> bool:
    return (
        (one.day, one.two_tower) == (other.day, other.two_tower)
        and np.array_equal(one.past_events, other.past_events)
        and np.array_equal(one.held_out, other.held_out)
        and np.array_equal(one.taken.padded(), other.taken.padded())
        and one.lists.keys() == other.lists.keys()
        and all(
            np.array_equal(*pair)
            for name in one.lists
            for pair in zip(one.lists[name], other.lists[name], strict=True)
        )
    )


def test_lists_come_back_from_their_files_newest_first(tmp_path):
    days = [a_day(0, [0, 2, 9], seed=1), a_day(3, [7, 7], held_out=1, seed=2)]
    stored_lists.write(tmp_path, [days[1], days[0], a_day(4, [1]).take(np.arange(0))])
    again = stored_lists.read(str(tmp_path))
    assert [lists.day for lists in again] == [lists.day for lists in days], "none is empty"
    assert all(same(one, other) for one, other in zip(days, again, strict=True))
    assert stored_lists.read(str(tmp_path / "gone")) == []


def test_files_of_another_format_are_not_read(tmp_path):
    stored_lists.write(tmp_path, [a_day(0, [1])])
    file = tmp_path / "lists" / "dt=2024-05-20.parquet"
    newer = {**pq.read_schema(file).metadata, b"twinspire.lists.format": b"2"}
    pq.write_table(pq.read_table(file).replace_schema_metadata(newer), file)
    assert stored_lists.read(str(tmp_path)) == []


def test_columns_of_later_releases_are_left_alone(tmp_path):
    stored_lists.write(tmp_path, [a_day(0, [1, 2])])
    file = tmp_path / "lists" / "dt=2024-05-20.parquet"
    table = pq.read_table(file)
    more = table.append_column("age:past", table.column("list:past"))
    pq.write_table(more.replace_schema_metadata(table.schema.metadata), file)
    assert same(stored_lists.read(str(tmp_path))[0], a_day(0, [1, 2]))


def test_files_hold_neither_users_nor_items(tmp_path):
    """What is not there need not be forgotten."""
    stored_lists.write(tmp_path, [a_day(0, [1, 2])])
    schema = pq.read_schema(tmp_path / "lists" / "dt=2024-05-20.parquet")
    kinds = {"int64", "bool", "list<element: int32>", "list<element: float>"}
    assert {str(field.type) for field in schema} == kinds


def test_of_each_slice_the_newest_days_with_enough_users_are_kept():
    """Slices: no event, 1 to 4, 5 and more. By hand, three users of each are enough."""
    days = [
        a_day(0, [0, 2, 2, 2, 9]),
        a_day(1, [0, 0, 2, 9]),
        a_day(2, [0, 2, 9, 9]),
        a_day(3, [9, 9, 9]),
    ]
    kept = needed(days)
    assert [lists.past_events.tolist() for lists in kept] == [
        [0, 2, 2, 2, 9],  # the day itself, whole
        [0, 0, 9],  # of users with 1 to 4 events there were three already
        [9, 9],  # now there are three newcomers too, and two of the last slice
    ]
    assert users_by_slice(kept, BOUNDS).tolist() == [3, 3, 4]
    assert [same(*pair) for pair in zip(needed(kept), kept, strict=True)] == [True] * 3


def test_users_held_out_are_kept_beside_and_do_not_count():
    kept = needed([a_day(0, [9] * 4, held_out=2), a_day(1, [9] * 5, held_out=4), a_day(2, [9])])
    assert [lists.users for lists in kept] == [4, 5]
    assert users_by_slice(kept, BOUNDS).tolist() == [0, 0, 3]


def test_lists_are_kept_for_28_days():
    kept = needed([a_day(28, [9]), a_day(29, [9]), a_day(0, [9])])
    assert [(TODAY - lists.day).days for lists in kept] == [0, 28]


def test_no_day_has_more_users_of_a_slice_than_its_share():
    many = a_day(0, [9] * (MOST_OF_A_DAY + 500) + [2] * 7, held_out=400)
    kept = needed([many])[0]
    assert users_by_slice([kept], BOUNDS).tolist() == [0, 7, MOST_OF_A_DAY]
    assert kept.held_out.sum() == 400
    assert same(needed([kept])[0], kept)


def test_lists_say_of_which_kind_they_are(tmp_path):
    kept = a_day(1, [1, 2])
    excluded = replace(a_day(2, [1, 2]), exclude_seen=True)
    stored_lists.write(tmp_path, [kept, excluded])
    found = stored_lists.read(str(tmp_path))
    assert [lists.exclude_seen for lists in found] == [False, True]
    kinds = [[lists.day for lists in needed(found, exclude_seen=said)] for said in (False, True)]
    assert kinds == [[kept.day], [excluded.day]]
