"""Bad input: what is set aside, with file, row and reason; what stops the job, and how."""

import gzip
import json
import os
import shutil
from datetime import date, timedelta

import polars as pl
import pytest

from beam_jobs.features_stage import write_raw
from beam_jobs.ingest import records
from beam_jobs.ingest.columns import Column, read_as
from twinspire_core.config.pipeline import load
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.errors import BadData, TwinspireError

DAY = date(2017, 10, 16)
NOON = 1_508_169_600  # 16:00 UTC
PIPELINE = """
pipeline = { name = "shop", time_zone = "Etc/GMT+3" }
columns = { user = "u", item = "i", time = "t", reward = "r", event = "e", positives = ["buy"] }
window = { history_days = 2, count_days = 2, train_days = 2 }
beam = { shards = 2 }
[source]
events = "events/dt={date}/"
MORE_SOURCE
[features]
user = { kind = "id", tower = "query" }
size = { kind = "number", tower = "query" }
item = { kind = "id", tower = "item" }
"""
TYPES = {"u": pl.Int64, "i": pl.String, "t": pl.Int64, "r": pl.Float64, "e": pl.String}
TYPES["size"] = pl.Float64
GOOD = {"u": 1, "i": "a", "t": NOON, "r": 1.0, "e": "buy", "size": 2.0}


class Shop:
    def __init__(self, folder):
        self.folder, self.out, self.lines, self.features = folder, folder / "out", [], ""

    def path(self, name, day=DAY, table="events"):
        path = self.folder / table / f"dt={day}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def parquet(self, rows, name="a.parquet", types=TYPES, **where):
        pl.DataFrame(rows, types).write_parquet(self.path(name, **where))

    def text(self, content, name, **where):
        content = content if isinstance(content, bytes) else content.encode()
        content = gzip.compress(content) if name.endswith(".gz") else content
        self.path(name, **where).write_bytes(content)

    def table(self, rows, name, types=TYPES, **where):
        """The rows in the format of the file's ending; JSON has no keys that a row lacks."""
        if name.endswith("parquet"):
            return self.parquet(rows, name, types, **where)
        frame, lines = pl.DataFrame(rows, types), "".join(json.dumps(row) + "\n" for row in rows)
        return self.text(frame.write_csv() if "csv" in name else lines, name, **where)

    def run(self, *options):
        path = self.folder / "shop.toml"
        path.write_text(PIPELINE.replace("MORE_SOURCE", "\n".join(self.lines)) + self.features)
        p = load(path)
        p = p.model_copy(update={"beam": p.beam.model_copy(update={"options": options})})
        shutil.rmtree(self.out, ignore_errors=True)  # each attempt has a new folder
        context = StageContext(pipeline=p, day=DAY, mode="incremental", out=str(self.out))
        return write_raw(context, lambda rows: None).model_dump(mode="json")

    def rejected(self):
        lines = (self.out / "rejected" / "records.jsonl").read_text().splitlines()
        return [(r["file"].split("/")[-1], r["row"], r["reason"]) for r in map(json.loads, lines)]


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


def good(n):
    return [dict(GOOD, u=n % 7, t=NOON + n) for n in range(n)]


BAD = [
    (dict(GOOD, u=None), "user is missing or empty"),
    (dict(GOOD, i=None), "item is missing or empty"),
    (dict(GOOD, i=""), "item is missing or empty"),
    (dict(GOOD, t=None), "time is missing or not a time"),
    (dict(GOOD, t=2**62), "time is missing or not a time"),
    (dict(GOOD, r=-0.5), "reward is missing or not a number of 0 or more"),
    (dict(GOOD, r=float("nan")), "reward is missing or not a number of 0 or more"),
    (dict(GOOD, r=None), "reward is missing or not a number of 0 or more"),
]
EDGES = [dict(GOOD, u=100, t=NOON - 13 * 3600), dict(GOOD, u=100, t=NOON + 11 * 3600 - 1)]
MISPLACED = [
    dict(GOOD, t=NOON - 86_400),
    dict(GOOD, t=NOON - 13 * 3600 - 1),
    dict(GOOD, t=NOON + 11 * 3600),
]


@pytest.mark.parametrize("format", ["parquet", "jsonl", "csv.gz"])
def test_records_that_break_a_rule_are_set_aside(shop, format):
    shop.lines = ["max_rejected = 0.2"]
    rows = [row for row, _ in BAD] + good(60) + EDGES + MISPLACED
    shop.table(rows, f"a.{format}")
    report, first = shop.run(), 2 if "csv" in format else 1
    expected = [(f"a.{format}", n, reason) for n, (_, reason) in enumerate(BAD, first)]
    assert shop.rejected() == expected
    assert (report["rows"], report["positives"], report["users"]) == (73, 62, 8)
    assert report["rejected"]["user is missing or empty"] == 1
    assert sum(report["rejected"].values()) == len(BAD)
    late = {"of_earlier_days": 2, "of_later_days": 1, "left_out": 3, "stragglers": 0}
    assert late.items() <= report["late"].items()


def test_lines_that_are_no_records(shop):
    shop.lines = ["max_rejected = 0.5"]
    bad = {
        2: b"{bad",
        4: b"[1, 2]",
        5: b"null",
        6: b'{"u": 1.5, "i": "a", "t": 1, "r": 1, "e": "buy"}',
        7: b'{"u": {"id": 1}, "i": "a", "t": 1, "r": 1, "e": "buy"}',
        8: b'{"u": "\xff"}',
        9: b'{"u": 1, "i": "a", "t": true, "r": 1, "e": "buy", "size": "big"}',
        10: json.dumps(dict(GOOD, size="big")).encode(),
    }
    lines = [bad.get(n, json.dumps(dict(GOOD, u=n, i=str(n))).encode()) for n in range(1, 26)]
    lines[2] = b"   "  # line 3 is blank
    shop.text(b"\n".join(lines), "a.jsonl")
    report = shop.run()
    assert shop.rejected() == [
        ("a.jsonl", 2, "not a JSON object"),
        ("a.jsonl", 4, "not a JSON object"),
        ("a.jsonl", 5, "not a JSON object"),
        ("a.jsonl", 6, "columns.user is a decimal"),
        ("a.jsonl", 7, "columns.user is an object"),
        ("a.jsonl", 8, "not a JSON object"),
        ("a.jsonl", 9, "time is missing or not a time"),
        ("a.jsonl", 10, "features.size is not a number"),
    ]
    assert report["positives"] == 25 - 1 - 8


def test_rows_of_a_csv_that_have_no_place(shop):
    shop.lines = ["max_rejected = 0.5"]
    rows = [f"{n},{n:03d},{NOON},1,buy,2,more" for n in range(9)]
    rows[1] = "1,a"
    rows[3] = f'3,"two\nlines",{NOON},1,buy,2,more'
    rows[5] = "6," * 20
    text = "\n".join(["u,i,t,r,e,size,other", *rows]).encode().replace(b"7,007", b"7,\xff\xfe")
    shop.text(text, "a.csv")
    report = shop.run()
    # The header is row 1; a line break inside quotes does not end a row.
    assert shop.rejected() == [
        ("a.csv", 3, "not 7 fields"),
        ("a.csv", 7, "not 7 fields"),
        ("a.csv", 9, "not UTF-8"),
    ]
    frame = pl.read_parquet(shop.out / "examples/**/*.parquet", hive_partitioning=False)
    assert report["positives"] == 6 and "two\nlines" in frame["_item"] and "008" in frame["_item"]


def test_too_many_of_them_stop_the_day(shop):
    shop.parquet([row for row, _ in BAD[5:8]] + MISPLACED * 50 + good(200))
    with pytest.raises(BadData) as e:
        shop.run()
    assert "source.max_rejected = 0.01" in str(e.value) and "3 of 203 are malformed (1.5%)" in str(
        e.value
    )
    assert "not a number of 0 or more: 3" in str(e.value) and f"{shop.out}/rejected" in str(e.value)
    assert len(shop.rejected()) == 3


def test_events_of_other_days_do_not_stop_the_day_but_many_are_reported(shop, capsys):
    shop.parquet(MISPLACED + good(200))
    assert shop.run()["positives"] == 200
    text = capsys.readouterr().err
    assert "3 of the 203 events in the folder (1.5%) are of other days and left out; 2 are" in text
    assert "set source.late_days; if not, check pipeline.time_zone" in text
    shop.parquet(MISPLACED)
    with pytest.raises(BadData, match=r"has none\. .*or skip the day\. 3 of the 3 events"):
        shop.run()


def test_bad_records_of_earlier_days_are_left_out(shop):
    yesterday = DAY - timedelta(days=1)
    shop.parquet(good(50))
    shop.parquet([dict(GOOD, u=None, t=NOON - 86_400), dict(GOOD, t=NOON - 86_400)], day=yesterday)
    assert shop.run()["rejected"] == {}


def without(*names):
    return {name: kind for name, kind in TYPES.items() if name not in names}


@pytest.mark.parametrize("format", ["parquet", "csv", "jsonl"])
def test_a_missing_column(shop, format):
    shop.parquet(good(5), name="fine.parquet")
    rows = [{k: row[k] for k in without("t", "e")} for row in good(5)]
    shop.table(rows, f"b.{format}", without("t", "e"))
    with pytest.raises(BadData, match=r"The file has: u, i, r, size.*Correct the name in the") as e:
        shop.run()
    assert f"b.{format} does not have: 't' (columns.time)" in str(e.value)


def test_json_lines_may_leave_a_feature_out_but_not_all_of_them(shop):
    rows = [{k: row[k] for k in without("size")} for row in good(20)]
    shop.text("\n".join(map(json.dumps, rows)), "a.jsonl")
    with pytest.raises(
        BadData, match=r"features\.size names .* 'size' of events, but no record of 20"
    ):
        shop.run()
    shop.text("\n".join(map(json.dumps, [*rows, dict(GOOD, u=100)])), "b.jsonl")
    assert shop.run()["positives"] == 21


def test_ids_that_pandas_made_decimals_of_are_whole_numbers(shop):
    raw = pl.DataFrame({"=u": [7.0, 7.5, 2.0**53, float("nan"), float("inf"), None]})
    column = Column(name="u", source="u", kind="key", use="columns.user")
    ids, _, _ = read_as(column, raw.schema["=u"], text=False)
    assert raw.select(ids).to_series().to_list() == ["7", *[None] * 5]
    shop.parquet(good(20), types=TYPES | {"u": pl.Float64})
    report = shop.run()
    assert (report["positives"], report["rejected"]) == (20, {})
    shop.parquet([dict(GOOD, u=100.5)], "b.parquet", TYPES | {"u": pl.Float64})
    with pytest.raises(BadData, match="user is missing or no whole number"):
        shop.run()


@pytest.mark.parametrize(
    ("column", "kind", "value", "words"),
    [
        (
            "u",
            pl.Date,
            date(2017, 1, 1),
            "columns.user of events must be a string or an integer; column",
        ),
        ("i", pl.Boolean, True, "columns.item of events must be a string or an integer; column"),
        (
            "t",
            pl.Boolean,
            True,
            "columns.time of events must be a timestamp, a date, an ISO 8601 string",
        ),
        ("t", pl.List(pl.Int64), [1], "columns.time of events"),
        ("r", pl.String, "1", "columns.reward of events must be a number"),
        ("e", pl.List(pl.String), ["buy"], "columns.event of events must be a string"),
        ("size", pl.String, "2", "features.size of events must be a number"),
        ("e", pl.Binary, b"\xff", "columns.event of events must be a string"),
    ],
)
def test_a_column_of_the_wrong_type(shop, column, kind, value, words):
    shop.parquet(good(5))
    shop.parquet([dict(GOOD, **{column: value})], "b.parquet", TYPES | {column: kind})
    with pytest.raises(BadData) as e:
        shop.run()
    assert words in str(e.value) and f"column {column!r} of " in str(e.value)
    assert "Write the column with the right type" in str(e.value)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def spoil(path):
    """Damages the pages of a Parquet file; its footer stays whole."""
    content = bytearray(path.read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["b.parquet", "b.jsonl.gz", "b.csv.gz"])
@pytest.mark.parametrize("harm", [truncate, spoil])
def test_a_damaged_file(shop, name, harm):
    shop.parquet(good(5))
    shop.table(good(3000), name)
    harm(shop.path(name))
    with pytest.raises(BadData, match=rf"{name} cannot be read.*Deliver the file again") as e:
        shop.run()
    assert "while running" not in str(e.value)


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["several processes", "prism"])
def test_a_worker_elsewhere_says_so_too(shop, runner, monkeypatch, request):
    elsewhere = ["--direct_running_mode=multi_processing"]
    options = request.getfixturevalue("prism") if runner == "prism" else elsewhere
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    shop.parquet(good(3000))
    spoil(shop.path("a.parquet"))
    with pytest.raises(
        BadData, match=r"a\.parquet cannot be read.*Deliver the file again, or move .*\.$"
    ):
        shop.run(*options)


def test_files_of_no_bytes(shop):
    shop.parquet(good(5))
    shop.text(b"", "b.csv")
    shop.text(b"", "b.jsonl")
    assert shop.run()["positives"] == 5
    shop.text(b"", "b.parquet")
    with pytest.raises(BadData, match=r"b\.parquet cannot be read"):
        shop.run()


def test_a_day_without_positives(shop):
    shop.parquet([dict(GOOD, u=1, e="view"), dict(GOOD, u=2, e="view"), dict(GOOD, e=None)])
    with pytest.raises(BadData, match=r"has none\. The types of its events are view: 2, none: 1"):
        shop.run()


ITEM_FEATURES = """
[corpus]
filter = { stock = [true] }
[features.look]
kind = "vector"
tower = "item"
size = 2
[features.price]
kind = "number"
tower = "item"
"""


def test_items(shop):
    shop.lines = ['items = "items/dt={date}/"', "max_rejected = 0.4"]
    shop.features = ITEM_FEATURES
    shop.parquet([*good(5), dict(GOOD, i="unheard of", u=50), dict(GOOD, i="unheard of", u=51)])
    looks = [("a", [1, 2], 3), (None, [1, 2], 3), ("b", [1, 2, 3], 3), ("c", None, None)]
    looks += [("c", [5, 6], 7), ("d", [5, 6], 7)]
    rows = [{"i": i, "look": x, "price": price, "stock": i != "d"} for i, x, price in looks]
    shop.text("\n".join(map(json.dumps, rows)), "a.jsonl", table="items")
    report = shop.run()
    assert shop.rejected() == [
        ("a.jsonl", 2, "item is missing or empty"),
        ("a.jsonl", 3, "features.look is not 2 numbers"),
    ]
    assert (report["unlisted_items"], report["corpus_end"]) == (1, 2)
    assert report["snapshots"]["items"][str(DAY)]["duplicates"] == 1
    corpus = pl.read_parquet(shop.out / "corpus/end/*.parquet").to_dicts()
    listed = [(row["_item"], row["look"], row["price"]) for row in corpus]
    assert listed == [("a", [1, 2], 3), ("c", [5, 6], 7)]
    shop.lines[1] = "max_rejected = 0.3"
    with pytest.raises(BadData, match=f"in items of {DAY}, 2 of 6 are malformed"):
        shop.run()
    shop.features = ITEM_FEATURES.replace("[true]", '["yes"]')
    with pytest.raises(BadData, match=r"corpus\.filter selects the items"):
        shop.run()


def test_any_other_error_stops_the_job_as_what_it_is(shop, monkeypatch, caplog):
    shop.parquet(good(5))
    monkeypatch.setattr(records, "_check", lambda *_: 1 / 0)
    with pytest.raises(Exception, match="division by zero") as e:
        shop.run()
    assert not isinstance(e.value, TwinspireError)
    assert "division by zero" in caplog.text
