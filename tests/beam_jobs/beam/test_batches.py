import io
from datetime import date
from types import SimpleNamespace

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.beam import batches
from beam_jobs.beam.batches import CodedLists
from beam_jobs.point_in_time import examples, items
from tests.serving.conftest import PIPELINE
from twinspire_core.config.pipeline import load
from twinspire_core.errors import UsageError

SCHEMA = pa.schema([("n", pa.int64()), ("recent", pa.list_(pa.string()))])


def frame(rows):
    return pl.DataFrame(
        {"n": range(rows), "recent": [[f"item {n % 7}"] * (n % 3) for n in range(rows)]},
        {"n": pl.Int64, "recent": pl.List(pl.String)},
    )


@pytest.mark.parametrize("rows", [0, 10, 65_536, 150_000])
def test_a_file_is_that_of_all_rows_at_once(rows):
    whole = pa.Table.from_batches([batches.to_batch(frame(rows), SCHEMA)])
    sink = io.BytesIO()
    # The least and the largest value are written down of columns without lists.
    pq.write_table(whole, sink, compression="zstd", row_group_size=65_536, write_statistics=["n"])
    assert batches.parquet(list(batches.to_batches(frame(rows), SCHEMA))) == sink.getvalue()


@pytest.fixture
def small(monkeypatch):
    """Batches that have no room for more than 10 lists, as real ones have none beyond 2 GiB."""
    real = batches.to_batch

    def to_batch(rows, schema=None):
        if len(rows) > 10:
            raise UsageError("A batch has room for 10 rows.")
        return real(rows, schema)

    monkeypatch.setattr(batches, "to_batch", to_batch)


def test_rows_that_are_too_many_for_a_batch_go_into_several(small):
    # Of 100, 64 are halved three times, and 36 twice.
    for rows, number in ((0, 1), (1, 1), (10, 1), (11, 2), (100, 8 + 4)):
        actual = list(batches.to_batches(frame(rows), SCHEMA, 64))
        assert max(len(batch) for batch in actual) <= 10 and len(actual) == number
        assert [n for batch in actual for n in batch["n"].to_pylist()] == list(range(rows))


@pytest.mark.parametrize(
    "values",
    [
        pa.array([[123456789, 7], None, []], pa.list_(pa.int64())),
        pa.array([[0.1], None, []], pa.list_(pa.float64())),
        pa.array([[True, False], None, []], pa.list_(pa.bool_())),
        pa.array([[date(2024, 2, 29)], None, []], pa.list_(pa.date32())),
        pa.array([["a", "b"], None, ["c", None]], pa.list_(pa.string(), 2)),
    ],
    ids=lambda values: str(values.type),
)
def test_an_attribute_that_holds_lists_keeps_its_values(values, tmp_path):
    """They are read as Polars reads a snapshot, and written as the corpus is."""
    (tmp_path / "circle.toml").write_text(PIPELINE)
    job = SimpleNamespace(p=load(tmp_path / "circle.toml"))
    pq.write_table(pa.table({"_item": ["i", "j", "k"], "_attribute_tags": values}), tmp_path / "f")
    rows = pl.read_parquet(tmp_path / "f")
    written = batches.parquet(list(batches.to_batches(rows, items.schema_of(job, rows))))
    actual = pq.read_table(io.BytesIO(written)).column("_attribute_tags")
    assert actual.type.value_type == values.type.value_type
    assert actual.to_pylist() == [value or [] for value in values.to_pylist()]


LISTS = [["b", "a", "b"], [], ["c"], ["a"], [], ["é", "c", "c"]]


def coded(lists, strings=("c", "unused", "a", "é", "b")):
    numbers = [strings.index(value) for values in lists for value in values]
    lengths = np.array([len(values) for values in lists], np.int64)
    return CodedLists(pl.Series(strings, dtype=pl.String), np.array(numbers, np.int32), lengths)


def test_lists_come_back_whatever_their_numbers():
    there = coded(LISTS).to_arrow()
    assert there.to_pylist() == LISTS
    assert there.flatten().dictionary.to_pylist() == ["b", "a", "c", "é"], "as they first come"
    assert coded(LISTS, ("é", "a", "b", "c")).to_arrow().equals(there)
    parts = [coded(LISTS[:3]).to_arrow(), coded(LISTS[3:], ("é", "c", "a")).to_arrow()]
    both = CodedLists.of(parts)
    assert both.to_arrow().equals(there)
    taken = [5, 0, 1, 0]
    assert both.take(np.array(taken)).to_arrow().to_pylist() == [LISTS[place] for place in taken]


def test_histories_are_events_in_a_row():
    items = pl.Series([f"item {n}" for n in range(7)])
    of_event = np.array([3, 1, 1, 0, 6, 2, 5, 4])
    low, high = np.array([0, 7, 7, 4]), np.array([3, 7, 8, 8])
    actual = examples.gather(items, of_event, low, high).to_arrow().to_pylist()
    rows = [of_event[a:b].tolist() for a, b in zip(low, high, strict=True)]
    assert actual == [items[row].to_list() for row in rows]
    nothing = np.zeros(2, np.int64)
    none = examples.gather(items[:0], of_event[:0], nothing, nothing)
    assert none.to_arrow().to_pylist() == [[], []]


def test_lists_that_have_no_room_are_not_cut(monkeypatch):
    monkeypatch.setattr(batches, "LARGEST", 8)
    assert coded(LISTS).to_arrow().to_pylist() == LISTS
    for lists, limit in ((LISTS, 7), ([["é"]], 1)):  # entries, then bytes
        monkeypatch.setattr(batches, "LARGEST", limit)
        with pytest.raises(UsageError, match="rows have more"):
            coded(lists).to_arrow()


def test_they_take_the_place_of_a_column_batch_by_batch():
    empty = batches.to_batches(pl.DataFrame({"n": range(len(LISTS))}), SCHEMA, 4)
    made = list(batches.with_lists(empty, {"recent": coded(LISTS)}))
    assert [batch.num_rows for batch in made] == [4, 2]
    assert [values for batch in made for values in batch["recent"].to_pylist()] == LISTS
    coder = batches.BatchCoder()
    assert [coder.decode(coder.encode(batch)).equals(batch) for batch in made] == [True, True]


def test_a_file_is_that_of_the_strings():
    rng = np.random.default_rng(0)
    words = [f"item {n}" for n in range(300)]
    lists = [rng.choice(words, n).tolist() for n in rng.integers(0, 9, 2_000)]
    plain = pa.record_batch({"recent": pa.array(lists, pa.list_(pa.string()))})
    numbers = coded(lists, words).to_arrow()
    file = batches.parquet([pa.record_batch({"recent": numbers})])
    assert file == batches.parquet([plain])
    assert pq.read_table(io.BytesIO(file)).equals(pa.Table.from_batches([plain]))
    assert pl.read_parquet(file)["recent"].to_list() == lists
