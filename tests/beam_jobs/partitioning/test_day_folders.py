from datetime import date

import pytest

from beam_jobs.partitioning.calendar_days import Layout
from beam_jobs.partitioning.partition import partition
from tests.beam_jobs.partitioning.lay import read_back, write
from twinspire_core.errors import UsageError

# Two exports, cut at midnight in UTC; the evening of the first is Berlin's next day.
FIRST = [{"user": 1, "t": "2024-03-01T10:00:00Z"}, {"user": 2, "t": "2024-03-01T23:30:00Z"}]
SECOND = [{"user": 3, "t": "2024-03-02T08:00:00Z"}, {"user": 4, "t": "2024-03-02T09:00:00Z"}]
BERLIN = Layout(time="t", time_zone="Europe/Berlin")


def test_a_later_export_does_not_push_out_the_rest_of_a_day(tmp_path):
    out = f"{tmp_path}/out/dt={{date}}"
    first = write(tmp_path / "first.jsonl", *FIRST)
    second = write(tmp_path / "second.jsonl", *SECOND, {"user": 5, "t": "2024-03-03T08:00:00Z"})
    partition([str(first)], out, BERLIN)
    before = read_back(tmp_path / "out")
    with pytest.raises(
        UsageError, match=r"dt=2024-03-02.* has 1 rows.* 1 of them would be lost.*--replace"
    ) as e:
        partition([str(second)], out, BERLIN)
    assert "Nothing was written" in str(e.value)
    assert read_back(tmp_path / "out") == before  # not the new day either

    both = partition([str(first), str(second)], out, BERLIN)
    assert (both.written, both.replaced, both.unchanged) == (1, 1, 1)
    assert [row["user"] for row in read_back(tmp_path / "out")["dt=2024-03-02"]] == [2, 3, 4]


def test_a_day_may_be_left_out_or_replaced(tmp_path):
    out = f"{tmp_path}/out/dt={{date}}"
    partition([str(write(tmp_path / "first.jsonl", *FIRST))], out, BERLIN)
    second = str(write(tmp_path / "second.jsonl", *SECOND))
    later = Layout(time="t", time_zone="Europe/Berlin", first=date(2024, 3, 3))
    assert partition([second], out, later).outside == 2
    assert partition([second], out, BERLIN, replace=True).replaced == 1
    assert [row["user"] for row in read_back(tmp_path / "out")["dt=2024-03-02"]] == [3, 4]


def test_mended_rows_are_no_loss_but_one_of_two_at_the_same_time_is(tmp_path):
    out = f"{tmp_path}/out/dt={{date}}"
    moment = "2024-03-01T10:00:00Z"
    log = write(tmp_path / "log.jsonl", {"user": 1, "t": moment}, {"user": 2, "t": moment})
    layout = Layout(time="t")
    partition([str(log)], out, layout)
    write(log, {"user": 1, "t": moment}, {"user": 20, "t": moment})
    assert partition([str(log)], out, layout).replaced == 1
    write(log, {"user": 1, "t": moment})
    with pytest.raises(UsageError, match="1 of them would be lost"):
        partition([str(log)], out, layout)


def test_a_damaged_day_is_written_again(tmp_path):
    out = tmp_path / "out"
    log = write(tmp_path / "log.jsonl", *FIRST)
    partition([str(log)], f"{out}/dt={{date}}", BERLIN)
    (part,) = out.glob("dt=2024-03-01/*")
    part.write_bytes(b"half a copy")
    assert partition([str(log)], f"{out}/dt={{date}}", BERLIN).replaced == 1


def test_a_snapshot_takes_the_place_of_a_larger_one(tmp_path):
    out = f"{tmp_path}/out/dt={{date}}"
    items = write(tmp_path / "items.jsonl", {"id": 1}, {"id": 2})
    day = Layout(snapshot=date(2024, 3, 1))
    partition([str(items)], out, day)
    write(items, {"id": 2})
    assert partition([str(items)], out, day).replaced == 1
    assert read_back(tmp_path / "out") == {"dt=2024-03-01": [{"id": 2}]}
