import random
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.embedding.reused_vectors import EachOnce, IdRange, id_files, id_ranges, rows_between
from twinspire_core import storage
from twinspire_core.errors import BadData


def _write(folder, files):
    places = [str(folder / f"{number:05d}.parquet") for number in range(len(files))]
    for place, ids in zip(places, files, strict=True):
        # A list before the ids: its leaf has another place than its column.
        tags = pa.array([[item] for item in ids], pa.list_(pa.string()))
        table = pa.table({"tags": tags, "_item": pa.array(ids, pa.string())})
        pq.write_table(table, place, row_group_size=7)
    return places


@pytest.mark.parametrize("order", ["sorted", "later files first", "mixed"])
def test_ranges_hold_all_ids_between_them(tmp_path, order):
    ids = sorted([f"i{n}" for n in range(90)] + ["", "ä", "\U0001f600", "zz"])
    if order == "mixed":
        random.Random(0).shuffle(ids)
    files = [ids[start : start + 20] for start in range(0, len(ids), 20)]
    if order == "later files first":
        files.reverse()
    known = id_files(_write(tmp_path, [*files, []]))
    ranges = id_ranges(known)
    tables = [rows_between(known, of, ["tags", "none"]) for of in ranges]
    found = [table["_item"].to_pylist() for table in tables]
    assert [of.number for of in ranges] == list(range(len(ranges)))
    for table in tables:
        assert table["tags"].to_pylist() == [[item] for item in table["_item"].to_pylist()]
    assert Counter(item for some in found for item in some) == Counter(ids)
    if order != "mixed":
        assert len(ranges) == 5
        assert max(map(len, found)) == 20, "a range is one file"
    assert list(EachOnce(str(tmp_path), known).process(ranges[0])) == []


def test_a_range_opens_the_files_that_may_hold_it(tmp_path, monkeypatch):
    files = [["a", "b"], ["b", "c"], ["d"], []]
    places = _write(tmp_path, files)
    # Its footer says nothing of its ids.
    unknown = str(tmp_path / "unknown.parquet")
    pq.write_table(pa.table({"_item": ["a", "z"]}), unknown, write_statistics=False)
    known = id_files([*places, unknown])
    opened = []
    real = storage.open_bytes
    monkeypatch.setattr(storage, "open_bytes", lambda uri: opened.append(uri) or real(uri))
    found = rows_between(known, IdRange(0, "b", "d"))["_item"].to_pylist()
    assert found == ["b", "b", "c"]
    assert opened == [places[0], places[1], unknown]


@pytest.mark.parametrize("files", [[["a", "b"], ["c", "a"]], [["a", "a", "b"]]])
def test_an_item_twice_is_found_wherever_it_stands(tmp_path, files):
    known = id_files(_write(tmp_path, files))
    check = EachOnce(str(tmp_path), known)
    with pytest.raises(BadData, match=r"more than once: a\."):
        for of in id_ranges(known):
            list(check.process(of))
