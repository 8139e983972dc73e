"""`twinspire try` before anything is run: what it asks, and what it refuses. tests/system/test_try.py
has the rest.
"""

import gzip
import io
import re
import shlex
import socket
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from twinspire.cli import raw_logs, try_file
from twinspire.cli.main import app
from twinspire_core.errors import TwinspireError, UsageError
from twinspire_core.records.csv_lines import CsvOptions

TIMES = [f"2024-03-2{n % 5} 10:{n % 60:02}:00" for n in range(100)]


def clear(folder: Path, times=TIMES) -> Path:
    """A file that needs no question."""
    rows = [f"{n % 7},{n % 11},{time}" for n, time in enumerate(times)]
    file = folder / "clear.csv"
    file.write_text("\n".join(["user_id,item_id,timestamp", *rows, ""]))
    return file


def unclear(folder: Path) -> Path:
    """Two columns look like the user."""
    rows = [f"{n % 7},{n % 9},{n % 11},{time}" for n, time in enumerate(TIMES)]
    file = folder / "unclear.csv"
    file.write_text("\n".join(["user_id,customer_id,item_id,timestamp", *rows, ""]))
    return file


@pytest.fixture
def refusal(monkeypatch, tmp_path):
    """Why a call is refused; it leaves nothing behind."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments) -> str:
        before = sorted(tmp_path.rglob("*"))
        done = CliRunner().invoke(app, ["try", *map(str, arguments)])
        assert isinstance(done.exception, TwinspireError), done.output
        assert sorted(tmp_path.rglob("*")) == before
        return f"{done.exception.exit_code} {done.exception}"

    return run


def look(file: Path, zone: str | None = None, *, yes: bool = False) -> tuple:
    return raw_logs.look([file], CsvOptions(), {}, None, zone, yes=yes)


def at_a_terminal(monkeypatch, *answers: str) -> None:
    monkeypatch.setattr(raw_logs, "is_terminal", lambda: True)
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{answer}\n" for answer in answers)))


def test_a_script_learns_which_option_is_missing(refusal, tmp_path):
    reason = refusal(unclear(tmp_path))
    assert reason.startswith("2 ") and "--user COLUMN" in reason and "customer_id" in reason
    days_first = clear(tmp_path, [f"0{n % 9 + 1}/0{n % 8 + 1}/2024" for n in range(100)])
    reason = refusal(days_first)
    assert reason.startswith("2 ") and "--time-format" in reason and "'%d/%m/%Y'" in reason


def test_a_file_without_a_header_keeps_its_first_row(refusal, tmp_path):
    file = clear(tmp_path)
    file.write_text(file.read_text().partition("\n")[2])
    assert "--columns user,item,time." in refusal(file, "--yes")
    csv = raw_logs.csv_of([file], columns="user_id,item_id,timestamp")
    columns, layout = raw_logs.look([file], csv, {}, None, "UTC", yes=True)
    assert (columns["item"], layout.csv.columns) == ("item_id", ("user_id", "item_id", "timestamp"))
    # The command that `try` prints reads the file in the same way
    assert raw_logs.flags({}, csv) == ["--columns", "user_id,item_id,timestamp"]


def test_a_log_of_many_gigabytes_is_not_read_unasked(refusal, tmp_path, monkeypatch, capsys):
    """26 GB of zeros in 26 MB, in parts as `cat` joins them."""
    part = gzip.compress(bytes(64 << 20))
    bomb = tmp_path / "log.csv.gz"
    with bomb.open("wb") as file:
        for _ in range(400):
            file.write(part)
    assert "27 GB of text, unzipped. Give the files of fewer days" in refusal(bomb)
    assert "first line is longer than 1,048,576 bytes" in refusal(bomb, "--yes")
    lines = bomb.rename(tmp_path / "log.jsonl")
    assert "a line is longer than 67,108,864 bytes" in refusal(lines, "--yes")
    capsys.readouterr()
    bomb = lines
    at_a_terminal(monkeypatch, "yes")
    raw_logs.foresee([bomb], yes=False)
    at_a_terminal(monkeypatch, "no")
    with pytest.raises(UsageError, match="27 GB"):
        raw_logs.foresee([bomb], yes=False)


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.jsonl", "log.parquet"])
def test_the_rows_of_a_long_log_are_estimated(tmp_path, capsys, name):
    rng = np.random.default_rng(0)
    rows = pl.DataFrame({"user": rng.integers(0, 9e6, 1_200_000), "item": rng.random(1_200_000)})
    file = tmp_path / name
    if name == "log.jsonl":
        rows.write_ndjson(file)
    elif name == "log.parquet":
        rows.write_parquet(file)
    else:
        text = rows.write_csv().encode()
        file.write_bytes(gzip.compress(text, 1) if name.endswith("gz") else text)
    raw_logs.foresee([file], yes=False)
    said = " ".join(capsys.readouterr().err.split())
    estimated = int(re.search(r"About ([\d,]+) rows", said)[1].replace(",", ""))
    assert abs(estimated / 1_200_000 - 1) < 0.05 and "minutes" in said


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl", "log.tsv.gz"])
def test_a_file_that_is_no_text_is_refused_with_what_it_is(refusal, tmp_path, name):
    file = tmp_path / name
    rows = pl.DataFrame({"user": ["é"], "item": [1]})
    rows.write_parquet(file)
    assert "is a Parquet file" in refusal(file, "--yes")
    file.unlink()
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE log (user)")
        database.commit()
    assert "is an SQLite database" in refusal(file, "--yes")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("sheet.xml", "<x/>")
    assert "Excel" in refusal(file, "--yes")
    file.write_bytes(gzip.compress(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"))
    assert "is a picture" in refusal(file, "--yes")


def test_yes_takes_what_is_likeliest(tmp_path):
    columns, layout = look(unclear(tmp_path), yes=True)
    assert columns["user"] in ("user_id", "customer_id")
    assert (columns["item"], layout.time, layout.time_zone) == ("item_id", "timestamp", "UTC")


def test_a_person_is_asked_until_the_answer_fits(monkeypatch, tmp_path):
    at_a_terminal(monkeypatch, "customer", "customer_id", "Berlin", "Europe/Berlin")
    columns, layout = look(unclear(tmp_path))
    assert (columns["user"], layout.time_zone) == ("customer_id", "Europe/Berlin")


def test_a_person_is_asked_nothing_that_is_clear(monkeypatch, tmp_path):
    at_a_terminal(monkeypatch)
    columns, _ = look(clear(tmp_path), "UTC")
    assert columns == {"user": "user_id", "item": "item_id", "time": "timestamp", "event": None}


def test_days_and_months_are_asked_for_by_an_example(monkeypatch, tmp_path, capsys):
    """Of a time that the two readings tell apart."""
    at_a_terminal(monkeypatch, "2")
    times = ["03/03/2024", *(f"0{n % 9 + 1}/0{n % 8 + 1}/2024" for n in range(99))]
    _, layout = look(clear(tmp_path, times), "UTC")
    question = capsys.readouterr().err
    assert "Which day is '09/01/2024'?" in question and "1  9 January 2024 " in question
    assert "2  1 September 2024 " in question and layout.time_format == "%m/%d/%Y"


UTF8, CP1252, ASCII = "Käse,b\n1,2\n".encode(), "Käse,b\n1,2\n".encode("cp1252"), b"a,b\n1,2\n"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({"a.csv": ASCII, "b.csv": CP1252}, (None, "cp1252")),
        ({"a.csv": ASCII, "b.tsv": b"a\tb\n"}, (None, "utf-8")),
        ({"a.parquet": b"", "b.csv": b"a;b\n1;2\n"}, (";", "utf-8")),
        ({"a.jsonl": b"{}", "b.csv": CP1252}, (None, "cp1252")),
        ({"a.csv": UTF8, "b.csv": CP1252}, "a.csv has utf-8 .*b.csv has cp1252"),
        ({"a.csv": ASCII, "b.csv": b"a;b\n1;2\n"}, "a.csv has utf-8 and ','; .* and ';'"),
        ({"a.csv": ASCII, "b.csv": "a,b\n1,2\n".encode("utf-16")}, "b.csv has utf-16"),
    ],
)
def test_files_are_read_in_the_format_that_fits_all_or_refused(tmp_path, texts, expected):
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text)
    files = [tmp_path / name for name in texts]
    if isinstance(expected, tuple):
        result = raw_logs.csv_of(files, None, None)
        assert (result.delimiter, result.encoding) == expected
    else:
        with pytest.raises(UsageError, match=expected):
            raw_logs.csv_of(files, None, None)


def test_the_layout_can_be_typed_as_it_is_shown(monkeypatch, tmp_path):
    """Also where it sets records aside."""
    file = clear(tmp_path, [*TIMES, "yesterday", "soon"])
    monkeypatch.chdir(tmp_path)
    text = CliRunner().invoke(app, ["try", str(file), "--no-serve"]).output
    (shown,) = [line for line in text.splitlines() if line.startswith("$ twinspire partition")]
    assert CliRunner().invoke(app, shlex.split(shown)[2:]).exit_code == 0
    assert len((tmp_path / "clear" / "rejected.jsonl").read_text().splitlines()) == 2


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    home = try_file._Home(tmp_path / "shop", "shop")
    whole = try_file._made_whole
    with pytest.raises(UsageError, match="another command"), whole(home), whole(home) as second:
        second.file.write_text("second")
        assert not home.folder.exists()
    assert [file.read_text() for file in tmp_path.glob("*/*")] == ["second"]


def test_a_port_in_use_is_reported_before_the_work(refusal, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        reason = refusal(clear(tmp_path), "--port", port)
    assert reason.startswith("2 ") and str(port) in reason


def test_an_existing_folder_stays_as_it_is(refusal, tmp_path):
    (tmp_path / "clear").mkdir()
    (tmp_path / "clear" / "notes.txt").write_text("mine")
    reason = refusal(clear(tmp_path), "--no-serve")
    assert reason.startswith("2 ") and "--out" in reason


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("log.csv", "", "is empty"),
        ("log.csv", "user_id,item_id,timestamp\n", "must hold records"),
        ("log.csv", "user_id,item_id\n1,2\n3,4\n", "--time"),
        ("log.csv", "\x01,\r;\x00\n\n", "cannot be read"),
        ("log.xlsx", "PK", "Export it as CSV"),
    ],
)
def test_a_file_that_is_no_log_leaves_nothing(refusal, tmp_path, name, text, message):
    file = tmp_path / name
    file.write_text(text)
    assert message in refusal(file, "--no-serve")
    assert "There is no file at" in refusal(tmp_path / "nowhere.csv")
    assert f"{tmp_path} is a folder" in refusal(tmp_path)


def test_many_records_without_a_time_leave_nothing(refusal, tmp_path):
    file = clear(tmp_path, [*TIMES, "yesterday", "soon"])
    reason = refusal(file, "--no-serve")
    assert reason.startswith("3 ") and "yesterday" in reason and "1 may be set aside" in reason


def test_an_option_that_the_pipeline_file_contradicts_is_refused(refusal, tmp_path):
    file, home = clear(tmp_path), tmp_path / "clear"
    twinspire_init = ["init", str(file), "--name", "clear", "--out", str(home / "clear.toml")]
    assert CliRunner().invoke(app, twinspire_init).exit_code == 0
    reason = refusal(file, "--no-serve", "--time-zone", "Asia/Tokyo")
    assert reason.startswith("2 ") and "--time-zone" in reason
    assert "--user" in refusal(file, "--no-serve", "--user", "item_id")
