import io

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.beam import batches
from beam_jobs.beam.batches import CodedLists
from beam_jobs.point_in_time import user_history
from twinspire_core.errors import UsageError

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
    assert both.take(np.array([5, 0, 1, 0])).to_arrow().to_pylist() == [
        LISTS[place] for place in (5, 0, 1, 0)
    ]


def test_histories_are_events_in_a_row():
    items = pl.Series([f"item {n}" for n in range(7)])
    of_event = np.array([3, 1, 1, 0, 6, 2, 5, 4])
    low, high = np.array([0, 7, 7, 4]), np.array([3, 7, 8, 8])
    found = user_history.gather(items, of_event, low, high).to_arrow().to_pylist()
    assert found == [
        items[of_event[a:b].tolist()].to_list() for a, b in zip(low, high, strict=True)
    ]
    nothing = np.zeros(2, np.int64)
    none = user_history.gather(items[:0], of_event[:0], nothing, nothing)
    assert none.to_arrow().to_pylist() == [[], []]


def test_lists_that_have_no_room_are_not_cut(monkeypatch):
    monkeypatch.setattr(batches, "LARGEST", 8)
    assert coded(LISTS).to_arrow().to_pylist() == LISTS
    for lists, limit in ((LISTS, 7), ([["é"]], 1)):  # entries, then bytes
        monkeypatch.setattr(batches, "LARGEST", limit)
        with pytest.raises(UsageError, match="rows have more"):
            coded(lists).to_arrow()


def test_they_take_the_place_of_a_column_batch_by_batch():
    schema = pa.schema([("n", pa.int64()), ("recent", pa.list_(pa.string()))])
    empty = batches.to_batches(pl.DataFrame({"n": range(len(LISTS))}), schema, 4)
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
