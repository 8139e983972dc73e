"""`partition`, `init` and `validate` from the command line: odd logs, and what is said of them."""

import json
import shlex
import shutil
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from typer.testing import CliRunner

from beam_jobs.scaffold import validate
from tests.shop import lay_out
from twinspire.cli.main import app
from twinspire_core.errors import TwinspireError, format_message


def twinspire(*arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output, and standard error."""
    result = CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "200"})
    if result.exception is None or isinstance(result.exception, SystemExit):
        return result.exit_code, result.stdout, result.stderr
    assert isinstance(result.exception, TwinspireError), repr(result.exception)
    message = format_message(result.exception)
    return result.exception.exit_code, result.stdout, result.stderr + message


@pytest.fixture
def out(tmp_path):
    return f"{tmp_path}/logs/dt={{date}}/"


def laid_out(out: str) -> dict[str, pl.DataFrame]:
    """Rows by day."""
    folder = out.partition("/dt=")[0]
    files = pl.scan_parquet(f"{folder}/*/*.parquet", hive_partitioning=True)
    return {
        str(day): rows for (day,), rows in files.collect().partition_by("dt", as_dict=True).items()
    }


def write_csv(path, times, names="user;name;wann", encoding="utf-8"):
    rows = [f"{n};Müller {n};{time}" for n, time in enumerate(times)]
    path.write_bytes("\n".join([names, *rows, ""]).encode(encoding))
    return path


GERMAN = ["25.03.2024 23:51:36", "26.03.2024 00:10:00", "26.03.2024 12:00:01"]


@pytest.mark.parametrize(
    ("times", "form", "first"),
    [
        (GERMAN, "%d.%m.%Y %H:%M:%S", datetime(2024, 3, 25, 22, 51, 36)),
        (["03/25/2024", "03/26/2024"], "%m/%d/%Y", datetime(2024, 3, 24, 23, 0)),
        (["20240325", "20240326"], "%Y%m%d", datetime(2024, 3, 24, 23, 0)),
        (
            ["25/Mar/2024:23:51:36 +0000"] * 2,
            "%d/%b/%Y:%H:%M:%S %z",
            datetime(2024, 3, 25, 23, 51, 36),
        ),
    ],
)
def test_times_of_another_form_are_refused_with_the_option_that_reads_them(
    tmp_path, out, times, form, first
):
    log = write_csv(tmp_path / "log.csv", times)
    command = ("partition", log, "--out", out, "--time", "wann", "--delimiter", ";")
    berlin = ("--time-zone", "Europe/Berlin")
    code, _, output = twinspire(*command, *berlin)
    assert code in (2, 3) and f"add --time-format '{form}'." in output
    assert not (tmp_path / "logs").exists()
    code, output, _ = twinspire(*command, *berlin, "--time-format", form)
    assert code == 0 and json.loads(output)["rows"] == len(times)
    wanted = first.replace(tzinfo=UTC).astimezone(ZoneInfo("Europe/Berlin")).date()
    times = laid_out(out)[str(wanted)]["wann"]
    assert times.dtype == pl.Datetime("us", "UTC") and times[0].replace(tzinfo=None) == first


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "cp1250", "cp1251"])
def test_a_wrong_encoding_is_reported_with_the_likely_one(tmp_path, out, encoding):
    name = "Ночь" if encoding == "cp1251" else ("Łódź grusza" if encoding == "cp1250" else "Müller")
    text = "user;name;at\n" + "".join(f"{n};{name} {n};2024-03-25\n" for n in range(50))
    (tmp_path / "log.csv").write_bytes(text.encode(encoding))
    command = ("partition", tmp_path / "log.csv", "--out", out, "--time", "at", "--delimiter", ";")
    code, _, err = twinspire(*command)
    assert code == 3 and f"looks like {encoding}: add --encoding {encoding}." in err
    assert twinspire(*command, "--encoding", encoding)[0] == 0
    assert laid_out(out)["2024-03-25"]["name"][1] == f"{name} 1"


def test_utf8_that_is_said_to_be_something_else_is_refused_and_so_is_an_unknown_encoding(
    tmp_path, out
):
    log = write_csv(tmp_path / "log.csv", ["2024-03-25"])
    command = ("partition", log, "--out", out, "--time", "wann", "--delimiter", ";", "--encoding")
    code, _, err = twinspire(*command, "cp1252")
    assert code == 2 and "is UTF-8, not cp1252. Leave --encoding out" in err
    code, _, err = twinspire(*command, "utf9")
    assert code == 2 and "found 'utf9'" in err


def test_one_stray_byte_costs_a_record_and_advises_no_encoding(tmp_path, out):
    log = write_csv(tmp_path / "log.csv", ["2024-03-25"] * 20)
    log.write_bytes(log.read_bytes() + b"99;\xff;2024-03-25\n")
    command = ("partition", log, "--out", out, "--time", "wann", "--delimiter", ";")
    code, _, err = twinspire(*command)
    assert code == 3 and "--encoding" not in err and "1 cannot be read" in err
    assert twinspire(*command, "--rejected", tmp_path / "bad.jsonl")[0] == 0
    assert len(laid_out(out)["2024-03-25"]) == 20


def test_a_log_that_is_all_set_aside_is_warned_about(tmp_path, out):
    log = write_csv(tmp_path / "log.csv", GERMAN)
    command = ("partition", log, "--out", out, "--time", "wann", "--delimiter", ";")
    code, actual, warned = twinspire(*command, "--rejected", tmp_path / "bad.jsonl")
    assert (code, json.loads(actual)["days"]) == (0, 0)
    assert "no record has a day: all 3 were set aside" in warned and "--time-format" in warned


def test_a_rename_of_days_that_are_there_is_refused_with_their_rows(tmp_path, out):
    log = write_csv(tmp_path / "log.csv", ["2024-03-25"] * 2_500)
    command = ("partition", log, "--out", out, "--delimiter", ";", "--time")
    assert twinspire(*command, "wann")[0] == 0
    write_csv(log, ["2024-03-25"], names="user;name;at")
    code, _, output = twinspire(*command, "at")
    assert code == 2 and "has 2,500 rows, but no column 'at'" in output and "--replace" in output
    code, output, _ = twinspire(*command, "at", "--replace")
    assert code == 0 and json.loads(output)["replaced"] == 1


def test_a_draft_ends_with_the_command_that_checks_its_newest_day(tmp_path, out):
    log = write_csv(tmp_path / "log.csv", GERMAN, names='user;"item""id""";wann')
    command = ("partition", log, "--out", out, "--time", "wann", "--delimiter", ";")
    assert twinspire(*command, "--time-format", "%d.%m.%Y %H:%M:%S")[0] == 0
    made = tmp_path / "made.toml"
    code, _, err = twinspire("init", tmp_path / "logs", "--out", made)
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


def test_a_draft_of_a_file_that_no_stage_reads_names_the_command_that_lays_it_out(tmp_path, out):
    log = write_csv(tmp_path / "log.csv", GERMAN, encoding="cp1252")
    code, _, err = twinspire("init", log)
    assert code == 2 and f"partition {log} --delimiter ';' --encoding cp1252 --out" in err
    log.write_text("buyer,ean,wann\n" + "".join(f"1,2,{time}\n" for time in GERMAN))
    code, _, err = twinspire("init", log, "--user", "buyer")
    assert code == 2 and "--time wann --time-format '%d.%m.%Y %H:%M:%S' --out" in err


DAY = "2024-03-05"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return lay_out(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def shop(made, tmp_path):
    shutil.copytree(made.parent, tmp_path / "shop")
    return tmp_path / "shop/shop.toml"


def replace_in(shop, *pairs):
    text = shop.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    shop.write_text(text)


def change_events(shop, **columns):
    (file,) = (shop.parent / f"events/dt={DAY}").glob("*.parquet")
    pl.read_parquet(file).with_columns(**columns).write_parquet(file)


def checked_column(shop, column, exit_code):
    code, actual, _ = twinspire("validate", shop, "--date", DAY, "--json")
    assert code == exit_code
    return next(one for one in json.loads(actual) if one["column"] == column)


def test_positives_that_never_occur_are_reported_with_similar_spellings(shop):
    positives = 'positives = ["buy"]'
    replace_in(shop, (positives, 'positives = ["Buy", "by"]'))
    one = checked_column(shop, "type", exit_code=3)
    assert not one["ok"] and "no record has a value of columns.positives" in one["found"]
    assert "no 'Buy' (did you mean 'buy'?), 'by' (did you mean 'buy'?)" in one["found"]
    replace_in(shop, ('positives = ["Buy", "by"]', 'positives = ["buy", "refund"]'))
    one = checked_column(shop, "type", exit_code=0)
    assert one["ok"] and one["doubt"] and "no 'refund', but 'buy', 'view'" in one["found"]
    code, actual, ended = twinspire("validate", shop, "--date", DAY)
    assert code == 0 and " ! " in actual and "check the rows marked ! (1)" in ended


def test_a_positive_after_the_sample_is_accepted(shop, monkeypatch):
    monkeypatch.setattr(validate, "_ROWS", 50)
    types = pl.when(pl.int_range(pl.len()) == pl.len() - 1).then(pl.lit("last")).otherwise("type")
    change_events(shop, type=types)
    replace_in(shop, ('positives = ["buy"]', 'positives = ["buy", "last"]'))
    assert not checked_column(shop, "type", exit_code=0)["doubt"]
    _, _, ended = twinspire("validate", shop, "--date", DAY)
    assert "without a problem. It read the first 50 events of each file" in ended


@pytest.mark.parametrize(
    ("wanted", "code", "says"),
    [
        ('kind = ["k1"]', 0, None),
        ('kind = ["K1", "k2"]', 3, "no 'K1' (did you mean 'k1'?)"),
        ('kind = ["k1", "elsewhere"]', 0, "no 'elsewhere'"),
        ("kind = [7]", 3, "no record has a value of corpus.filter: there is no '7'"),
    ],
)
def test_filter_values_that_no_item_has_are_reported(shop, wanted, code, says):
    replace_in(shop, ("[corpus]", f"[corpus]\nfilter = {{ {wanted} }}"))
    columns = json.loads(twinspire("validate", shop, "--date", DAY, "--json")[1])
    (one,) = [one for one in columns if one["use"] == "corpus.filter"]
    assert one["ok"] is (code == 0) and one["doubt"] is (says is not None and code == 0)
    assert "there is" not in one["found"] if says is None else says in one["found"]


@pytest.mark.parametrize("as_text", [False, True])
def test_times_that_would_be_in_1970_are_reported_with_the_right_unit(shop, as_text):
    seconds = pl.col("at").dt.epoch("s")
    change_events(shop, at=seconds.cast(pl.String) if as_text else seconds)
    replace_in(shop, ('time = "at"', 'time = "at"\ntime_unit = "ms"'))
    one = checked_column(shop, "at", exit_code=3)
    assert "read in ms they are of 1970-01-20" in one["found"]
    assert 'set columns.time_unit = "s"' in one["found"]
    replace_in(shop, ('time_unit = "ms"', 'time_unit = "s"'))
    assert checked_column(shop, "at", exit_code=0)["ok"]


def test_times_of_another_format_and_of_other_days_are_reported(shop):
    moved = pl.col("at") + pl.when(pl.int_range(pl.len()) < 30).then(pl.duration(days=2))
    change_events(shop, at=moved.fill_null(pl.col("at")))
    one = checked_column(shop, "at", exit_code=0)
    assert one["doubt"] and "are of other days and left out" in one["found"]
    change_events(shop, at=pl.col("at") + pl.duration(days=9))
    assert "Look at pipeline.time_zone" in checked_column(shop, "at", exit_code=3)["found"]
    change_events(shop, at=pl.col("at").dt.strftime("%d.%m.%Y %H:%M"))
    one = checked_column(shop, "at", exit_code=3)
    assert "`twinspire partition --time-format '%d.%m.%Y %H:%M'` reads them" in one["found"]


@pytest.mark.parametrize(("missing", "code"), [(1, 0), (40, 3)])
def test_ids_that_are_missing_are_counted_and_not_rounded_to_nothing(shop, missing, code):
    first = pl.int_range(pl.len()) < missing
    change_events(shop, user_id=pl.when(~first).then("user_id"))
    one = checked_column(shop, "user_id", code)
    assert f"{missing} of " in one["found"] and "rejected: user is missing" in one["found"]
    assert ", 0% missing" not in one["found"]
    assert ("source.max_rejected = 0.01 allows fewer" in one["found"]) is (code == 3)
