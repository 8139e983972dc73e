import gzip
import threading
import time
from datetime import date, timedelta

import polars as pl
import pytest
from typer.testing import CliRunner

from beam_jobs import day_plan
from beam_jobs.ingest import day_files
from twinspire.cli.main import app
from twinspire_core.config.pipeline import load
from twinspire_core.errors import BadData, LogsLate, NothingToDo, TryAgain

DAY = date(2018, 1, 1)

PIPELINE = """
pipeline = {{ name = "x", time_zone = "UTC" }}
columns = {{ user = "u", item = "i", time = "t" }}
window = {{ history_days = 3, count_days = 5, train_days = 6 }}
[source]
events = "{root}/events/dt={{date}}/"
{source}
[features]
user = {{ kind = "id", tower = "query" }}
item = {{ kind = "id", tower = "item" }}
"""


@pytest.fixture
def shop(tmp_path):
    """Writes a pipeline file with these lines under [source]."""

    def write(*lines):
        path = tmp_path / "x.toml"
        path.write_text(PIPELINE.format(root=tmp_path, source="\n".join(lines)))
        return load(path)

    return write


def lay(tmp_path, day, rows, table="events", name="a.parquet"):
    folder = tmp_path / table / f"dt={day}"
    folder.mkdir(parents=True, exist_ok=True)
    types = dict.fromkeys("uit", pl.Int64)
    frame = pl.DataFrame({"u": range(rows), "i": 1, "t": 0}, types)
    path = folder / name
    if name.endswith(".parquet"):
        frame.write_parquet(path)
    else:
        text = frame.write_csv() if "csv" in name else frame.write_ndjson().rstrip("\n")
        path.write_bytes(gzip.compress(text.encode()) if "gz" in name else text.encode())
    return path


def test_a_day_without_files_is_late_or_with_its_marker_empty(shop, tmp_path):
    (tmp_path / "events" / f"dt={DAY}").mkdir(parents=True)
    (tmp_path / "events" / f"dt={DAY}" / "_SUCCESS").touch()
    with pytest.raises(
        TryAgain, match=r"dt=2018-01-01 does not exist or is empty; no day has events"
    ):
        day_files.check(shop(), DAY)
    with pytest.raises(NothingToDo):
        day_files.check(shop('done_marker = "_SUCCESS"'), DAY)


def test_a_misspelt_folder_and_a_day_before_the_log_are_named(shop, tmp_path):
    lay(tmp_path / "logs" / "deeper", DAY, 3)
    p = shop()
    refused = ["run", str(tmp_path / "x.toml"), "--date", str(DAY)]
    for command in (refused, ["validate", *refused[1:]]):
        outcome = CliRunner().invoke(app, command)
        assert outcome.exit_code
        shown = " ".join(f"{outcome.output} {outcome.exception}".split())
        assert "holds logs" in shown and "Correct source.events" in shown, shown
    (tmp_path / "logs").rename(tmp_path / "event")
    assert "did you mean 'event'?" in day_files.no_days(p, "events")
    lay(tmp_path, DAY, 3)
    with pytest.raises(LogsLate, match="The log begins on 2018-01-01") as early:
        day_files.check(p, DAY - timedelta(days=1))
    assert "later, or" not in str(early.value)
    with pytest.raises(LogsLate, match="Run the day again later"):
        day_files.check(p, DAY + timedelta(days=1))


def test_a_late_day_is_waited_for(shop, tmp_path, monkeypatch):
    monkeypatch.setattr(day_files, "_POLL_SECONDS", 0.05)
    lay(tmp_path / "elsewhere", DAY, 3)
    come = (tmp_path / "elsewhere/events").rename  # whole, at once
    threading.Timer(0.4, come, (tmp_path / "events",)).start()
    assert day_files.check(shop('wait = "20s"'), DAY)["rows"] == 3
    began = time.monotonic()
    with pytest.raises(TryAgain, match=f"after a wait of 0:00:01; the newest day .* is {DAY}"):
        day_files.check(shop('wait = "1s"'), DAY + timedelta(days=1))
    assert time.monotonic() - began >= 1


def test_a_day_is_complete_with_its_marker(shop, tmp_path):
    p = shop('done_marker = "_SUCCESS"')
    lay(tmp_path, DAY, 3)
    with pytest.raises(TryAgain, match="_SUCCESS does not exist"):
        day_files.check(p, DAY)
    (tmp_path / "events" / f"dt={DAY}" / "_SUCCESS").touch()
    assert day_files.check(p, DAY) == {"rows": 3, "usual_rows": None}


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.jsonl", "a.csv.gz", "a.jsonl.gz"])
def test_rows_are_counted_and_none_is_an_empty_day(shop, tmp_path, name):
    lay(tmp_path, DAY, 0, name=name)
    with pytest.raises(NothingToDo, match="holds no rows"):
        day_files.check(shop(), DAY)
    lay(tmp_path, DAY, 12, name="b" + name)
    assert day_files.check(shop(), DAY)["rows"] == 12


def test_a_day_with_far_fewer_rows_than_its_weekday_is_suspicious(shop, tmp_path):
    # The eighth week does not count
    for week, rows in enumerate([100, 90, 0, 110, 10_000, 1, 80, 1], 1):
        lay(tmp_path, DAY - timedelta(weeks=week), rows)
    lay(tmp_path, DAY - timedelta(days=1), 1_000_000)
    lay(tmp_path, DAY, 18)
    with pytest.raises(BadData) as e:
        day_files.check(shop(), DAY)
    assert "18 of 95 (19%" in str(e.value) and "2017-12-25: 100" in str(e.value)
    assert "2017-11-06" not in str(e.value)
    lay(tmp_path, DAY, 19)
    assert day_files.check(shop(), DAY) == {"rows": 19, "usual_rows": 95}
    lay(tmp_path, DAY, 18)
    assert day_files.check(shop("min_share = 0.1"), DAY)["rows"] == 18


@pytest.mark.parametrize("size", [0, 2, 4, 30, -7])
def test_a_half_copied_file_makes_the_day_late_unless_a_marker_says_that_all_is_there(
    shop, tmp_path, size
):
    path = lay(tmp_path, DAY, 3).with_name("b.parquet")
    whole = path.with_name("a.parquet").read_bytes()
    path.write_bytes(whole[:size])
    with pytest.raises(LogsLate, match=r"b\.parquet is a Parquet file without its end"):
        day_files.check(shop(), DAY)
    path.with_name("_SUCCESS").touch()
    with pytest.raises(BadData, match=r"b\.parquet cannot be read.*truncated"):
        day_files.check(shop('done_marker = "_SUCCESS"'), DAY)
    path.write_bytes(b"no Parquet at all")
    with pytest.raises(BadData, match=r"b\.parquet cannot be read"):
        day_files.check(shop(), DAY)
    path.write_bytes(whole)
    assert day_files.check(shop(), DAY)["rows"] == 6


def test_a_file_of_no_known_kind_is_bad_data(shop, tmp_path):
    notes = lay(tmp_path, DAY, 3).with_name("notes.txt")
    notes.write_text("hello")
    with pytest.raises(BadData, match=r"notes\.txt.*source\.format"):
        day_files.check(shop(), DAY)
    lay(tmp_path, DAY, 4, name="b.json")
    notes.rename(notes.with_name(".notes.txt"))
    assert day_files.check(shop(), DAY)["rows"] == 7


def test_items_of_the_day_or_before_and_users_of_before(shop, tmp_path):
    items = f'items = "{tmp_path}/items/dt={{date}}/"'
    p = shop(items, f'users = "{tmp_path}/users/of-{{date}}-x/"')
    before, later = DAY - timedelta(days=3), DAY + timedelta(days=1)
    for day in (before, DAY, later):
        lay(tmp_path, day, 1, "items")
        (tmp_path / "users" / f"of-{day}-x").mkdir(parents=True)
        (tmp_path / "users" / f"of-{day}-x" / "a.csv").write_text("u\n1\n")
    (tmp_path / "items" / "dt=2017-12-31").mkdir()  # no files: no snapshot
    (tmp_path / "items" / "dt=2017-99-31").mkdir()
    inputs = day_files.inputs(p, day_plan.make_plan(p, DAY, "full"))
    assert (inputs.items_of[DAY], inputs.items_of[DAY - timedelta(days=1)]) == (DAY, before)
    assert DAY - timedelta(days=4) not in inputs.items_of
    assert (inputs.users_of[DAY], inputs.users_of[later]) == (before, DAY)
    assert before not in inputs.users_of and sorted(inputs.users) == [before, DAY]


def test_items_have_to_be_there(shop, tmp_path):
    p = shop(f'items = "{tmp_path}/items/dt={{date}}/"')
    lay(tmp_path, DAY, 1)
    with pytest.raises(BadData, match="no snapshots at all"):
        day_files.check(p, DAY)
    lay(tmp_path, DAY + timedelta(days=1), 1, "items")
    with pytest.raises(BadData, match="the first is of 2018-01-02"):
        day_files.check(p, DAY)


def test_the_key_depends_on_all_that_is_read_and_on_nothing_else(shop, tmp_path):
    p = shop(f'items = "{tmp_path}/items/dt={{date}}/"')
    for back in range(-1, 30):
        lay(tmp_path, DAY - timedelta(days=back), back + 2)
        lay(tmp_path, DAY - timedelta(days=back), 1, "items")
    before = {mode: day_files.fingerprint(p, DAY, mode) for mode in ("incremental", "full")}
    plan = day_plan.make_plan(p, DAY, "incremental")
    days = {key.split("/")[1] for key in before["incremental"] if key.startswith("events")}
    assert days == set(map(str, plan.read))
    lay(tmp_path, DAY + timedelta(days=1), 77)
    lay(tmp_path, plan.first - timedelta(days=1), 77)
    # Not the day's snapshot, but one of the training window
    lay(tmp_path, DAY - timedelta(days=1), 7, "items")
    after = {mode: day_files.fingerprint(p, DAY, mode) for mode in ("incremental", "full")}
    assert after["incremental"] == before["incremental"] and after["full"] != before["full"]
    lay(tmp_path, plan.first, 77)
    assert day_files.fingerprint(p, DAY, "incremental") != before["incremental"]


def test_windows(shop):
    plan = day_plan.make_plan(shop(), DAY, "incremental")
    # Queries of six days before see the three days before them; counts 5, the vocabulary 3.
    assert plan.first == DAY - timedelta(days=9) and plan.examples == (DAY,)
    assert plan.analysis == tuple(DAY - timedelta(days=n) for n in (2, 1, 0))
    full = day_plan.make_plan(shop(), DAY, "full")
    assert full.examples[0] == DAY - timedelta(days=5) and full.first == plan.first
    assert full.read[-1] == DAY and len(full.read) == 10
