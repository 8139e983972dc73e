from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_jobs import day_plan
from beam_jobs.ingest.timestamps import to_instants

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ZONES = ["Etc/GMT+3", "Asia/Tokyo", "America/New_York", "America/Sao_Paulo", "Australia/Lord_Howe"]


def micros(t: datetime) -> int:
    return (t - EPOCH) // timedelta(microseconds=1)


# Logs do not say which of two equal times they mean, nor does `fold` come with them.
moments = st.datetimes(datetime(1980, 1, 1), datetime(2030, 1, 1)).map(
    lambda moment: moment.replace(fold=0)
)


@settings(deadline=None)
@given(st.lists(moments, min_size=1, max_size=30), st.sampled_from(ZONES))
def test_naive_times_are_read_in_the_zone_as_python_reads_them(naive, zone):
    expected = [micros(t.replace(tzinfo=ZoneInfo(zone))) for t in naive]
    texts = pl.Series([t.isoformat(" ") for t in naive])
    for column in (pl.Series(naive, dtype=pl.Datetime("us")), texts):
        assert to_instants(column, "s", ZoneInfo(zone)).to_list() == expected


@settings(deadline=None)
@given(st.lists(moments, min_size=1, max_size=30), st.sampled_from(ZONES))
def test_an_offset_or_a_number_says_it_all(naive, zone):
    zoned = [t.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)) for t in naive]
    expected = [micros(t) for t in zoned]
    aware = pl.Series(zoned, dtype=pl.Datetime("us", zone))
    texts = pl.Series([t.isoformat() for t in zoned])
    for column in (aware, texts, pl.Series(expected), pl.Series(map(str, expected))):
        assert to_instants(column, "us", ZoneInfo("Pacific/Auckland")).to_list() == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2017-10-16", datetime(2017, 10, 16, 3, tzinfo=UTC)),
        ("2017-10-16T01:02Z", datetime(2017, 10, 16, 1, 2, tzinfo=UTC)),
        ("2017-10-16 01:02:03 UTC", datetime(2017, 10, 16, 1, 2, 3, tzinfo=UTC)),
        ("2017-10-16T01:02:03,5+0530", datetime(2017, 10, 15, 19, 32, 3, 500_000, tzinfo=UTC)),
        ("2017-10-16T01:02:03.1234567-03", datetime(2017, 10, 16, 4, 2, 3, 123_456, tzinfo=UTC)),
        ("2017-10-16T23:59:60-03:00", datetime(2017, 10, 17, 3, tzinfo=UTC)),  # a leap second
        ("2017-10-16T01:02+05:60", None),
        ("1508112000.25", datetime(2017, 10, 16, 0, 0, 0, 250_000, tzinfo=UTC)),
        ("2017-13-01", None),
        ("2017-02-29", None),
        ("2017-10-16T24:00", None),
        ("16/10/2017", None),
        ("tomorrow", None),
        ("", None),
        ("99999999999999999999999", None),
        (None, None),
    ],
)
def test_text(text, expected):
    # With company of the other form, and alone: a column may mix them.
    for column in ([text], [text, "2017-10-16", "1508112000"]):
        instants = to_instants(pl.Series(column, dtype=pl.String), "s", ZoneInfo("Etc/GMT+3"))[0]
        assert instants == (expected and micros(expected))


def test_a_date_is_the_start_of_its_day_even_where_midnight_is_skipped():
    zone, day = ZoneInfo("America/Sao_Paulo"), date(2017, 10, 15)
    instants = to_instants(pl.Series([day, None]), "s", zone).to_list()
    assert instants == [day_plan.start_of(day, zone), None]


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Etc/GMT+3", date(2017, 10, 16), 24),
        ("Asia/Tokyo", date(2017, 10, 16), 24),
        ("Europe/Berlin", date(2024, 3, 31), 23),
        ("Europe/Berlin", date(2024, 10, 27), 25),
        ("America/Sao_Paulo", date(2017, 10, 15), 23),
        ("America/Sao_Paulo", date(2018, 2, 17), 25),
        ("America/Havana", date(2017, 11, 5), 25),
    ],
)
def test_a_day_is_the_time_that_shows_its_date(zone, day, hours):
    zone = ZoneInfo(zone)
    start, end = day_plan.start_of(day, zone), day_plan.start_of(day_plan.after(day), zone)
    assert end - start == hours * 3_600_000_000
    moments = [EPOCH + timedelta(microseconds=t) for t in (start - 1, start, end - 1, end)]
    shown = [(moment.astimezone(zone).date() - day).days for moment in moments]
    assert shown == [-1, 0, 0, 1]
