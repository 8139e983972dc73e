"""Rows chosen by narrow columns and read whole: the same as if all had been read."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.data.selected_rows import SelectedRows
from model.towers.architecture import TableSpec

TABLE = pa.table(
    {
        "user": [f"u{n % 7}" for n in range(100)],
        "held": [n % 3 == 0 for n in range(100)],
        "past": [[f"i{n}"] * (n % 4) for n in range(100)],
    }
)
COLUMNS = ["past", "user"]


@pytest.fixture
def wide(tmp_path):
    """The table in three files of several row groups."""
    for n, (start, rows) in enumerate([(0, 33), (33, 0), (33, 67)]):
        pq.write_table(TABLE.slice(start, rows), tmp_path / f"{n}.parquet", row_group_size=10)
    return SelectedRows(tmp_path, ["held"], COLUMNS, TABLE.schema.empty_table())


@pytest.mark.parametrize("rows", [[], [0], [99], [32, 33], [9, 10, 11, 50], range(100)])
def test_chosen_rows_are_read_whole(wide, rows):
    found = wide.whole(wide.narrow.take(pa.array(rows, pa.int64())))
    assert found.equals(TABLE.select(COLUMNS).take(pa.array(rows, pa.int64())))
    assert wide.narrow.column("held").equals(TABLE.column("held"))


def test_only_row_groups_with_chosen_rows_are_read(wide, monkeypatch):
    read, real = [], pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_group", lambda self, n, *a: read.append(n) or real(self, n, *a)
    )
    wide.whole(wide.narrow.filter(pa.array(np.arange(100) == 45)))
    assert read == [1]


def test_a_folder_without_files_has_no_rows(tmp_path):
    wide = SelectedRows(tmp_path / "none", ["held"], COLUMNS, TABLE.schema.empty_table())
    assert wide.whole(wide.narrow).equals(TABLE.select(COLUMNS).slice(0, 0))


def test_keys_of_a_table_hold_ids_as_they_are():
    """Ids that differ by a trailing NUL are two, and a long one makes no other key longer."""
    tokens = pa.array(["a", "a\0", "é", "x" * 1500])
    spec = TableSpec(name="item", tokens=tokens, shared=2, hashed=False, dimension=4, setting="")
    assert spec.keys.to_pylist() == [
        "missing",
        "=a",
        "=a\0",
        "=é",
        "=" + "x" * 1500,
        "oov:0",
        "oov:1",
    ]
    assert spec.keys.nbytes < 2000
    many = pa.concat_arrays([pa.array([f"{n}" for n in range(50_000)]), pa.array(["x" * 1500])])
    assert (
        TableSpec(
            name="i", tokens=many, shared=1, hashed=False, dimension=4, setting=""
        ).keys.nbytes
        < 1_000_000
    )
