"""`partition`: every record is read, whatever the file; what is no record is named with its
place.
"""

import gzip
import json
import time
from pathlib import Path

import polars as pl
import pytest

from beam_jobs.partitioning import log_tables
from tests.beam_jobs.partitioning.lay import lay_out
from twinspire_core.errors import BadData
from twinspire_core.records import csv_lines
from twinspire_core.records.csv_lines import CsvOptions

FORMATS = ["log.parquet", "log.csv", "log.csv.gz", "log.tsv", "log.jsonl", "log.jsonl.gz"]


@pytest.mark.parametrize("name", FORMATS)
def test_ids_survive_every_format(tmp_path, name):
    frame = pl.DataFrame(
        {"id": ["007", "1.50", "né, à\tÅ", "9007199254740993"], "t": ["2017-10-15"] * 4}
    )
    path = tmp_path / name
    if name.endswith("parquet"):
        frame.write_parquet(path)
    else:
        text = (
            frame.write_ndjson()
            if "jsonl" in name
            else frame.write_csv(separator="\t" if "tsv" in name else ",")
        )
        path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    assert lay_out(tmp_path, path, time="t") == {"dt=2017-10-15": frame.to_dicts()}


BAD_LINES = (
    b'{"t": "2017-10-15", "n": 1}\n{"t": "2017-10-15", "n":\n\n[1]\n{"t": null, "n": 2}\n{"t":'
    b' "2017-10-15", "n": 3}\n'
)


def test_bad_records_stop_everything_and_are_quoted(tmp_path):
    (tmp_path / "log.jsonl").write_bytes(BAD_LINES)
    with pytest.raises(BadData) as e:
        lay_out(tmp_path, tmp_path / "log.jsonl", time="t")
    assert all(
        part in str(e.value)
        for part in ("3 cannot be read", "line 2", "line 4", "t is null", "--rejected")
    )
    assert not (tmp_path / "out").exists()


def test_bad_records_can_be_set_aside(tmp_path):
    (tmp_path / "log.jsonl").write_bytes(BAD_LINES)
    found = lay_out(
        tmp_path, tmp_path / "log.jsonl", time="t", rejected=str(tmp_path / "bad.jsonl")
    )
    assert [row["n"] for row in found["dt=2017-10-15"]] == [1, 3]
    bad = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert {b["text"] for b in bad} == {'{"t": "2017-10-15", "n":', "[1]", '{"t": null, "n": 2}'}
    assert {b["file"] for b in bad} == {str(tmp_path / "log.jsonl")}


@pytest.mark.parametrize(("share", "fits"), [(0.5, False), (0.6, True)])
def test_a_share_of_the_records_may_be_set_aside(tmp_path, share, fits):
    """Three of five are bad."""
    (tmp_path / "log.jsonl").write_bytes(BAD_LINES)
    options = {"time": "t", "rejected": str(tmp_path / "bad.jsonl"), "max_rejected": share}
    if fits:
        assert len(lay_out(tmp_path, tmp_path / "log.jsonl", **options)["dt=2017-10-15"]) == 2
        return
    with pytest.raises(BadData, match=r"(?s)3 cannot be read.*Only 2 may be set aside"):
        lay_out(tmp_path, tmp_path / "log.jsonl", **options)
    assert {file.name for file in tmp_path.iterdir()} == {"log.jsonl"}


def test_lines_are_counted_and_kept_whole_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(log_tables, "BLOCK_BYTES", 100)
    lines = [
        "oops" if n % 100 == 50 else json.dumps({"t": "2017-10-15", "n": n}) for n in range(1000)
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    found = lay_out(
        tmp_path, tmp_path / "log.jsonl", time="t", rejected=str(tmp_path / "bad.jsonl")
    )
    assert [row["n"] for row in found["dt=2017-10-15"]] == [n for n in range(1000) if n % 100 != 50]
    bad = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [b["place"] for b in bad] == [f"line {n}" for n in range(51, 1000, 100)]


def test_csv_rows_of_another_width_are_bad_records(tmp_path):
    (tmp_path / "log.csv").write_text(
        't,n\n2017-10-15,1\n2017-10-15\n2017-10-15,"two\nlines"\n2017-10-15,3,4\n'
    )
    found = lay_out(tmp_path, tmp_path / "log.csv", time="t", rejected=str(tmp_path / "bad.jsonl"))
    assert [row["n"] for row in found["dt=2017-10-15"]] == ["1", "two\nlines"]
    bad = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [(b["place"], b["reason"]) for b in bad] == [
        ("row 3", "not 2 fields: 1 fields"),
        ("row 5", "not 2 fields: 3 fields"),
    ]


def test_csv_without_a_header_in_another_encoding(tmp_path):
    (tmp_path / "u.csv").write_bytes("1|Amélie|881250949\n2|Brazil|881250950\n".encode("latin-1"))
    csv = CsvOptions(delimiter="|", columns=["id", "title", "t"], encoding="latin-1")
    found = lay_out(tmp_path, tmp_path / "u.csv", time="t", time_unit="s", csv=csv)
    assert found["dt=1997-12-04"][0] == {"id": 1, "title": "Amélie", "t": 881250949}


def test_a_csv_with_only_a_header_has_no_days(tmp_path):
    (tmp_path / "log.csv").write_text("t,n\n")
    assert lay_out(tmp_path, tmp_path / "log.csv", time="t") == {}


def broken(tmp_path: Path, kind: str) -> Path:
    pl.DataFrame({"t": ["2017-10-15"] * 1000}).write_parquet(tmp_path / "whole.parquet")
    whole = (tmp_path / "whole.parquet").read_bytes()
    zipped = gzip.compress(b'{"t": "2017-10-15"}\n' * 1000)
    name, data = {
        "empty": ("log.jsonl", b""),
        "empty_gzip": ("log.jsonl.gz", gzip.compress(b"")),
        "truncated_parquet": ("log.parquet", whole[: len(whole) // 2]),
        "truncated_gzip": ("log.jsonl.gz", zipped[: len(zipped) // 2]),
        "not_parquet": ("log.parquet", b"t,n\n1,2\n"),
        "no_header": ("log.csv", b",\n1,2\n"),
    }[kind]
    (tmp_path / name).write_bytes(data)
    return tmp_path / name


@pytest.mark.parametrize(
    "kind",
    ["empty", "empty_gzip", "truncated_parquet", "truncated_gzip", "not_parquet", "no_header"],
)
def test_broken_files_are_named(tmp_path, kind):
    path = broken(tmp_path, kind)
    with pytest.raises(BadData) as e:
        lay_out(tmp_path, path, time="t")
    assert str(path) in str(e.value)
    assert not (tmp_path / "out").exists()


def test_a_csv_cut_at_another_character_is_told(tmp_path):
    for delimiter, written in (("\t", r"\$'\\t'"), (";", "';'")):
        (tmp_path / "log").write_text(
            delimiter.join(["user:token", "timestamp:float"]) + "\n1" + delimiter + "5\n"
        )
        with pytest.raises(BadData, match=f"--delimiter {written}"):
            lay_out(tmp_path, tmp_path / "log", time="timestamp", format="csv")


def test_a_csv_left_early_leaves_no_reader_behind(tmp_path, monkeypatch):
    (tmp_path / "log.csv").write_text("a,b\n" + "1,2\n" * 20_000)
    reads = []

    class Slow(csv_lines._Endable):
        def read(self, size=-1):
            if not self.ended:
                time.sleep(0.02)
                reads.append(size)
            return super().read(size)

    monkeypatch.setattr(csv_lines, "_Endable", Slow)
    monkeypatch.setattr(log_tables, "BLOCK_BYTES", 1000)
    tables = log_tables.read(tmp_path / "log.csv", lambda malformed: None)
    next(tables)
    tables.close()
    after = len(reads)
    time.sleep(0.2)
    assert 0 < after == len(reads) < 80


def test_a_csv_without_a_good_row_says_nothing_of_types(tmp_path):
    logs = tmp_path / "logs"
    logs.mkdir()
    pl.DataFrame({"user": [1], "t": [1_700_000_000.5]}).write_parquet(logs / "a.parquet")
    (logs / "b.csv").write_text("user,t\n1\n2,3,4\n")
    rejected = str(tmp_path / "bad.jsonl")
    laid = lay_out(tmp_path, logs, time="t", time_unit="s", rejected=rejected)
    assert laid == {"dt=2023-11-14": [{"user": 1, "t": 1_700_000_000.5}]}
