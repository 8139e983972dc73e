"""`partition`: days appear whole or not at all, and twice changes nothing."""

import signal
import subprocess
import sys
import time
from datetime import date

import polars as pl
import pyarrow.parquet as pq
import pytest

from beam_jobs.partitioning.calendar_days import Layout
from beam_jobs.partitioning.partition import partition
from tests.beam_jobs.partitioning.lay import lay_out, read_back, write
from twinspire_core import storage
from twinspire_core.errors import BadData, UsageError


def test_twice_changes_nothing_and_new_rows_replace_only_their_day(tmp_path):
    log = write(tmp_path / "log.jsonl", {"t": "2017-10-15"}, {"t": "2017-10-17"})
    layout, out = Layout(time="t", done_marker="_SUCCESS"), f"{tmp_path}/out/dt={{date}}"
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
    # One day larger than a row group, one smaller
    frame = pl.DataFrame({"n": n, "t": 10**9 + n % 10 // 9 * 86400})
    frame.write_parquet(tmp_path / "one.parquet", row_group_size=1000)
    (tmp_path / "many").mkdir()
    for part in range(3):
        frame.slice(part * 100_000, 100_000).write_parquet(tmp_path / "many" / f"{part}.parquet")
    layout = Layout(time="t", time_unit="s")
    for source, out, spill in (("one.parquet", "a", 1 << 30), ("many", "b", 100_000)):
        folder = f"{tmp_path}/{out}/dt={{date}}"
        partition([str(tmp_path / source)], folder, layout, spill_bytes=spill)
    assert [len(rows) for rows in read_back(tmp_path / "a").values()] == [270_000, 30_000]
    for part in (tmp_path / "a").rglob("*.parquet"):
        assert part.read_bytes() == (tmp_path / "b" / part.relative_to(tmp_path / "a")).read_bytes()


def test_a_missing_column_is_named_with_the_file_and_what_is_there(tmp_path):
    log = write(tmp_path / "log.jsonl", {"user": 1, "click_timestamp": 2})
    with pytest.raises(BadData, match=r"'click_time'.*user, click_timestamp; did you mean") as e:
        lay_out(tmp_path, log, time="click_time")
    assert str(log) in str(e.value)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({}, "Give either --time"),
        ({"time": "t", "snapshot": date(2017, 1, 1)}, "Give either --time"),
        ({"time": "t", "time_unit": "h"}, "s, ms, us"),
        ({"time": "t", "first": date(2017, 1, 2), "last": date(2017, 1, 1)}, "--from"),
        ({"time": "t", "time_zone": "America/Sao_Paolo"}, "America/Sao_Paulo"),
    ],
)
def test_arguments_that_do_not_fit(keys, says):
    with pytest.raises(UsageError, match=says):
        Layout(**keys)


def test_no_file_and_an_unknown_ending_are_usage_errors(tmp_path):
    with pytest.raises(UsageError, match="There is no file"):
        lay_out(tmp_path, tmp_path / "*.parquet", time="t")
    (tmp_path / "log.xlsx").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"log\.xlsx.*--format"):
        lay_out(tmp_path, tmp_path / "log.xlsx", time="t")


def test_to_and_from_an_object_store(tmp_path, remote_place):
    log = write(tmp_path / "log.jsonl.gz", {"t": "2017-10-15", "n": 1}, {"t": "2017-10-16", "n": 2})
    storage.write_bytes(f"{remote_place}/raw/log.jsonl.gz", log.read_bytes())
    layout, out = Layout(time="t", done_marker="_OK"), f"{remote_place}/events/dt={{date}}/"
    for done in ((2, 0, 0), (0, 0, 2), (0, 1, 1)):
        summary = partition([f"{remote_place}/raw"], out, layout)
        assert (summary.written, summary.replaced, summary.unchanged) == done
        if summary.unchanged == 2:
            write(log, {"t": "2017-10-15", "n": 1}, {"t": "2017-10-16", "n": 3})
            storage.write_bytes(f"{remote_place}/raw/log.jsonl.gz", log.read_bytes())
    files = [f.path for f in storage.list_files(f"{remote_place}/events/dt=2017-10-16")]
    assert files == ["_OK", "part-0.parquet"]
    part = storage.localize(
        f"{remote_place}/events/dt=2017-10-16/part-0.parquet", tmp_path / "back"
    )
    assert pq.ParquetFile(part).read().to_pylist() == [{"t": "2017-10-16", "n": 3}]


def test_killed_in_the_middle_it_leaves_whole_days_and_a_rerun_finishes(tmp_path):
    log, out = tmp_path / "log.parquet", tmp_path / "out"
    times = [f"2017-{1 + d % 12:02}-{1 + d % 28:02}" for d in range(20_000)]
    pl.DataFrame({"t": times}).write_parquet(log)
    code = (
        "import sys; from beam_jobs.partitioning.calendar_days import Layout;"
        "from beam_jobs.partitioning.partition import partition;"
        "partition([sys.argv[1]], sys.argv[2], Layout(time='t'))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(log), f"{out}/dt={{date}}"])
    while not list(out.rglob("part-0.parquet")) and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    killed = read_back(out)
    assert 0 < len(killed) < 84

    partition([str(log)], f"{out}/dt={{date}}", Layout(time="t"))
    finished = read_back(out)
    assert (len(finished), sum(map(len, finished.values()))) == (84, 20_000)
    assert killed.items() <= finished.items()
