"""`partition`: every record is read, whatever the file; what is no record is named by place."""

import gzip
import json
import time
from datetime import date

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.ingest import columns, records
from beam_jobs.ingest.day_files import SourceFile
from beam_jobs.partitioning import log_tables
from tests.beam_jobs.partitioning.lay import lay_out, write
from twinspire_core.errors import BadData, UsageError
from twinspire_core.records import csv_lines
from twinspire_core.records.csv_lines import CsvOptions

FORMATS = ["log.parquet", "log.csv", "log.csv.gz", "log.tsv", "log.jsonl", "log.jsonl.gz"]


@pytest.mark.parametrize("name", FORMATS)
def test_ids_survive_every_format(tmp_path, name):
    ids = ["007", "1.50", "né, à\tÅ", "9007199254740993"]
    frame = pl.DataFrame({"id": ids, "t": ["2017-10-15"] * 4})
    path, separator = tmp_path / name, "\t" if "tsv" in name else ","
    if name.endswith("parquet"):
        frame.write_parquet(path)
    else:
        is_json = "jsonl" in name
        text = frame.write_ndjson() if is_json else frame.write_csv(separator=separator)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    assert lay_out(tmp_path, path, time="t") == {"dt=2017-10-15": frame.to_dicts()}


BAD_LINES = (
    b'{"t": "2017-10-15", "n": 1}\n{"t": "2017-10-15", "n":\n\n[1]\n{"t": null, "n": 2}\n{"t":'
    b' "2017-10-15", "n": 3}\n'
)


def test_bad_records_stop_everything_and_are_quoted(tmp_path):
    (tmp_path / "log.jsonl").write_bytes(BAD_LINES)
    with pytest.raises(BadData, match=r"(?s)3 cannot be read.*line 2.*t is null.*--rejected"):
        lay_out(tmp_path, tmp_path / "log.jsonl", time="t")
    assert not (tmp_path / "out").exists()


def rejected(tmp_path, name):
    """Rows by day, and the rejected records."""
    file = tmp_path / "bad.jsonl"
    report = lay_out(tmp_path, tmp_path / name, time="t", rejected=str(file))
    return report, [json.loads(line) for line in file.read_text().splitlines()]


def test_bad_records_can_be_set_aside(tmp_path):
    (tmp_path / "log.jsonl").write_bytes(BAD_LINES)
    kept, bad = rejected(tmp_path, "log.jsonl")
    assert [row["n"] for row in kept["dt=2017-10-15"]] == [1, 3]
    assert {b["text"] for b in bad} == {'{"t": "2017-10-15", "n":', "[1]", '{"t": null, "n": 2}'}
    assert {b["file"] for b in bad} == {str(tmp_path / "log.jsonl")}


@pytest.mark.parametrize(("share", "fits"), [(0.5, False), (0.6, True)])
def test_a_share_of_the_records_may_be_set_aside(tmp_path, share, fits):
    """Three of five are bad."""
    (tmp_path / "log.jsonl").write_bytes(BAD_LINES)
    options = {"time": "t", "rejected": str(tmp_path / "bad.jsonl"), "max_rejected": share}
    if fits:
        assert len(lay_out(tmp_path, tmp_path / "log.jsonl", **options)["dt=2017-10-15"]) == 2
        return
    with pytest.raises(BadData, match=r"(?s)3 cannot be read.*Only 2 may be set aside"):
        lay_out(tmp_path, tmp_path / "log.jsonl", **options)
    assert {file.name for file in tmp_path.iterdir()} == {"log.jsonl"}


def test_lines_are_counted_and_kept_whole_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(log_tables, "BLOCK_BYTES", 100)
    lines = [json.dumps({"t": "2017-10-15", "n": n}) for n in range(1000)]
    lines[50::100] = ["oops"] * 10
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    kept, bad = rejected(tmp_path, "log.jsonl")
    assert [row["n"] for row in kept["dt=2017-10-15"]] == [n for n in range(1000) if n % 100 != 50]
    assert [b["place"] for b in bad] == [f"line {n}" for n in range(51, 1000, 100)]


def test_csv_without_a_header_in_another_encoding(tmp_path):
    (tmp_path / "u.csv").write_bytes("1|Amélie|881250949\n2|Brazil|881250950\n".encode("latin-1"))
    csv = CsvOptions(delimiter="|", columns=["id", "title", "t"], encoding="latin-1")
    report = lay_out(tmp_path, tmp_path / "u.csv", time="t", time_unit="s", csv=csv)
    assert report["dt=1997-12-04"][0] == {"id": 1, "title": "Amélie", "t": 881250949}


def test_a_csv_with_only_a_header_has_no_days(tmp_path):
    (tmp_path / "log.csv").write_text("t,n\n")
    assert lay_out(tmp_path, tmp_path / "log.csv", time="t") == {}


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("log.jsonl.gz", gzip.compress(b""), "is empty"),
        ("log.jsonl.gz", gzip.compress(b'{"t": "2017-10-15"}\n')[:20], "cannot be read.*--format"),
        ("log.csv", b"t,t\n1,2\n", "first line of a CSV file must be a header"),
        ("log.csv", b"ann,2024-03-01T10:00:00\n", "header .* '2024-03-01T10:00:00', a number or a"),
        ("log.csv", b"ann,1709287200\n", "header .* '1709287200', a number or a time"),
    ],
)
def test_broken_files_are_named(tmp_path, name, data, says):
    (tmp_path / name).write_bytes(data)
    with pytest.raises((BadData, UsageError), match=says) as e:
        lay_out(tmp_path, tmp_path / name, time="t")
    assert str(tmp_path / name) in str(e.value) and not (tmp_path / "out").exists()


def test_a_csv_with_another_delimiter_is_reported(tmp_path):
    for delimiter, written in (("\t", r"\$'\\t'"), (";", "';'")):
        rows = f"user:token{delimiter}timestamp:float\n1{delimiter}5\n"
        (tmp_path / "log").write_text(rows)
        with pytest.raises(BadData, match=f"--delimiter {written}"):
            lay_out(tmp_path, tmp_path / "log", time="timestamp", format="csv")


def test_a_csv_left_early_leaves_no_reader_behind(tmp_path, monkeypatch):
    (tmp_path / "log.csv").write_text("a,b\n" + "1,2\n" * 20_000)
    reads = []

    class Slow(csv_lines._Endable):
        def read(self, size=-1):
            if not self.ended:
                time.sleep(0.02)
                reads.append(size)
            return super().read(size)

    monkeypatch.setattr(csv_lines, "_Endable", Slow)
    monkeypatch.setattr(log_tables, "BLOCK_BYTES", 1000)
    tables = log_tables.read(tmp_path / "log.csv", lambda malformed: None)
    next(tables)
    tables.close()
    after = len(reads)
    time.sleep(0.2)
    assert 0 < after == len(reads) < 80


def test_a_csv_without_a_good_row_says_nothing_of_types(tmp_path):
    logs = tmp_path / "logs"
    logs.mkdir()
    pl.DataFrame({"user": [1], "t": [1_700_000_000.5]}).write_parquet(logs / "a.parquet")
    (logs / "b.csv").write_text("user,t\n1\n2,3,4\n")
    bad = str(tmp_path / "bad.jsonl")
    days = lay_out(tmp_path, logs, time="t", time_unit="s", rejected=bad)
    assert days == {"dt=2023-11-14": [{"user": 1, "t": 1_700_000_000.5}]}


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
    report = lay_out(tmp_path, tmp_path / "log.csv", time="t")
    actual = [day[0]["v"] for day in report.values()]
    assert actual == read and list(map(type, actual)) == list(map(type, read))


def test_csv_columns_stay_text_on_request(tmp_path):
    (tmp_path / "log.csv").write_text("t,version\n2017-10-15,1.10\n2017-10-15,1.1\n")
    report = lay_out(tmp_path, tmp_path / "log.csv", time="t", text=["version"])
    assert [row["version"] for row in report["dt=2017-10-15"]] == ["1.10", "1.1"]


def test_parquet_types_are_kept(tmp_path):
    table = pa.table(
        {
            "small": pa.array([1, None], pa.int8()),
            "tags": pa.array([["a"], []], pa.list_(pa.string())),
            "vector": pa.array([[1.0, 2.0]] * 2, pa.list_(pa.float32(), 2)),
            "label": pa.array(["x", "y"]).dictionary_encode(),
            "t": pa.array([10**12, 10**12 + 86_400_000], pa.timestamp("ms", "Asia/Tokyo")),
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


MANY_DIGITS = [1e15, 2.0**53 - 1, 2.0**53, 1e15 + 0.5, 1e-7, float("nan")]
MIXED = {
    "above 64 bits": [2**63, 7, 10**30],
    "decimals and long integers": [9_007_199_254_740_993, 1.5, 2.0],
    "true and a number": [True, 1, 0.5, False],
    "text and anything": ["0012", 12, 1.0, True, None, ""],
    "whole decimals": [1.0, 2.5, None],
    "decimals of many digits and text": [*MANY_DIGITS, 1e22, "x"],
    "lists": [[1, 2**63], ["a", None], [], None],
    "lists of long numbers": [[2**53 + 1], ["1.50"], [1]],
}


@pytest.mark.parametrize("values", MIXED.values(), ids=MIXED)
@pytest.mark.parametrize("apart", [False, True], ids=["in one file", "in several files"])
def test_json_is_laid_out_as_the_feature_job_reads_it(tmp_path, values, apart):
    kind = "categories" if any(isinstance(v, list) for v in values) else "category"
    rows = [{"t": f"2017-10-{10 + n}", "v": value} for n, value in enumerate(values)]
    for n, part in enumerate([[row] for row in rows] if apart else [rows]):
        write(tmp_path / f"{n}.jsonl", *part)
    direct = as_read(tmp_path, "*.jsonl", kind)
    lay_out(tmp_path, tmp_path / "*.jsonl", time="t")
    laid = as_read(tmp_path / "out", "*.parquet", kind)
    plain = [v for v in values if isinstance(v, str | int) and v is not True and v is not False]
    assert laid == direct and {str(v) for v in plain if v} <= set(map(str, laid))


@pytest.mark.parametrize("listed", [False, True])
def test_decimals_of_parquet_keep_their_digits_when_other_files_hold_text(tmp_path, listed):
    kind = "categories" if listed else "category"
    for n, values in enumerate(([*MANY_DIGITS, None], ["x", "1e15"])):
        column = [[value, value] for value in values] + [None] if listed else values
        table = pa.table({"t": ["2017-10-15"] * len(column), "v": column})
        pq.write_table(table, tmp_path / f"{n}.parquet")
    direct = as_read(tmp_path, "*.parquet", kind)
    lay_out(tmp_path, tmp_path / "*.parquet", time="t")
    assert as_read(tmp_path / "out", "*.parquet", kind) == direct
    assert direct[0] == (["1000000000000000"] * 2 if listed else "1000000000000000")


def as_read(folder, pattern, kind):
    """Values of the column `v` of files as the feature job reads them."""
    column = columns.Column(name="v", source="v", kind=kind, use="features.v")
    values = []
    for file in sorted(folder.rglob(pattern)):
        source = SourceFile("events", date(2017, 10, 10), str(file), file.name, 0, None)
        for block in records._read_blocks("auto", source, None, [column]):
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
    users = {"id": "u1", "place": {"city": "Graz"}}, {"id": "u2", "age": 40}, None
    tags = ["a", "b"], [], None
    rows = [
        {"user": u, "at": {"ms": 10**12 + n}, "tags": t}
        for n, (u, t) in enumerate(zip(users, tags, strict=True))
    ]
    log = write(tmp_path / "log.jsonl", *rows)
    (rows,) = lay_out(tmp_path, log, time="at.ms", time_unit="ms").values()
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    assert columns == {
        "user.id": ["u1", "u2", None],
        "user.place.city": ["Graz", None, None],
        "user.age": [None, 40, None],
        "at.ms": [10**12, 10**12 + 1, 10**12 + 2],
        "tags": [*tags],
    }
