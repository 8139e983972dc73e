"""Ranges of ids: each id in one, each item of a corpus once, and no range much larger than a file."""

import random
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.embedding.id_ranges import EachOnce, id_ranges, rows_between
from twinspire_core.errors import BadData


def _write(folder, files):
    places = [str(folder / f"{number:05d}.parquet") for number in range(len(files))]
    for place, ids in zip(places, files, strict=True):
        # A list before the ids: its leaf has another place than its column.
        tags = pa.array([[item] for item in ids], pa.list_(pa.string()))
        table = pa.table({"tags": tags, "_item": pa.array(ids, pa.string())})
        pq.write_table(table, place, row_group_size=7)
    return places


def _cut(ids, size):
    return [ids[start : start + size] for start in range(0, len(ids), size)]


@pytest.mark.parametrize("order", ["sorted", "later files first", "mixed"])
def test_ranges_hold_all_ids_between_them(tmp_path, order):
    ids = sorted([f"i{n}" for n in range(90)] + ["", "ä", "\U0001f600", "zz"])
    files = _cut(ids, 20)
    if order == "later files first":
        files.reverse()
    if order == "mixed":
        random.Random(0).shuffle(ids)
        files = _cut(ids, 20)
    places = _write(tmp_path, [*files, []])
    ranges = id_ranges(places)
    tables = [rows_between(places, of, ["tags", "none"]) for of in ranges]
    found = [table["_item"].to_pylist() for table in tables]
    assert [of.number for of in ranges] == list(range(len(ranges)))
    for table in tables:
        assert table["tags"].to_pylist() == [[item] for item in table["_item"].to_pylist()]
    assert Counter(item for some in found for item in some) == Counter(ids)
    if order != "mixed":
        assert len(ranges) == 5
        assert max(map(len, found)) == 20, "a range is one file"
    assert list(EachOnce(str(tmp_path), places).process(ranges[0])) == []


@pytest.mark.parametrize("files", [[["a", "b"], ["c", "a"]], [["a", "a", "b"]]])
def test_an_item_twice_is_found_wherever_it_stands(tmp_path, files):
    places = _write(tmp_path, files)
    check = EachOnce(str(tmp_path), places)
    with pytest.raises(BadData, match=r"more than once: a\."):
        for of in id_ranges(places):
            list(check.process(of))
