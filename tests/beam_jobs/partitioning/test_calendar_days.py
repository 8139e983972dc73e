"""`partition`: every row is in the folder of its own day, however its time is written."""

import json
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_jobs.partitioning.calendar_days import Layout
from beam_jobs.partitioning.partition import partition
from tests.beam_jobs.partitioning.lay import lay_out, write
from twinspire_core.errors import UsageError

SAO_PAULO = "America/Sao_Paulo"
ZONES = [SAO_PAULO, "Etc/GMT+3", "Asia/Tokyo", "UTC", "Asia/Kathmandu", "Pacific/Apia"]
INSTANTS = st.datetimes(datetime(2017, 10, 13), datetime(2017, 10, 17), timezones=st.just(UTC))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.none() | INSTANTS, max_size=40),
    st.sampled_from([*ZONES, "Pacific/Chatham"]),
    st.sampled_from(["iso", "ms", "us", "arrow"]),
)
def test_no_row_is_lost_and_each_is_in_its_own_day(tmp_path_factory, times, zone, form):
    tmp_path = tmp_path_factory.mktemp("case")
    exact = {"ms": 1000, "us": 1}.get(form, 1)
    times = [t and t.replace(microsecond=t.microsecond // exact * exact) for t in times]
    epoch, unit = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=exact)
    since = [t and (t - epoch) // unit for t in times]
    values = {
        "iso": pa.array([t and t.isoformat() for t in times], pa.string()),
        "arrow": pa.array(times, pa.timestamp("us", "UTC")),
    }.get(form, pa.array(since, pa.int64()))
    table = pa.table({"row": pa.array(range(len(times)), pa.int64()), "t": values})
    pq.write_table(table, tmp_path / "log.parquet")
    layout = {"time": "t", "time_unit": form if form in ("ms", "us") else None, "time_zone": zone}
    options = {"rejected": str(tmp_path / "rejected.jsonl"), "spill_bytes": 100}
    report = lay_out(tmp_path, tmp_path / "log.parquet", **layout, **options)

    expected: dict[str, list[int]] = {}
    for row, t in enumerate(times):
        if t is not None:
            expected.setdefault(f"dt={t.astimezone(ZoneInfo(zone)).date()}", []).append(row)
    assert {day: [r["row"] for r in rows] for day, rows in report.items()} == expected
    aside = (tmp_path / "rejected.jsonl").read_text().splitlines() if None in times else []
    places = [f"row {n}" for n, t in enumerate(times, 1) if t is None]
    assert [json.loads(line)["place"] for line in aside] == places


def test_a_day_of_25_hours(tmp_path):
    hours = [datetime(2017, 11, 4, tzinfo=UTC) + timedelta(hours=h) for h in range(72)]
    log = write(tmp_path / "log.jsonl", *({"t": t.timestamp()} for t in hours))
    report = lay_out(tmp_path, log, time="t", time_unit="s", time_zone="America/New_York")
    assert [len(report[f"dt=2017-11-0{d}"]) for d in (3, 4, 5, 6)] == [4, 24, 25, 19]


@pytest.mark.parametrize(
    ("written", "day"),
    [
        ("2017-10-15", "2017-10-15"),
        # Wall-clock time that did not exist: its date is still plain
        ("2017-10-15 00:30", "2017-10-15"),
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
    rejected = str(tmp_path / "bad.jsonl")
    report = lay_out(tmp_path, log, time="t", time_zone=SAO_PAULO, rejected=rejected)
    report.pop("dt=2017-10-20")
    assert list(report) == ([f"dt={day}"] if day else [])


def test_naive_timestamps_are_wall_clock_time_of_the_zone(tmp_path):
    times = [datetime(2017, 3, 12, 2, 30), datetime(2017, 3, 12, 23, 59)]
    log = tmp_path / "log.parquet"
    pq.write_table(pa.table({"t": pa.array(times, pa.timestamp("ns"))}), log)
    report = lay_out(tmp_path, log, time="t", time_zone="America/New_York")
    assert list(report) == ["dt=2017-03-12"]


@pytest.mark.parametrize(
    ("value", "unit"), [(1507000000, "s"), (1507000000000, "ms"), (1507000000000000, "us")]
)
def test_a_number_without_a_unit_is_an_error_that_proposes_one(tmp_path, value, unit):
    with pytest.raises(UsageError, match=f"'t'.*--time-unit {unit}"):
        lay_out(tmp_path, write(tmp_path / "log.jsonl", {"t": value}), time="t")


@pytest.mark.parametrize(
    ("value", "unit", "told"),
    [
        (1_508_000_000, "ms", "2 rows .* 1970-01-18.* unit is probably wrong: add --time-unit s"),
        (1_508_000_000_000, "us", "--time-unit ms"),
        (86_400, "s", "Check the column"),
        (1_508_000_000, "s", None),
    ],
)
def test_days_long_ago_are_reported_with_the_likely_unit(tmp_path, value, unit, told):
    pq.write_table(pa.table({"t": [value, value + 1]}), tmp_path / "log.parquet")
    out, layout = f"{tmp_path}/out/dt={{date}}", Layout(time="t", time_unit=unit)
    warning = partition([str(tmp_path / "log.parquet")], out, layout).warning
    assert re.search(told, warning) if told else warning is None
