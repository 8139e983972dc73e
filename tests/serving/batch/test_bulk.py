import gzip
import json
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from serving import request_files
from serving.requests.request_model import ListRequest
from tests.serving.asking import recommend, recommend_lines
from twinspire.cli.ask import recommend_file
from twinspire_core import storage
from twinspire_core.errors import BadData, UsageError

NOON = datetime(2024, 1, 3, 7)
REQUESTS = [
    {"user": "anna"},
    {"user": "who", "place": 3.2},
    {"history": ["i01", "i02"]},
    {"user": "ben", "exclude": ["i09"]},
    {},
]


def write(path: Path, lines: list) -> str:
    path.write_text(
        "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    )
    return str(path)


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_line_is_answered_as_it_would_be_alone(version, tmp_path, monkeypatch):
    monkeypatch.setattr(request_files, "BATCH", 2)
    queries = write(tmp_path / "queries.jsonl", REQUESTS)
    done = recommend_lines(
        version, queries, str(tmp_path / "recs.jsonl"), 4, exclude_seen=True, now=NOON
    )
    found = read(tmp_path / "recs.jsonl")
    ids = version.items["_item"].combine_chunks()
    for request, line in zip(REQUESTS, found, strict=True):
        items, scores = recommend(version, [request], 4, exclude_seen=True, now=NOON).lists(ids)
        assert list(line) == ["user", "items", "scores", "sources"]
        assert line["user"] == request.get("user")
        assert line["items"] == items[0].as_py()
        assert line["scores"] == pytest.approx(scores[0].as_py(), abs=1e-6)
    assert (done["queries"], done["short"], done["unknown_users"]) == (5, 0, 1)
    assert done["version"] == version.id


def test_parquet_and_json_lines_say_the_same(version, tmp_path):
    queries = write(tmp_path / "queries.jsonl", REQUESTS)
    for name in ("recs.jsonl", "recs.parquet"):
        recommend_lines(version, queries, str(tmp_path / name), 3, now=NOON)
    table = pq.read_table(tmp_path / "recs.parquet").to_pylist()
    lines = read(tmp_path / "recs.jsonl")
    assert [(row["user"], row["items"]) for row in table] == [
        (row["user"], row["items"]) for row in lines
    ]
    for row, line in zip(table, lines, strict=True):
        assert row["scores"] == pytest.approx(line["scores"], abs=1e-6)


def test_a_zipped_file_with_blank_lines_and_k_beyond_the_catalogue(version, tmp_path):
    with gzip.open(tmp_path / "queries.jsonl.gz", "wt") as file:
        file.write('{"place": 1}\n\n  \n{"place": 2}')
    done = recommend_lines(
        version, str(tmp_path / "queries.jsonl.gz"), str(tmp_path / "recs.jsonl"), 50
    )
    assert [len(line["items"]) for line in read(tmp_path / "recs.jsonl")] == [12, 12]
    assert done["short"] == 2


def test_filters_of_lines_and_of_the_file(version, tmp_path):
    lines = [
        {"place": 3, "allow": {"kind": "odd"}},
        {"place": 3},
        {"place": 3, "deny": {"size": [0, 9]}},
    ]
    queries = write(tmp_path / "queries.jsonl", lines)
    done = recommend_lines(
        version, queries, str(tmp_path / "recs.jsonl"), 6, allow={"stock": ["true", "false"]}
    )
    actual = [{int(item[1:]) for item in line["items"]} for line in read(tmp_path / "recs.jsonl")]
    assert actual[0] == {1, 5, 7, 9, 11} and 3 not in actual[1] and not actual[2] & {0, 1, 2, 3}
    assert (done["short"], done["widened"]) == (1, 0)
    assert done["notes"] == [f"no item of {version.id} has size 9"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"deny": {"size": "big"}}', "deny must have numbers for size; found 'big'"),
        ('{"place": 3e38}', "finite vectors"),
        ('{"history": ' + "[" * 100_000 + "]" * 100_000 + "}", "not JSON"),
    ],
)
def test_a_malformed_line_is_named_and_nothing_is_left(version, tmp_path, monkeypatch, line, said):
    monkeypatch.setattr(request_files, "BATCH", 2)
    queries = write(tmp_path / "queries.jsonl", [{}, {}, "", {}, line, {}])
    (tmp_path / "recs.jsonl").write_text("from yesterday\n")
    with pytest.raises(BadData, match=r"line 5 of .*queries\.jsonl") as caught:
        recommend_lines(version, queries, str(tmp_path / "recs.jsonl"), 3)
    assert said in str(caught.value)
    assert (tmp_path / "recs.jsonl").read_text() == "from yesterday\n"
    assert not list(tmp_path.glob(".tmp-*"))


def test_files_that_cannot_be_used(version, tmp_path):
    queries = write(tmp_path / "queries.jsonl", REQUESTS)
    with pytest.raises(UsageError, match="must end in"):
        recommend_lines(version, queries, str(tmp_path / "recs.txt"), 3)
    with pytest.raises(UsageError, match="not there"):
        recommend_lines(version, str(tmp_path / "none.jsonl"), str(tmp_path / "recs.jsonl"), 3)
    with pytest.raises(UsageError, match="a folder"):
        recommend_lines(version, str(tmp_path), str(tmp_path / "recs.jsonl"), 3)
    with gzip.open(tmp_path / "cut.gz", "wt") as file:
        file.write("{}\n" * 10_000)
    (tmp_path / "cut.gz").write_bytes((tmp_path / "cut.gz").read_bytes()[:-20])
    with pytest.raises(BadData, match="unzipped"):
        recommend_lines(version, str(tmp_path / "cut.gz"), str(tmp_path / "recs.jsonl"), 3)
    altered = bytearray((tmp_path / "cut.gz").read_bytes())
    altered[20] ^= 0xFF
    (tmp_path / "altered.gz").write_bytes(altered)
    with pytest.raises(BadData, match="unzipped"):
        recommend_lines(version, str(tmp_path / "altered.gz"), str(tmp_path / "recs.jsonl"), 3)
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        recommend_lines(version, queries, str(tmp_path / "folder.jsonl"), 3)


def test_an_empty_file_gives_an_empty_file(version, tmp_path):
    for name in ("recs.jsonl", "recs.parquet"):
        done = recommend_lines(version, write(tmp_path / "none.jsonl", []), str(tmp_path / name), 3)
        assert done["queries"] == 0
    assert (tmp_path / "recs.jsonl").read_bytes() == b""
    assert pq.read_table(tmp_path / "recs.parquet").num_rows == 0


def test_in_an_object_store(version, tmp_path, remote_place):
    queries = write(tmp_path / "queries.jsonl", REQUESTS)
    storage.write_bytes(f"{remote_place}/in/queries.jsonl", Path(queries).read_bytes())
    for source, target in (
        (queries, str(tmp_path / "recs.jsonl")),
        (f"{remote_place}/in/queries.jsonl", f"{remote_place}/recs.jsonl"),
    ):
        recommend_lines(version, source, target, 3, now=NOON)
    assert (
        storage.read_bytes(f"{remote_place}/recs.jsonl") == (tmp_path / "recs.jsonl").read_bytes()
    )


def test_without_a_file_standard_output_has_the_lists_and_nothing_else(
    version, pipeline, tmp_path, capfd
):
    queries = write(tmp_path / "queries.jsonl", REQUESTS)
    recommend_file(pipeline, queries, str(tmp_path / "recs.jsonl"), ListRequest(k=3))
    capfd.readouterr()
    for as_json in (False, True):
        recommend_file(pipeline, queries, None, ListRequest(k=3), as_json=as_json)
        text = capfd.readouterr()
        assert text.out == (tmp_path / "recs.jsonl").read_text()
        assert ("5 lists of 3" in text.err) != as_json and ('"queries": 5' in text.err) == as_json
    bad = write(tmp_path / "bad.jsonl", [*REQUESTS, "{"])
    with pytest.raises(BadData, match="line 6"):
        recommend_file(pipeline, bad, None, ListRequest(k=3))
    assert capfd.readouterr().out == ""


def test_a_reader_of_standard_output_may_leave_early(version, pipeline_file, tmp_path):
    queries = write(tmp_path / "queries.jsonl", [{"place": n % 12} for n in range(20_000)])
    program = f"'{sys.executable}' -m twinspire recommend '{pipeline_file}'"
    command = f"{program} --queries '{queries}' | head -n 1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True
    )
    assert done.returncode == 0 and len(json.loads(done.stdout)["items"]) == 10
    assert "BrokenPipe" not in done.stderr


def test_a_killed_run_leaves_no_output(version, pipeline_file, tmp_path):
    queries = write(tmp_path / "queries.jsonl", [{"place": n % 12} for n in range(200_000)])
    code = """
import sys
from serving.request_files import recommend_lines
from serving.requests.request_model import ListRequest
from serving.version.loaded_version import Version
from twinspire_core.config.pipeline import load
version = Version.open(load(sys.argv[1]))
recommend_lines(version, sys.argv[2], sys.argv[3], ListRequest(k=12))
"""
    target = tmp_path / "out" / "recs.jsonl"
    root = Path(__file__).parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(pipeline_file), queries, str(target)],
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    while process.poll() is None and not any(
        p.stat().st_size > 1 << 20 for p in target.parent.glob(".tmp-*")
    ):
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert list(target.parent.glob(".tmp-*")), "it was killed in the middle"
    assert not target.exists()
