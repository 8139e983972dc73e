import json
from datetime import date, datetime
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.evaluation.day_queries import (
    SelectedRows,
    at_most_events,
    has_past,
    holdout_rows,
    next_click_rows,
    progressive_rows,
    shares_after,
    unseen_users_on,
)
from twinspire_core.contracts.day_metrics import DayMetrics

DAY = date(2024, 5, 20)
WEEK = [date.fromordinal(DAY.toordinal() - n) for n in range(1, 8)]


def rows(*each: tuple) -> pa.Table:
    """User, days before DAY, held out, events before."""
    user, back, held, events = zip(*each, strict=True)
    days = [date.fromordinal(DAY.toordinal() - n) for n in back]
    columns = {"_user": user, "_day": pa.array(days, pa.date32())}
    return pa.table(columns | {"_holdout": held, "_past_events": events})


def test_progressive_rows_are_the_days_own_and_a_stable_sample():
    table = rows(*[(f"u{i}", i % 2, False, 1) for i in range(100)])
    day = progressive_rows(table, DAY, 1000)
    assert day.column("_user").to_pylist() == [f"u{i}" for i in range(0, 100, 2)]
    few = progressive_rows(table, DAY, 10).column("_user").to_pylist()
    assert len(few) == 10
    # In the table's order
    assert few == [user for user in day.column("_user").to_pylist() if user in few]
    reordered = progressive_rows(table.take(list(range(99, -1, -1))), DAY, 10)
    assert set(reordered.column("_user").to_pylist()) == set(few)


def test_earlier_days_held_out_users_are_added_until_they_are_enough():
    table = rows(
        ("a", 0, True, 1),
        ("b", 0, False, 1),
        ("a", 1, True, 1),
        ("c", 2, True, 1),
        ("d", 3, True, 1),
        ("e", 7, True, 1),  # beyond a week
    )

    def chosen(least: int, most: int = 100, earlier=WEEK) -> list[str]:
        chosen = holdout_rows(table, DAY, earlier=earlier, min_users=least, max_users=most)
        return chosen.column("_user").to_pylist()

    assert chosen(1) == ["a"]
    assert chosen(2) == ["a", "a", "c"]
    assert chosen(3) == ["a", "a", "c", "d"]
    assert chosen(200) == ["a", "a", "c", "d"]
    assert len(chosen(200, most=2)) == 2
    assert chosen(200, earlier=[WEEK[2]]) == ["a", "d"]  # three days before
    assert chosen(200, earlier=[]) == ["a"]


def test_newcomers_are_also_queried_but_are_too_few_to_judge():
    # Two days of 20 with a past, 20 without
    table = rows(*[(f"u{i}", i // 40, True, i % 2) for i in range(80)])
    assert has_past(table).sum() == 40
    assert has_past(progressive_rows(table, DAY, 20)).sum() == 20
    assert progressive_rows(table, DAY, 20).num_rows == 40
    few = progressive_rows(table, DAY, 5)
    assert (few.num_rows, has_past(few).sum()) == (10, 5)
    users = few.column("_user").to_pylist()
    assert users == sorted(users, key=lambda user: int(user[1:]))
    assert holdout_rows(table, DAY, earlier=WEEK, min_users=20, max_users=100).num_rows == 40
    # 20 of 40 with a past
    assert holdout_rows(table, DAY, earlier=WEEK, min_users=21, max_users=100).num_rows == 80


UTC = pa.timestamp("us", tz="UTC")
EXAMPLES = pa.table(
    {
        "_user": ["u", "v", "u"],
        "_item": ["a", "b", "c"],
        "_time": pa.array([datetime(2024, 5, 20, hour) for hour in (1, 2, 3)], UTC),
        "device": ["tv", None, "phone"],
        "recent": [["x", "y"], [], ["x", "y", "a"]],
    }
)


def test_a_query_per_event_knows_what_was_before_it():
    queries = next_click_rows(EXAMPLES, "recent")
    assert queries.column("_truth").to_pylist() == [["a"], ["b"], ["c"]]
    assert queries.column("_past").to_pylist() == [["y", "x"], [], ["a", "y", "x"]]
    assert queries.column("device").to_pylist() == ["tv", None, "phone"]
    assert has_past(queries).all()
    parts = next_click_rows(EXAMPLES.slice(1), "recent")
    assert parts.column("_past").to_pylist() == [[], ["a", "y", "x"]]
    assert next_click_rows(EXAMPLES.slice(0, 0), "recent").num_rows == 0
    assert next_click_rows(EXAMPLES, None).column("_past").to_pylist() == [[], [], []]


@pytest.mark.parametrize("order", [1, -1])
def test_many_events_are_sampled_the_same_whatever_their_order(order):
    n = 200
    times = [datetime(2024, 5, 20, i // 10, i % 10) for i in range(n)]
    table = pa.table({"_user": ["u"] * n, "_item": ["a"] * n, "_time": pa.array(times, UTC)})
    found = at_most_events(table.take(list(range(n))[::order]), 20)["_time"].to_pylist()
    assert len(set(found)) == 20
    assert found == sorted(found, reverse=order < 0)  # in the table's order
    assert set(found) == set(at_most_events(table, 20)["_time"].to_pylist())


ALL = {date(2024, 5, n) for n in range(14, 20)}  # the six days before the 20th


@pytest.fixture
def context(tmp_path):
    """The 20th of May, with a parent that left this record; None: no parent; {}: an empty one."""

    def context(record, share, mode="incremental"):
        (tmp_path / DayMetrics.FILE).write_text(json.dumps(record or {}))
        return SimpleNamespace(
            day=date(2024, 5, 20),
            mode=mode,
            parent=None if record is None else SimpleNamespace(home=str(tmp_path)),
            pipeline=SimpleNamespace(evaluation=SimpleNamespace(holdout=share)),
        )

    return context


def record(**shares):
    return {"held_out_shares": {f"2024-05-{day[1:]}": share for day, share in shares.items()}}


@pytest.mark.parametrize("mode", ["incremental", "full"])
def test_strangers_are_held_out_of_days_by_a_share_no_larger_than_then(context, mode):
    line = record(d17=0.1, d18=0.2, d19=0.05)
    # The 14th to 16th: never trained on
    assert unseen_users_on(context(line, 0.1, mode)) == ALL - {date(2024, 5, 19)}
    assert unseen_users_on(context(line, 0.2, mode)) == ALL - {date(2024, 5, 17), date(2024, 5, 19)}
    assert unseen_users_on(context(line, 0.05, mode)) == ALL


def test_without_a_parent_all_are_strangers_and_of_an_unknown_one_nobody_is(context):
    assert unseen_users_on(context(None, 0.1, "full")) == ALL
    assert unseen_users_on(context({}, 0.1)) == set()


def test_the_record_goes_on_through_the_line_and_forgets_after_a_week(context):
    line = record(d13=0.1, d14=0.1, d19=0.05)
    shares = shares_after(context(line, 0.2), [date(2024, 5, 20)])
    assert shares == {"2024-05-14": 0.1, "2024-05-19": 0.05, "2024-05-20": 0.2}
    unknown = shares_after(context({}, 0.2), [date(2024, 5, 20)])
    assert unknown == {str(day): 0.0 for day in ALL} | {"2024-05-20": 0.2}


def test_training_from_scratch_restarts_the_record(context):
    window = [date(2024, 5, n) for n in (1, 18, 19, 20)]
    shares = shares_after(context(record(d19=0.05, d15=0.1), 0.2, "full"), window)
    assert shares == {"2024-05-18": 0.2, "2024-05-19": 0.2, "2024-05-20": 0.2}


TABLE = pa.table(
    {
        "user": [f"u{n % 7}" for n in range(100)],
        "held": [n % 3 == 0 for n in range(100)],
        "purchase_history": [[f"i{n}"] * (n % 4) for n in range(100)],
    }
)
COLUMNS = ["purchase_history", "user"]


@pytest.fixture
def wide(tmp_path):
    """The table in three files of several row groups."""
    for n, (start, rows) in enumerate([(0, 33), (33, 0), (33, 67)]):
        pq.write_table(TABLE.slice(start, rows), tmp_path / f"{n}.parquet", row_group_size=10)
    return SelectedRows(tmp_path, ["held"], COLUMNS, TABLE.schema.empty_table())


@pytest.mark.parametrize("rows", [[], [0], [99], [32, 33], [9, 10, 11, 50], range(100)])
def test_chosen_rows_are_read_whole(wide, rows):
    table = wide.read(wide.narrow.take(pa.array(rows, pa.int64())))
    assert table.equals(TABLE.select(COLUMNS).take(pa.array(rows, pa.int64())))
    assert wide.narrow.column("held").equals(TABLE.column("held"))


def test_a_folder_without_files_has_no_rows(tmp_path):
    wide = SelectedRows(tmp_path / "none", ["held"], COLUMNS, TABLE.schema.empty_table())
    assert wide.read(wide.narrow).equals(TABLE.select(COLUMNS).slice(0, 0))
