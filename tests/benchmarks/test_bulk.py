"""The benchmark of files of requests: what it asks is understood, its file has the house form."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import bulk
from benchmarks.load import world
from serving.batch.request_lines import PlainLines
from serving.requests.query_rows import Requests
from twinspire_core.config.pipeline import load


def test_its_requests_are_plain_and_have_a_history_of_20(tmp_path: Path) -> None:
    (tmp_path / "mean.toml").write_text(world.PIPELINE.format(name="mean", pooling="mean"))
    bulk.write_queries(tmp_path / "queries.jsonl", 1500, 300)
    lines = (tmp_path / "queries.jsonl").read_bytes().splitlines(keepends=True)
    table = PlainLines(Requests(load(tmp_path / "mean.toml"))).table(lines)
    assert table is not None and len(table) == 1500
    assert {len(one) for one in table["recent"].to_pylist()} == {20}
    assert len(set(lines)) == 1500


def test_rows_have_the_house_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "QUICK", {"items": 50, "users": (10, 20), "times": 2})
    monkeypatch.setattr(sys, "argv", ["bulk.py", "--quick", "--json", str(tmp_path / "found.json")])
    monkeypatch.setattr(bulk.made_ranker, "published", lambda *_: tmp_path)
    told = {"short": 0, "seconds": 2, "cpu": 1, "peak_mb": 900}

    def run(command, **_):
        users = len(Path(command[5]).read_bytes().splitlines())
        return type(
            "Done",
            (),
            {"returncode": 0, "stdout": json.dumps({"users": users, **told}), "stderr": ""},
        )

    # It asks a command what the processor is, and remembers that.
    bulk.machine()
    monkeypatch.setattr(bulk.subprocess, "run", run)
    bulk.main()
    found = json.loads((tmp_path / "found.json").read_text())
    wanted = {"case", "contender", "metric", "value", "low", "high", "unit"}
    assert (
        all(row.keys() == wanted for row in found["rows"])
        and {"cpu", "cores"} <= found["machine"].keys()
    )
    values = {(row["case"], row["contender"], row["metric"]): row["value"] for row in found["rows"]}
    assert values["20 users, Parquet", "twinspire/mix", "users/s"] == 10
    assert (
        values["10 users, JSON Lines", "twinspire/two_tower", "peak_mb"] == 900
        and len(values) == 36
    )
