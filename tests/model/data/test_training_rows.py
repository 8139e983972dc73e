from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.data import training_rows
from model.towers.architecture import FeatureColumn
from twinspire_core.errors import BadData

ITEM = FeatureColumn(name="item", feature="item", kind="id", form="id", table="item", width=8)
RECENT = FeatureColumn(
    name="recent", feature="recent", kind="history", form="ids", table="item", width=8
)
SHAPE = FeatureColumn(name="shape", feature="shape", kind="vector", form="vector", width=2)


def _table(minutes, users=None):
    start, n = datetime(2024, 5, 1, tzinfo=UTC), len(minutes)
    times = [start + timedelta(minutes=m) for m in minutes]
    return pa.table(
        {
            "_time": pa.array(times, pa.timestamp("us", tz="UTC")),
            "_user": users or [f"u{i}" for i in range(n)],
            "_item": [f"i{m}" for m in minutes],
            "_reward": pa.array([1.0] * n, pa.float32()),
            "item": pa.array(minutes, pa.int64()),
            "recent": pa.array([list(range(1, m + 1)) for m in minutes], pa.list_(pa.int64())),
            "shape": pa.array([[float(m), 1.0] for m in minutes], pa.list_(pa.float32())),
        }
    )


def test_rows_come_in_order_of_time_whatever_the_files(tmp_path):
    pq.write_table(_table([5, 1]), tmp_path / "a.parquet")
    pq.write_table(_table([3, 2, 4]), tmp_path / "b.parquet")
    rows = training_rows.read(tmp_path, [ITEM, RECENT, SHAPE])
    assert rows.features["item"].tolist() == [1, 2, 3, 4, 5]
    assert rows.features["recent"].tolist()[2] == [1, 2, 3, 0, 0]
    assert rows.features["shape"].tolist()[4] == [5.0, 1.0]
    assert len(set(rows.item.tolist())) == 5
    assert [rows.user.tolist().index(user) for user in rows.user] == [0, 0, 2, 3, 2]


def test_a_column_that_is_missing_is_named(tmp_path):
    pq.write_table(_table([1]).drop_columns("recent"), tmp_path / "a.parquet")
    with pytest.raises(BadData, match=r"no recent.*Run that stage again"):
        training_rows.read(tmp_path, [ITEM, RECENT])


def test_no_file_is_an_error(tmp_path):
    with pytest.raises(BadData, match="has no Parquet"):
        training_rows.read(tmp_path, [ITEM])


def test_days_are_joined_in_the_order_given():
    def day(first, width):
        time = np.arange(first, first + 2)
        recent = {"recent": np.full((2, width), first)}
        return training_rows.Rows(
            features=recent, user=time * 10, item=time, reward=np.ones(2, np.float32), time=time
        )

    rows = training_rows.join([day(1, 2), day(5, 3)])
    assert rows.features["recent"].tolist() == [[1, 1, 0], [1, 1, 0], [5, 5, 5], [5, 5, 5]]
    assert rows.time.tolist() == [1, 2, 5, 6]
    assert rows.user.tolist() == [10, 20, 50, 60]


def test_labels_are_read_where_they_are_asked_for(tmp_path):
    labels = pa.array([2.5, None, float("nan")], pa.float32())
    pq.write_table(_table([1, 2, 3]).append_column("_label", labels), tmp_path / "a.parquet")
    rows = training_rows.read(tmp_path, [ITEM], label=True)
    np.testing.assert_array_equal(rows.label, [2.5, np.nan, np.nan])
    np.testing.assert_array_equal(training_rows.join([rows, rows]).label, np.tile(rows.label, 2))
    unasked = training_rows.read(tmp_path, [ITEM])
    assert unasked.label is None and training_rows.join([unasked, unasked]).label is None
    pq.write_table(_table([1]), tmp_path / "a.parquet")
    with pytest.raises(BadData, match=r"has no _label.*Run that stage again"):
        training_rows.read(tmp_path, [ITEM], label=True)
