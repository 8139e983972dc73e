"""`partition`: columns keep their types, and those that differ between files are joined without
loss.
"""

from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.ingest import columns, records
from beam_jobs.ingest.day_files import SourceFile
from beam_jobs.partitioning import log_tables
from tests.beam_jobs.partitioning.lay import lay_out, write
from twinspire_core.errors import BadData


@pytest.mark.parametrize(
    ("values", "read"),
    [
        (["1", "", "-20", "999999999999999999"], [1, None, -20, 999999999999999999]),
        (["10", "10.50", "-0.5", "1e-05"], [10.0, 10.5, -0.5, 1e-05]),
        (["17850.0", "", "-12583.0", "7"], [17850, None, -12583, 7]),
        (["1.0", "2.5", "3"], [1.0, 2.5, 3.0]),
        (["1.0", "9007199254740993"], ["1.0", "9007199254740993"]),
        (["7", "007"], ["7", "007"]),
        (["1", "9999999999999999999"], ["1", "9999999999999999999"]),
        (["0.5", "9007199254740993"], ["0.5", "9007199254740993"]),
        (["0.5", "0.1234567890123456"], ["0.5", "0.1234567890123456"]),
        (["1.5", "1.5.2"], ["1.5", "1.5.2"]),
        (["1", "one"], ["1", "one"]),
        (["1", " 2"], ["1", " 2"]),
        (["", ""], [None, None]),
        (["1", "NaN"], ["1", "NaN"]),
    ],
)
def test_csv_columns_are_numbers_when_nothing_is_lost(tmp_path, monkeypatch, values, read):
    # So that one table shows only some of the values
    monkeypatch.setattr(log_tables, "BLOCK_BYTES", 40)
    rows = "".join(f"2017-10-{10 + n},{value}\n" for n, value in enumerate(values))
    (tmp_path / "log.csv").write_text("t,v\n" + rows)
    found = lay_out(tmp_path, tmp_path / "log.csv", time="t")
    values_found = [day[0]["v"] for day in found.values()]
    assert values_found == read
    assert list(map(type, values_found)) == list(map(type, read))


def test_csv_columns_stay_text_on_request(tmp_path):
    (tmp_path / "log.csv").write_text("t,version\n2017-10-15,1.10\n2017-10-15,1.1\n")
    found = lay_out(tmp_path, tmp_path / "log.csv", time="t", text=["version"])
    assert [row["version"] for row in found["dt=2017-10-15"]] == ["1.10", "1.1"]


def test_parquet_types_are_kept(tmp_path):
    table = pa.table(
        {
            "small": pa.array([1, None], pa.int8()),
            "tags": pa.array([["a"], []], pa.list_(pa.string())),
            "vector": pa.array([[1.0, 2.0]] * 2, pa.list_(pa.float32(), 2)),
            "label": pa.array(["x", "y"]).dictionary_encode(),
            "t": pa.array([0, 86_400_000], pa.timestamp("ms", "Asia/Tokyo")),
        }
    )
    pq.write_table(table, tmp_path / "log.parquet")
    lay_out(tmp_path, tmp_path / "log.parquet", time="t", time_zone="UTC")
    parts = [pq.ParquetFile(p).read() for p in sorted((tmp_path / "out").rglob("*.parquet"))]
    assert pa.concat_tables(parts).cast(table.schema).equals(table)
    assert parts[0].schema.equals(table.schema)


def test_types_that_differ_between_files_are_joined_without_loss(tmp_path):
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "a.jsonl", {"t": "2017-10-15", "id": 7, "price": 1, "new": None})
    write(tmp_path / "in" / "b.jsonl", {"t": "2017-10-15", "id": "x7", "price": 1.5, "new": [1]})
    write(tmp_path / "in" / "c.jsonl", {"t": "2017-10-15", "id": 8})
    assert lay_out(tmp_path, tmp_path / "in", time="t")["dt=2017-10-15"] == [
        {"t": "2017-10-15", "id": "7", "price": 1.0, "new": None},
        {"t": "2017-10-15", "id": "x7", "price": 1.5, "new": [1]},
        {"t": "2017-10-15", "id": "8", "price": None, "new": None},
    ]


MIXED = {
    "above 64 bits": [2**63, 7, 10**30],
    "decimals beside long ones": [9_007_199_254_740_993, 1.5, 2.0],
    "true beside a number": [True, 1, 0.5, False],
    "text beside anything": ["0012", 12, 1.0, True, None, ""],
    "whole decimals": [1.0, 2.5, None],
    "decimals of many digits beside text": [
        1e15,
        2.0**53 - 1,
        2.0**53,
        1e15 + 0.5,
        1e22,
        1e-7,
        float("nan"),
        "x",
    ],
    "lists": [[1, 2**63], ["a", None], [], None],
    "lists of long numbers": [[2**53 + 1], ["1.50"], [1]],
}


@pytest.mark.parametrize("values", MIXED.values(), ids=MIXED)
@pytest.mark.parametrize("apart", [False, True], ids=["in one file", "in files of their own"])
def test_json_is_laid_out_as_the_feature_job_reads_it(tmp_path, values, apart):
    kind = "categories" if any(isinstance(v, list) for v in values) else "category"
    rows = [{"t": f"2017-10-{10 + n}", "v": value} for n, value in enumerate(values)]
    for n, part in enumerate([[row] for row in rows] if apart else [rows]):
        write(tmp_path / f"{n}.jsonl", *part)
    direct = [value for file in sorted(tmp_path.glob("*.jsonl")) for value in as_read(file, kind)]
    lay_out(tmp_path, tmp_path / "*.jsonl", time="t")
    laid = [
        value
        for file in sorted((tmp_path / "out").rglob("*.parquet"))
        for value in as_read(file, kind)
    ]
    plain = [v for v in values if isinstance(v, str | int) and v is not True and v is not False]
    assert laid == direct and {str(v) for v in plain if v} <= set(map(str, laid))


@pytest.mark.parametrize("listed", [False, True])
def test_decimals_of_parquet_keep_their_digits_beside_text(tmp_path, listed):
    decimals, texts = (
        [1e15, 2.0**53 - 1, 2.0**53, 1e15 + 0.5, 1e-7, float("nan"), None],
        ["x", "1e15"],
    )
    kind = "categories" if listed else "category"
    for n, values in enumerate((decimals, texts)):
        column = [[value, value] for value in values] + [None] if listed else values
        pq.write_table(
            pa.table({"t": ["2017-10-15"] * len(column), "v": column}), tmp_path / f"{n}.parquet"
        )
    direct = [value for n in (0, 1) for value in as_read(tmp_path / f"{n}.parquet", kind)]
    lay_out(tmp_path, tmp_path / "*.parquet", time="t")
    [laid] = (tmp_path / "out").rglob("*.parquet")
    assert as_read(laid, kind) == direct and direct[0] in (
        "1000000000000000",
        ["1000000000000000"] * 2,
    )


def as_read(file, kind):
    """Values of the column `v` as the feature job reads them."""
    column = columns.Column(name="v", source="v", kind=kind, use="features.v")
    found = SourceFile("events", date(2017, 10, 10), str(file), file.name, 0, None)
    values = []
    for block in records.read_blocks("auto", found, None, [column]):
        read, _, _ = columns.read_as(column, block.rows.schema["=v"], text=block.text)
        values += block.rows.select(read)["v"].to_list()
    return values


def test_types_that_do_not_fit_are_an_error_that_names_the_column(tmp_path):
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "a.jsonl", {"t": "2017-10-15", "tags": "x"})
    write(tmp_path / "in" / "b.jsonl", {"t": "2017-10-15", "tags": ["x"]})
    with pytest.raises(BadData, match=r"'tags' is .*string.* in some and .*list"):
        lay_out(tmp_path, tmp_path / "in", time="t")


def test_each_field_of_what_is_nested_is_a_column(tmp_path, monkeypatch):
    # A table for each line, so that the fields differ from table to table
    monkeypatch.setattr(log_tables, "BATCH_ROWS", 1)
    log = write(
        tmp_path / "log.jsonl",
        {"user": {"id": "u1", "place": {"city": "Graz"}}, "at": {"ms": 0}, "tags": ["a", "b"]},
        {"user": {"id": "u2", "age": 40}, "at": {"ms": 1000}, "tags": []},
        {"user": None, "at": {"ms": 2000}, "tags": None},
    )
    (rows,) = lay_out(tmp_path, log, time="at.ms", time_unit="ms").values()
    assert rows == [
        {
            "user.id": "u1",
            "user.place.city": "Graz",
            "user.age": None,
            "at.ms": 0,
            "tags": ["a", "b"],
        },
        {"user.id": "u2", "user.place.city": None, "user.age": 40, "at.ms": 1000, "tags": []},
        {"user.id": None, "user.place.city": None, "user.age": None, "at.ms": 2000, "tags": None},
    ]
