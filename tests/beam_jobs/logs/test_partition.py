"""`partition`: every row once, in the folder of its own day, whatever the file."""

import gzip
import json
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam_jobs.logs import files
from beam_jobs.logs.files import CsvOptions
from beam_jobs.logs.layout import Layout
from beam_jobs.logs.partition import partition
from twinspire import storage
from twinspire.errors import BadData, UsageError

SAO_PAULO = "America/Sao_Paulo"


def lay_out(tmp_path: Path, source: object, **keys) -> dict[str, list[dict]]:
    """Rows by folder name."""
    options = {k: keys.pop(k) for k in ("rejected", "spill_bytes") if k in keys}
    partition([str(source)], f"{tmp_path}/out/dt={{date}}/", Layout(**keys), **options)
    return read_back(tmp_path / "out")


def read_back(out: Path) -> dict[str, list[dict]]:
    return {p.parent.name: pq.ParquetFile(p).read().to_pylist() for p in sorted(out.rglob("*.parquet"))}


def write(path: Path, *rows: dict) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


instants = st.datetimes(datetime(2017, 10, 13), datetime(2017, 10, 17), timezones=st.just(UTC))
zones = st.sampled_from(
    [SAO_PAULO, "Etc/GMT+3", "Asia/Tokyo", "UTC", "Asia/Kathmandu", "Pacific/Apia", "Pacific/Chatham"]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    times=st.lists(st.none() | instants, max_size=40), zone=zones, form=st.sampled_from(["iso", "ms", "us", "arrow"])
)
def test_no_row_is_lost_and_each_is_in_its_own_day(tmp_path_factory, times, zone, form):
    tmp_path = tmp_path_factory.mktemp("case")
    exact = {"ms": 1000, "us": 1}.get(form, 1)
    times = [t and t.replace(microsecond=t.microsecond // exact * exact) for t in times]
    since = [t and (t - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=exact) for t in times]
    values = {
        "iso": pa.array([t and t.isoformat() for t in times], pa.string()),
        "arrow": pa.array(times, pa.timestamp("us", "UTC")),
    }.get(form, pa.array(since, pa.int64()))
    pq.write_table(pa.table({"row": pa.array(range(len(times)), pa.int64()), "t": values}), tmp_path / "log.parquet")

    found = lay_out(
        tmp_path,
        tmp_path / "log.parquet",
        time="t",
        time_unit=form if form in ("ms", "us") else None,
        time_zone=zone,
        rejected=str(tmp_path / "rejected.jsonl"),
        spill_bytes=100,
    )

    expected: dict[str, list[int]] = {}
    for row, t in enumerate(times):
        if t is not None:
            expected.setdefault(f"dt={t.astimezone(ZoneInfo(zone)).date()}", []).append(row)
    assert {day: [r["row"] for r in rows] for day, rows in found.items()} == expected
    aside = (tmp_path / "rejected.jsonl").read_text().splitlines() if None in times else []
    assert [json.loads(line)["place"] for line in aside] == [f"row {n + 1}" for n, t in enumerate(times) if t is None]


def test_a_day_of_23_hours(tmp_path):
    # Clocks in São Paulo went from 2017-10-14 23:59:59 (UTC-3) to 2017-10-15 01:00 (UTC-2).
    hours = [datetime(2017, 10, 14, tzinfo=UTC) + timedelta(hours=h) for h in range(72)]
    log = write(tmp_path / "log.jsonl", *({"t": t.isoformat()} for t in hours))
    found = lay_out(tmp_path, log, time="t", time_zone=SAO_PAULO)
    assert {day: len(rows) for day, rows in found.items()} == {
        "dt=2017-10-13": 3,
        "dt=2017-10-14": 24,
        "dt=2017-10-15": 23,
        "dt=2017-10-16": 22,
    }
    assert found["dt=2017-10-15"][0]["t"] == "2017-10-15T03:00:00+00:00"


def test_a_day_of_25_hours(tmp_path):
    hours = [datetime(2017, 11, 4, tzinfo=UTC) + timedelta(hours=h) for h in range(72)]
    log = write(tmp_path / "log.jsonl", *({"t": t.timestamp()} for t in hours))
    found = lay_out(tmp_path, log, time="t", time_unit="s", time_zone="America/New_York")
    assert [len(found[f"dt=2017-11-0{d}"]) for d in (3, 4, 5, 6)] == [4, 24, 25, 19]


def test_east_of_greenwich_the_day_begins_the_evening_before(tmp_path):
    log = write(tmp_path / "log.jsonl", {"t": "2017-10-14T14:59:59Z"}, {"t": "2017-10-14T15:00:00Z"})
    found = lay_out(tmp_path, log, time="t", time_zone="Asia/Tokyo")
    assert list(found) == ["dt=2017-10-14", "dt=2017-10-15"]


@pytest.mark.parametrize(
    ("written", "day"),
    [
        ("2017-10-15", "2017-10-15"),
        ("2017-10-15 00:30", "2017-10-15"),  # wall-clock time that did not exist: its date is still plain
        ("2017-10-14T23:59:59.999999", "2017-10-14"),
        ("2017-10-15T02:59:59Z", "2017-10-14"),
        ("2017-10-15T03:00:00+00:00", "2017-10-15"),
        ("2017-10-15 00:00:00.5 UTC", "2017-10-14"),
        ("2017-10-15T08:29:59+0530", "2017-10-14"),
        ("2017-10-15T00:00:00-04", "2017-10-15"),
        ("2017-10-14T23:59:60-03:00", "2017-10-15"),  # a leap second counts as the next one
        ("15/10/2017", None),
        ("2017-13-01", None),
        ("2017-10-15T25:00:00", None),
        ("", None),
    ],
)
def test_how_times_may_be_written(tmp_path, written, day):
    log = write(tmp_path / "log.jsonl", {"t": "2017-10-20T12:00:00Z"}, {"t": written})
    found = lay_out(tmp_path, log, time="t", time_zone=SAO_PAULO, rejected=str(tmp_path / "bad.jsonl"))
    found.pop("dt=2017-10-20")
    assert list(found) == ([f"dt={day}"] if day else [])


def test_naive_timestamps_are_wall_clock_time_of_the_zone(tmp_path):
    stamps = pa.array([datetime(2017, 3, 12, 2, 30), datetime(2017, 3, 12, 23, 59)], pa.timestamp("ns"))
    pq.write_table(pa.table({"t": stamps}), tmp_path / "log.parquet")
    assert list(lay_out(tmp_path, tmp_path / "log.parquet", time="t", time_zone="America/New_York")) == [
        "dt=2017-03-12"
    ]


FORMATS = ["log.parquet", "log.csv", "log.csv.gz", "log.tsv", "log.jsonl", "log.jsonl.gz"]


@pytest.mark.parametrize("name", FORMATS)
def test_ids_survive_every_format(tmp_path, name):
    frame = pl.DataFrame({"id": ["007", "1.50", "né, à\tÅ", "9007199254740993"], "t": ["2017-10-15"] * 4})
    path = tmp_path / name
    if name.endswith("parquet"):
        frame.write_parquet(path)
    else:
        text = frame.write_ndjson() if "jsonl" in name else frame.write_csv(separator="\t" if "tsv" in name else ",")
        path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    assert lay_out(tmp_path, path, time="t") == {"dt=2017-10-15": frame.to_dicts()}


@pytest.mark.parametrize(
    ("values", "read"),
    [
        (["1", "", "-20", "999999999999999999"], [1, None, -20, 999999999999999999]),
        (["10", "10.50", "-0.5", "1e-05"], [10.0, 10.5, -0.5, 1e-05]),
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
    monkeypatch.setattr(files, "BLOCK_BYTES", 40)  # so that one table shows only some of the values
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


def test_a_snapshot_goes_to_one_day(tmp_path):
    items = write(tmp_path / "items.jsonl", {"id": 1}, {"id": 2})
    assert lay_out(tmp_path, items, snapshot=date(2016, 12, 31)) == {"dt=2016-12-31": [{"id": 1}, {"id": 2}]}


def test_columns_are_renamed(tmp_path):
    log = write(tmp_path / "log.jsonl", {"uid": 1, "ts": "2017-10-15"})
    assert lay_out(tmp_path, log, time="when", rename={"uid": "user", "ts": "when"}) == {
        "dt=2017-10-15": [{"user": 1, "when": "2017-10-15"}]
    }
    assert lay_out(tmp_path, log, time="when", rename={"ts": "when"})["dt=2017-10-15"][0].keys() == {"uid", "when"}


def test_days_outside_are_left_out_and_counted(tmp_path):
    log = write(tmp_path / "log.jsonl", *({"t": f"2017-10-{d}"} for d in range(10, 20)))
    layout = Layout(time="t", first=date(2017, 10, 12), last=date(2017, 10, 15))
    summary = partition([str(log)], str(tmp_path / "out"), layout)
    assert (summary.days, summary.outside, summary.rows) == (4, 6, 10)
    assert list(read_back(tmp_path / "out")) == [f"dt=2017-10-{d}" for d in range(12, 16)]


def test_twice_changes_nothing_and_new_rows_replace_only_their_day(tmp_path):
    log = write(tmp_path / "log.jsonl", {"t": "2017-10-15"}, {"t": "2017-10-17"})
    layout, out = Layout(time="t", done_marker="_SUCCESS"), str(tmp_path / "out")
    first = partition([str(log)], out, layout)
    assert (first.written, first.unchanged, first.missing) == (2, 0, [date(2017, 10, 16)])
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert {p.name for p in before} == {"part-0.parquet", "_SUCCESS"}

    again = partition([str(log)], out, layout, spill_bytes=1)
    assert (again.written, again.replaced, again.unchanged) == (0, 0, 2)
    assert {p: p.stat().st_mtime_ns for p in before} == before

    write(log, {"t": "2017-10-15"}, {"t": "2017-10-17"}, {"t": "2017-10-17"})
    more = partition([str(log)], out, layout)
    assert (more.written, more.replaced, more.unchanged) == (0, 1, 1)


def test_the_same_rows_give_the_same_bytes_however_they_come(tmp_path):
    n = pl.int_range(300_000, eager=True)
    frame = pl.DataFrame({"n": n, "t": n % 10 // 9 * 86400})  # one day larger than a row group, one smaller
    frame.write_parquet(tmp_path / "one.parquet", row_group_size=1000)
    (tmp_path / "many").mkdir()
    for part in range(3):
        frame.slice(part * 100_000, 100_000).write_parquet(tmp_path / "many" / f"{part}.parquet")
    for source, out, spill in (("one.parquet", "a", 1 << 30), ("many", "b", 100_000)):
        partition([str(tmp_path / source)], str(tmp_path / out), Layout(time="t", time_unit="s"), spill_bytes=spill)
    assert [len(rows) for rows in read_back(tmp_path / "a").values()] == [270_000, 30_000]
    for part in (tmp_path / "a").rglob("*.parquet"):
        assert part.read_bytes() == (tmp_path / "b" / part.relative_to(tmp_path / "a")).read_bytes()


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


def test_types_that_do_not_fit_are_an_error_that_names_the_column(tmp_path):
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "a.jsonl", {"t": "2017-10-15", "tags": "x"})
    write(tmp_path / "in" / "b.jsonl", {"t": "2017-10-15", "tags": ["x"]})
    with pytest.raises(BadData, match=r"'tags' is .*string.* in some and .*list"):
        lay_out(tmp_path, tmp_path / "in", time="t")


def test_a_missing_column_is_named_with_the_file_and_what_is_there(tmp_path):
    log = write(tmp_path / "log.jsonl", {"user": 1, "click_timestamp": 2})
    with pytest.raises(BadData) as e:
        lay_out(tmp_path, log, time="click_time")
    assert all(part in str(e.value) for part in (str(log), "'click_time'", "user, click_timestamp", "Did you mean"))


@pytest.mark.parametrize(("value", "unit"), [(1507000000, "s"), (1507000000000, "ms"), (1507000000000000, "us")])
def test_a_number_without_a_unit_is_an_error_that_proposes_one(tmp_path, value, unit):
    with pytest.raises(UsageError, match=f"'t'.*--time-unit {unit}"):
        lay_out(tmp_path, write(tmp_path / "log.jsonl", {"t": value}), time="t")


BAD_LINES = (
    b'{"t": "2017-10-15", "n": 1}\n{"t": "2017-10-15", "n":\n\n[1]\n{"t": null, "n": 2}\n{"t": "2017-10-15", "n": 3}\n'
)


def test_bad_records_stop_everything_and_are_quoted(tmp_path):
    (tmp_path / "log.jsonl").write_bytes(BAD_LINES)
    with pytest.raises(BadData) as e:
        lay_out(tmp_path, tmp_path / "log.jsonl", time="t")
    assert all(part in str(e.value) for part in ("3 cannot be read", "line 2", "line 4", "t is null", "--rejected"))
    assert not (tmp_path / "out").exists()


def test_bad_records_can_be_set_aside(tmp_path):
    (tmp_path / "log.jsonl").write_bytes(BAD_LINES)
    found = lay_out(tmp_path, tmp_path / "log.jsonl", time="t", rejected=str(tmp_path / "bad.jsonl"))
    assert [row["n"] for row in found["dt=2017-10-15"]] == [1, 3]
    bad = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert {b["text"] for b in bad} == {'{"t": "2017-10-15", "n":', "[1]", '{"t": null, "n": 2}'}
    assert {b["file"] for b in bad} == {str(tmp_path / "log.jsonl")}


def test_lines_are_counted_and_kept_whole_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BLOCK_BYTES", 100)
    lines = ["oops" if n % 100 == 50 else json.dumps({"t": "2017-10-15", "n": n}) for n in range(1000)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    found = lay_out(tmp_path, tmp_path / "log.jsonl", time="t", rejected=str(tmp_path / "bad.jsonl"))
    assert [row["n"] for row in found["dt=2017-10-15"]] == [n for n in range(1000) if n % 100 != 50]
    bad = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [b["place"] for b in bad] == [f"line {n}" for n in range(51, 1000, 100)]


def test_csv_rows_of_another_width_are_bad_records(tmp_path):
    (tmp_path / "log.csv").write_text('t,n\n2017-10-15,1\n2017-10-15\n2017-10-15,"two\nlines"\n2017-10-15,3,4\n')
    found = lay_out(tmp_path, tmp_path / "log.csv", time="t", rejected=str(tmp_path / "bad.jsonl"))
    assert [row["n"] for row in found["dt=2017-10-15"]] == ["1", "two\nlines"]
    bad = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [(b["place"], b["reason"]) for b in bad] == [
        ("row 3", "1 fields where 2 are expected"),
        ("row 5", "3 fields where 2 are expected"),
    ]


def test_csv_without_a_header_in_another_encoding(tmp_path):
    (tmp_path / "u.csv").write_bytes("1|Amélie|881250949\n2|Brazil|881250950\n".encode("latin-1"))
    csv = CsvOptions(delimiter="|", columns=["id", "title", "t"], encoding="latin-1")
    found = lay_out(tmp_path, tmp_path / "u.csv", time="t", time_unit="s", csv=csv)
    assert found["dt=1997-12-04"][0] == {"id": 1, "title": "Amélie", "t": 881250949}


def test_a_csv_with_only_a_header_has_no_days(tmp_path):
    (tmp_path / "log.csv").write_text("t,n\n")
    assert lay_out(tmp_path, tmp_path / "log.csv", time="t") == {}


def broken(tmp_path: Path, kind: str) -> Path:
    pl.DataFrame({"t": ["2017-10-15"] * 1000}).write_parquet(tmp_path / "whole.parquet")
    whole = (tmp_path / "whole.parquet").read_bytes()
    zipped = gzip.compress(b'{"t": "2017-10-15"}\n' * 1000)
    name, data = {
        "empty": ("log.jsonl", b""),
        "empty_gzip": ("log.jsonl.gz", gzip.compress(b"")),
        "truncated_parquet": ("log.parquet", whole[: len(whole) // 2]),
        "truncated_gzip": ("log.jsonl.gz", zipped[: len(zipped) // 2]),
        "not_parquet": ("log.parquet", b"t,n\n1,2\n"),
        "no_header": ("log.csv", b",\n1,2\n"),
    }[kind]
    (tmp_path / name).write_bytes(data)
    return tmp_path / name


@pytest.mark.parametrize(
    "kind", ["empty", "empty_gzip", "truncated_parquet", "truncated_gzip", "not_parquet", "no_header"]
)
def test_broken_files_are_named(tmp_path, kind):
    path = broken(tmp_path, kind)
    with pytest.raises(BadData) as e:
        lay_out(tmp_path, path, time="t")
    assert str(path) in str(e.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({}, "give one"),
        ({"time": "t", "snapshot": date(2017, 1, 1)}, "give one"),
        ({"time": "t", "time_unit": "h"}, "s, ms, us"),
        ({"time": "t", "first": date(2017, 1, 2), "last": date(2017, 1, 1)}, "--from"),
        ({"time": "t", "time_zone": "America/Sao_Paolo"}, "America/Sao_Paulo"),
    ],
)
def test_arguments_that_do_not_fit(keys, says):
    with pytest.raises(UsageError, match=says):
        Layout(**keys)


def test_no_file_and_an_unknown_ending_are_usage_errors(tmp_path):
    with pytest.raises(UsageError, match="No file"):
        lay_out(tmp_path, tmp_path / "*.parquet", time="t")
    (tmp_path / "log.xlsx").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"log\.xlsx.*--format"):
        lay_out(tmp_path, tmp_path / "log.xlsx", time="t")


def test_memory_is_bounded_by_what_may_wait_not_by_the_file(tmp_path):
    # 6 million rows on 60 days, in no order: 96 MB as Arrow, of which 8 MB may wait.
    n = pl.int_range(6_000_000, eager=True)
    log = tmp_path / "log.parquet"
    pl.DataFrame({"t": n * 7919 % 60 * 86400, "n": n}).write_parquet(log, row_group_size=100_000)
    code = """
import sys
from beam_jobs.logs.layout import Layout
from beam_jobs.logs.partition import partition
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) // 1024
before = peak()
summary = partition([sys.argv[1]], sys.argv[2], Layout(time="t", time_unit="s"), spill_bytes=int(sys.argv[3]))
print(summary.days, summary.rows, peak() - before)
"""

    def megabytes(waiting: int) -> int:
        arguments = [sys.executable, "-c", code, str(log), str(tmp_path / str(waiting)), str(waiting)]
        days, rows, peak = map(int, subprocess.check_output(arguments, text=True).split())
        assert (days, rows) == (60, 6_000_000)
        return peak

    assert megabytes(8 << 20) < megabytes(1 << 30) - 40


def test_to_and_from_an_object_store(tmp_path, gs_place):
    log = write(tmp_path / "log.jsonl.gz", {"t": "2017-10-15", "n": 1}, {"t": "2017-10-16", "n": 2})
    storage.write_bytes(f"{gs_place}/raw/log.jsonl.gz", log.read_bytes())
    for done in ((2, 0), (0, 2)):
        summary = partition([f"{gs_place}/raw"], f"{gs_place}/events/dt={{date}}/", Layout(time="t", done_marker="_OK"))
        assert (summary.written, summary.unchanged) == done
    assert [f.path for f in storage.list_files(f"{gs_place}/events/dt=2017-10-16")] == ["_OK", "part-0.parquet"]
    part = storage.localize(f"{gs_place}/events/dt=2017-10-16/part-0.parquet", tmp_path / "back")
    assert pq.ParquetFile(part).read().to_pylist() == [{"t": "2017-10-16", "n": 2}]


def test_killed_in_the_middle_it_leaves_whole_days_and_a_rerun_finishes(tmp_path):
    pl.DataFrame({"t": [f"2017-{1 + d % 12:02}-{1 + d % 28:02}" for d in range(20_000)]}).write_parquet(
        tmp_path / "log.parquet"
    )
    code = (
        "import sys; from beam_jobs.logs.layout import Layout; from beam_jobs.logs.partition import partition;"
        "partition([sys.argv[1]], sys.argv[2], Layout(time='t'))"
    )
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "log.parquet"), str(out)])
    while not list(out.rglob("part-0.parquet")) and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    killed = read_back(out)
    assert 0 < len(killed) < 84

    partition([str(tmp_path / "log.parquet")], str(out), Layout(time="t"))
    finished = read_back(out)
    assert len(finished) == 84
    assert sum(map(len, finished.values())) == 20_000
    assert killed.items() <= finished.items()


def test_a_csv_cut_at_another_character_is_told(tmp_path):
    for delimiter, written in (("\t", r"\$'\\t'"), (";", "';'")):
        (tmp_path / "log").write_text(delimiter.join(["user:token", "timestamp:float"]) + "\n1" + delimiter + "5\n")
        with pytest.raises(BadData, match=f"--delimiter {written}"):
            lay_out(tmp_path, tmp_path / "log", time="timestamp", format="csv")


def test_a_csv_left_early_leaves_no_reader_behind(tmp_path, monkeypatch):
    (tmp_path / "log.csv").write_text("a,b\n" + "1,2\n" * 20_000)
    reads = []

    class Slow(files._Endable):
        def read(self, size=-1):
            if not self.ended:
                time.sleep(0.02)
                reads.append(size)
            return super().read(size)

    monkeypatch.setattr(files, "_Endable", Slow)
    monkeypatch.setattr(files, "BLOCK_BYTES", 1000)
    tables = files.read(tmp_path / "log.csv", lambda malformed: None)
    next(tables)
    tables.close()
    after = len(reads)
    time.sleep(0.2)
    assert 0 < after == len(reads) < 80


@pytest.mark.parametrize(
    ("value", "unit", "told"),
    [
        (1_508_000_000, "ms", "2 rows .* 1970-01-18.* It is probably in s: --time-unit s"),
        (1_508_000_000_000, "us", "--time-unit ms"),
        (86_400, "s", "Check the column"),
        (1_508_000_000, "s", None),
    ],
)
def test_days_of_long_ago_are_told_with_the_likely_unit(tmp_path, value, unit, told):
    pq.write_table(pa.table({"t": [value, value + 1]}), tmp_path / "log.parquet")
    found = partition([str(tmp_path / "log.parquet")], str(tmp_path / "out"), Layout(time="t", time_unit=unit)).warning
    assert re.search(told, found) if told else found is None
