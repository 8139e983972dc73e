"""`partition`, `init` and `validate` from the command line: odd logs and their messages."""

import glob
import gzip
import json
import random
import re
import shlex
import shutil
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from typer.testing import CliRunner

from beam_jobs.scaffold import validate
from tests.shop import lay_out
from twinspire.cli.main import app
from twinspire_core.errors import TwinspireError, format_message
from twinspire_core.records.csv_lines import join_names, split_names


def twinspire(*arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output, and standard error."""
    result = CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "200"})
    if result.exception is None or isinstance(result.exception, SystemExit):
        return result.exit_code, result.stdout, result.stderr
    assert isinstance(result.exception, TwinspireError), repr(result.exception)
    message = format_message(result.exception)
    return result.exception.exit_code, result.stdout, result.stderr + message


class Log:
    """A CSV file, and its rows laid out by day."""

    def __init__(self, folder) -> None:
        self.file, self.days = folder / "log.csv", folder / "logs"

    def write(self, times, names="user;name;wann", encoding="utf-8", name="Müller"):
        rows = [f"{n};{name} {n};{time}" for n, time in enumerate(times)]
        self.file.write_bytes("\n".join([names, *rows, ""]).encode(encoding))

    def partition(self, *options, time="wann") -> tuple[int, dict | None, str]:
        """Exit code, summary, and standard error."""
        command = ("partition", self.file, "--out", f"{self.days}/dt={{date}}/", "--time", time)
        code, out, err = twinspire(*command, "--delimiter", ";", *options)
        return code, json.loads(out) if out else None, err

    def rows(self, day: str) -> pl.DataFrame:
        return pl.read_parquet(f"{self.days}/dt={day}/*.parquet")


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path)


GERMAN = ["25.03.2024 23:51:36", "26.03.2024 00:10:00", "26.03.2024 12:00:01"]
AS_GERMAN = ("--time-format", "%d.%m.%Y %H:%M:%S")
APACHE = ["25/Mar/2024:23:51:36 +0000"] * 2


@pytest.mark.parametrize(
    ("times", "form", "first"),
    [
        (GERMAN, "%d.%m.%Y %H:%M:%S", datetime(2024, 3, 25, 22, 51, 36)),
        (["03/25/2024", "03/26/2024"], "%m/%d/%Y", datetime(2024, 3, 24, 23, 0)),
        (["20240325", "20240326"], "%Y%m%d", datetime(2024, 3, 24, 23, 0)),
        (APACHE, "%d/%b/%Y:%H:%M:%S %z", datetime(2024, 3, 25, 23, 51, 36)),
    ],
)
def test_times_of_another_form_are_refused_with_the_option_that_reads_them(log, times, form, first):
    log.write(times)
    berlin = ("--time-zone", "Europe/Berlin")
    code, _, err = log.partition(*berlin)
    assert code in (2, 3) and f"add --time-format '{form}'." in err
    assert not log.days.exists()
    code, summary, _ = log.partition(*berlin, "--time-format", form)
    assert code == 0 and summary["rows"] == len(times)
    day = first.replace(tzinfo=UTC).astimezone(ZoneInfo("Europe/Berlin")).date()
    times = log.rows(str(day))["wann"]
    assert times.dtype == pl.Datetime("us", "UTC") and times[0].replace(tzinfo=None) == first


@pytest.mark.parametrize(
    ("encoding", "name"),
    [("cp1252", "Müller"), ("utf-16", "Müller"), ("cp1250", "Łódź grusza"), ("cp1251", "Ночь")],
)
def test_a_wrong_encoding_is_reported_with_the_likely_one(log, encoding, name):
    log.write(["2024-03-25"] * 50, encoding=encoding, name=name)
    code, _, err = log.partition()
    assert code == 3 and f"looks like {encoding}: add --encoding {encoding}." in err
    assert log.partition("--encoding", encoding)[0] == 0
    assert log.rows("2024-03-25")["name"][1] == f"{name} 1"


@pytest.mark.parametrize(
    ("encoding", "message"),
    [("cp1252", "is UTF-8, not cp1252. Leave --encoding out"), ("utf9", "found 'utf9'")],
)
def test_an_encoding_that_the_file_does_not_have_is_refused(log, encoding, message):
    log.write(["2024-03-25"])
    code, _, err = log.partition("--encoding", encoding)
    assert code == 2 and message in err


def test_one_stray_byte_costs_a_record_and_advises_no_encoding(log, tmp_path):
    log.write(["2024-03-25"] * 20)
    log.file.write_bytes(log.file.read_bytes() + b"99;\xff;2024-03-25\n")
    code, _, err = log.partition()
    assert code == 3 and "--encoding" not in err and "1 cannot be read" in err
    assert log.partition("--rejected", tmp_path / "bad.jsonl")[0] == 0
    assert len(log.rows("2024-03-25")) == 20


def test_a_log_that_is_all_set_aside_is_warned_about(log, tmp_path):
    log.write(GERMAN)
    code, summary, err = log.partition("--rejected", tmp_path / "bad.jsonl")
    assert (code, summary["days"]) == (0, 0)
    assert "no record has a day: all 3 were set aside" in err and "--time-format" in err


def test_days_with_other_columns_are_replaced_only_on_request(log):
    log.write(["2024-03-25"] * 2_500)
    assert log.partition()[0] == 0
    log.write(["2024-03-25"], names="user;name;at")
    code, _, err = log.partition(time="at")
    assert code == 2 and "has 2,500 rows, but no column 'at'" in err and "--replace" in err
    code, summary, _ = log.partition("--replace", time="at")
    assert code == 0 and summary["replaced"] == 1


def test_a_draft_ends_with_the_command_that_checks_its_newest_day(log, tmp_path):
    log.write(GERMAN, names='user;"item""id""";wann')
    assert log.partition(*AS_GERMAN)[0] == 0
    made = tmp_path / "made.toml"
    code, _, err = twinspire("init", log.days, "--out", made)
    assert code == 0 and f"Next: twinspire validate {made} --date 2024-03-26" in err
    assert twinspire("validate", made, "--date", "2024-03-26")[0] == 0


def test_a_draft_of_a_single_file_ends_with_the_command_that_lays_it_out(tmp_path):
    rows = [f"u{n % 7},i{n % 9},{1709280000 + n * 7000}" for n in range(60)]
    (tmp_path / "log.csv").write_text("\n".join(["user,item,timestamp", *rows, ""]))
    command = ("init", tmp_path / "log.csv", "--time-zone", "Asia/Tokyo", "--out")
    code, _, err = twinspire(*command, tmp_path / "made.toml")
    _, checked_column, step = err.partition("lay the log out by day: twinspire ")
    assert code == 0 and checked_column
    assert twinspire(*shlex.split(step))[0] == 0
    code, _, err = twinspire(*command, tmp_path / "again.toml")
    assert code == 0 and f"validate {tmp_path / 'again.toml'} --date 2024-03-06" in err


def test_a_draft_of_a_file_that_no_stage_reads_names_the_command_that_lays_it_out(log):
    log.write(GERMAN, encoding="cp1252")
    code, _, err = twinspire("init", log.file)
    assert code == 2 and f"partition {log.file} --delimiter ';' --encoding cp1252 --out" in err
    log.file.write_text("buyer,ean,wann\n" + "".join(f"1,2,{time}\n" for time in GERMAN))
    code, _, err = twinspire("init", log.file, "--user", "buyer")
    assert code == 2 and "--time wann --time-format '%d.%m.%Y %H:%M:%S' --out" in err


class Shop:
    """A shop whose pipeline file and events of a day a test changes."""

    day = "2024-03-05"

    def __init__(self, file) -> None:
        self.file = file

    def edit(self, old: str, new: str) -> None:
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new))

    def change(self, **columns) -> None:
        (file,) = (self.file.parent / f"events/dt={self.day}").glob("*.parquet")
        pl.read_parquet(file).with_columns(**columns).write_parquet(file)

    def validate(self, *options) -> tuple[int, str, str]:
        return twinspire("validate", self.file, "--date", self.day, *options)

    def check(self, column: str, code: int = 0, use: str = "") -> dict:
        """What the command with this exit code says of a column."""
        exit_code, out, _ = self.validate("--json")
        assert exit_code == code
        rows = [row for row in json.loads(out) if row["column"] == column and use in row["use"]]
        return rows[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return lay_out(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def shop(made, tmp_path):
    shutil.copytree(made.parent, tmp_path / "shop")
    return Shop(tmp_path / "shop/shop.toml")


def test_positives_that_never_occur_are_reported_with_similar_spellings(shop):
    shop.edit('positives = ["buy"]', 'positives = ["Buy", "by"]')
    column = shop.check("type", 3)
    assert not column["ok"] and "no record has a value of columns.positives" in column["found"]
    assert "no 'Buy' (did you mean 'buy'?), 'by' (did you mean 'buy'?)" in column["found"]
    shop.edit('positives = ["Buy", "by"]', 'positives = ["buy", "refund"]')
    column = shop.check("type")
    assert column["ok"] and column["doubt"] and "no 'refund', but 'buy', 'view'" in column["found"]
    _, out, err = shop.validate()
    assert " ! " in out and "check the rows marked ! (1)" in err


def test_a_positive_after_the_sample_is_accepted(shop, monkeypatch):
    monkeypatch.setattr(validate, "_ROWS", 50)
    last = pl.int_range(pl.len()) == pl.len() - 1
    shop.change(type=pl.when(last).then(pl.lit("last")).otherwise("type"))
    shop.edit('positives = ["buy"]', 'positives = ["buy", "last"]')
    assert not shop.check("type")["doubt"]
    end = "without a problem. It read the first 50 events of each file"
    assert end in shop.validate()[2]


@pytest.mark.parametrize(
    ("kinds", "code", "message"),
    [
        ('["k1"]', 0, None),
        ('["K1", "k2"]', 3, "no 'K1' (did you mean 'k1'?)"),
        ('["k1", "elsewhere"]', 0, "no 'elsewhere'"),
        ("[7]", 3, "no record has a value of corpus.filter: there is no '7'"),
    ],
)
def test_filter_values_that_no_item_has_are_reported(shop, kinds, code, message):
    shop.edit("[corpus]", f"[corpus]\nfilter = {{ kind = {kinds} }}")
    column = shop.check("kind", code, "corpus.filter")
    assert column["ok"] is (code == 0) and column["doubt"] is (message is not None and code == 0)
    assert message in column["found"] if message else "there is" not in column["found"]


@pytest.mark.parametrize("as_text", [False, True])
def test_times_that_would_be_in_1970_are_reported_with_the_right_unit(shop, as_text):
    seconds = pl.col("at").dt.epoch("s")
    shop.change(at=seconds.cast(pl.String) if as_text else seconds)
    shop.edit('time = "at"', 'time = "at"\ntime_unit = "ms"')
    reason = shop.check("at", 3)["found"]
    assert "read in ms they are of 1970-01-20" in reason
    assert 'set columns.time_unit = "s"' in reason
    shop.edit('time_unit = "ms"', 'time_unit = "s"')
    assert shop.check("at")["ok"]


def test_times_of_another_format_and_of_other_days_are_reported(shop):
    moved = pl.col("at") + pl.when(pl.int_range(pl.len()) < 30).then(pl.duration(days=2))
    shop.change(at=moved.fill_null(pl.col("at")))
    column = shop.check("at")
    assert column["doubt"] and "are of other days and left out" in column["found"]
    shop.change(at=pl.col("at") + pl.duration(days=9))
    assert "Look at pipeline.time_zone" in shop.check("at", 3)["found"]
    shop.change(at=pl.col("at").dt.strftime("%d.%m.%Y %H:%M"))
    remedy = "`twinspire partition --time-format '%d.%m.%Y %H:%M'` reads them"
    assert remedy in shop.check("at", 3)["found"]


@pytest.mark.parametrize(("missing", "code"), [(1, 0), (40, 3)])
def test_ids_that_are_missing_are_counted_and_not_rounded_to_nothing(shop, missing, code):
    shop.change(user_id=pl.when(pl.int_range(pl.len()) >= missing).then("user_id"))
    reason = shop.check("user_id", code)["found"]
    assert f"{missing} of " in reason and "rejected: user is missing" in reason
    assert ", 0% missing" not in reason
    assert ("source.max_rejected = 0.01 allows fewer" in reason) is (code == 3)


def test_rows_after_tomorrow_are_rejected_and_all_days_without_rows_are_counted(tmp_path):
    days = ["2024-03-01 10:00:00", "2024-12-01 10:00:00", "2099-01-01 00:00:00"]
    (tmp_path / "log.csv").write_text("\n".join(["user,at", *(f"u,{day}" for day in days), ""]))
    command = (
        "partition",
        tmp_path / "log.csv",
        "--out",
        f"{tmp_path}/out/dt={{date}}/",
        "--time",
        "at",
    )
    code, _, err = twinspire(*command)
    assert code == 3 and "is after tomorrow" in err and not (tmp_path / "out").exists()
    code, out, err = twinspire(*command, "--rejected", tmp_path / "rejected.jsonl")
    summary = json.loads(out)
    assert code == 0 and (summary["rows"], summary["rejected"], summary["days"]) == (3, 1, 2)
    assert "after tomorrow" in (tmp_path / "rejected.jsonl").read_text()
    # From 2 March to 30 November
    assert "274 days between them without rows: 2024-03-02" in err


@pytest.mark.parametrize("seed", range(3))
def test_the_guides_commands_lay_out_what_its_pipeline_file_reads(tmp_path, monkeypatch, seed):
    """Its first block of `partition`, on CSV files with prices, then its pipeline file and `validate`."""
    page = (Path(__file__).parents[3] / "docs/guide/2-your-own-logs.md").read_text()
    [partition] = [block for block in re.findall(r"```sh\n(.*?)```", page, re.S) if "snap" in block]
    [check] = re.findall(r"```sh\n(twinspire validate.*?)```", page, re.S)
    file = re.search(r"```toml\n(\[pipeline\].*?)```", page, re.S)[1]
    monkeypatch.chdir(tmp_path)
    draw = random.Random(seed)
    skus = [f"{n:05d}" for n in range(80)]
    products = ["sku,title,price,category,brand"]
    # Whole prices come before the first decimal, and some are missing
    prices = [draw.choice(["", "5", f"{draw.random() * 99:.2f}"]) if n else "5" for n in range(80)]
    products += [f"{s},Thing {s},{p},c{int(s) % 7},b" for s, p in zip(skus, prices, strict=True)]
    Path("products.csv").write_text("\n".join(products) + "\n")
    for part in range(2):
        clicks = ["customer_id,sku,clicked_at"]
        for _ in range(500):
            at = f"2024-04-{draw.randint(10, 20)}T{draw.randint(3, 20):02}:00:00Z"
            clicks.append(f"{draw.randint(1, 60)},{draw.choice(skus)},{at}")
        Path(f"clicks-{part}.csv.gz").write_bytes(gzip.compress("\n".join(clicks).encode()))
    for line in partition.strip().splitlines():
        words = shlex.split(line)[1:]
        named = [found for word in words for found in (glob.glob(word) if "*" in word else [word])]
        code, _, err = twinspire(*named)
        assert code == 0, err
    Path("pipelines").mkdir()
    Path("pipelines/shop.toml").write_text(file)
    code, _, err = twinspire(*shlex.split(check)[1:])
    assert code == 0, err
    [snapshot] = Path("logs/items").glob("dt=*")
    rows = pl.read_parquet(f"{snapshot}/*.parquet")
    assert rows["price"].dtype == pl.Float64 and rows["sku"].to_list() == skus
    assert rows["price"].to_list() == [float(price) if price else None for price in prices]


@pytest.mark.parametrize(
    ("name", "text"),
    [("log.csv", "user,item,time\n"), ("log.jsonl", "\n"), ("log.csv", "user,item,time")],
)
def test_a_log_without_rows_is_nothing_to_do(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    out = tmp_path / "logs"
    command = ("partition", tmp_path / name, "--time", "time", "--out", f"{out}/dt={{date}}/")
    code, _, err = twinspire(*command)
    assert code == 99 and "must hold rows" in err and not out.exists()


def test_items_in_lists_and_lines_before_the_header_are_refused_with_what_to_do(tmp_path):
    rows = [{"user": n % 9, "basket": [1, 2], "time": f"2024-05-0{n % 9 + 1}"} for n in range(99)]
    file = tmp_path / "log.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    code, _, err = twinspire("try", file, "--item", "basket", "--yes", "--out", tmp_path / "out")
    assert code == 2 and "explode" in err
    titled = tmp_path / "titled.csv"
    titled.write_text("Report of May\n\nuser,item,time\n" + "1,2,2024-05-01\n" * 50)
    code, _, err = twinspire("try", titled, "--yes", "--out", tmp_path / "out")
    assert code == 3 and "before the header" in err


@pytest.mark.parametrize("seed", range(5))
def test_names_with_commas_and_quotes_are_given_as_in_a_csv_file(tmp_path, seed):
    draw = random.Random(seed)
    names = ["".join(draw.choices('ab ,"ü;', k=6)) + str(n) for n in range(3)]
    rows = pl.DataFrame(
        {
            "item": [f"i{n % 5}" for n in range(40)],
            "at": [f"2024-05-0{1 + n % 3}T10:00:00Z" for n in range(40)],
            **{name: [f"{name} of {n % 5}" for n in range(40)] for name in names},
        }
    )
    rows.write_csv(tmp_path / "log.csv", include_header=bool(seed % 2))
    given = join_names(["item", *names])
    assert split_names(given) == ("item", *names) and split_names("a,b") == ("a", "b")
    header = () if seed % 2 else ("--columns", join_names(rows.columns))
    out = tmp_path / "items"
    to = ("--time", "at", "--out", f"{out}/dt={{date}}/")
    code, _, err = twinspire("partition", tmp_path / "log.csv", "--items-of", given, *to, *header)
    assert code == 0, err
    items = pl.read_parquet(f"{out}/*/*.parquet").sort("item")
    assert items.columns == ["item", *names] and len(items) == 5
    assert items[names[0]].to_list() == [f"{names[0]} of {n}" for n in range(5)]


def test_a_time_format_with_the_name_of_a_zone_is_refused(log):
    log.write(["25.03.2024 23:51:36 CET"])
    code, _, err = log.partition("--time-format", "%d.%m.%Y %H:%M:%S %Z")
    assert code == 2 and "%Z" in err and "--time-zone" in err
