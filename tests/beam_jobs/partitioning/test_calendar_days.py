"""`partition`: every row is in the folder of its own day, however its time is written."""

import json
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
from twinspire_core.errors import BadData, UsageError

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
    lines = (tmp_path / "rejected.jsonl").read_text().splitlines() if None in times else []
    without_time = [f"row {n}" for n, t in enumerate(times, 1) if t is None]
    assert [json.loads(line)["place"] for line in lines] == without_time


@pytest.mark.parametrize(
    ("value", "unit"), [(1507000000, "s"), (1507000000000, "ms"), (1507000000000000, "us")]
)
def test_a_number_without_a_unit_is_an_error_that_proposes_one(tmp_path, value, unit):
    with pytest.raises(UsageError, match=f"'t'.*--time-unit {unit}"):
        lay_out(tmp_path, write(tmp_path / "log.jsonl", {"t": value}), time="t")


@pytest.mark.parametrize(
    ("value", "unit", "advice"),
    [
        (1_508_000_000, "ms", "add --time-unit s"),
        (1_508_000_000_000, "us", "add --time-unit ms"),
        (86_400, "s", "Correct them"),
    ],
)
def test_days_before_1990_are_rejected_with_the_likely_unit(tmp_path, value, unit, advice):
    pq.write_table(pa.table({"t": [value, value + 1]}), tmp_path / "log.parquet")
    out, layout = f"{tmp_path}/out/dt={{date}}", Layout(time="t", time_unit=unit)
    with pytest.raises(BadData, match=f"before 1990-01-01(.|\n)*{advice}"):
        partition([str(tmp_path / "log.parquet")], out, layout)
    assert not (tmp_path / "out").exists()
