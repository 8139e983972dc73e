"""`twinspire evaluate`: what it prints of the live version, and of a file of lists."""

import json
import re
import subprocess
import sys
from datetime import date

import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from typer.testing import CliRunner

from index_builder.registry.registry import Registry
from tests.model.split_by_hand import ITEMS, RECS, SHUFFLED, TRUTH, jsonl
from tests.published import described
from twinspire_core.errors import UsageError

PIPELINE = """
pipeline = { name = "tiny" }
source = { events = "events/dt={date}/" }
columns = { user = "shopper", item = "item", time = "time" }
corpus = { attributes = ["kind"] }
evaluation = { ks = [1, 2] }
gate = { metric = "recall@2" }
[features]
device = { kind = "category", tower = "query" }
item = { kind = "id", tower = "item" }
"""


@pytest.fixture
def truth(tmp_path) -> str:
    return jsonl(tmp_path / "truth.jsonl", TRUTH)


class _Tower(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="device")])
    def serve(self, device):
        return {"vector": tf.one_hot(tf.where(device == b"tv", 1, 0), 4)}


def _publish(tmp_path, registry: Registry) -> str:
    staged = tmp_path / "staged"
    tower = _Tower()
    tf.saved_model.save(tower, str(staged / "query_tower"), {"serving_default": tower.serve})
    (staged / "vectors").mkdir()
    pq.write_table(SHUFFLED, staged / "vectors" / "0.parquet")
    pq.write_table(
        ITEMS.append_column("_attribute_kind", [["old"] * 3 + ["new"]]), staged / "items.parquet"
    )
    manifest = described(staged, "tiny", date(2024, 5, 20), items=4, dimension=4)
    registry.publish(str(staged), manifest, accepted=True, reason="test", promote="auto")
    return manifest.version


def _cells(table: str) -> set[str]:
    return set(re.split(r"\s{2,}|(?<=recall) |\n", table))


def _run(*arguments: str):
    from twinspire.cli.main import app

    return CliRunner().invoke(app, ["evaluate", *arguments], catch_exceptions=False)


def test_the_command_scores_the_live_version(tmp_path):
    (tmp_path / "tiny.toml").write_text(PIPELINE)
    version = _publish(tmp_path, Registry(str(tmp_path / "registry"), "tiny"))
    queries = jsonl(
        tmp_path / "q.jsonl", [{"shopper": 1, "device": "tv"}, {"shopper": 2, "device": "phone"}]
    )
    truth = jsonl(
        tmp_path / "t.jsonl", [{"shopper": 1, "items": ["b"]}, {"shopper": 2, "items": ["b"]}]
    )
    result = _run(str(tmp_path / "tiny.toml"), "--queries", queries, "--truth", truth, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["version"] == version
    assert found["measures"]["two_tower"]["recall@1"] == 1 / 2
    assert found["measures"]["most_popular"]["recall@2"] == 1
    assert {"recall", "@1", "@2", "two-tower", "most popular", "95% from", "coverage"} <= _cells(
        result.stderr
    )
    assert found["measures"]["two_tower"]["slices"]["users"]["0"]["users"] == 2
    assert max(map(len, result.stderr.splitlines())) <= 80


def test_nothing_but_the_command_speaks(tmp_path):
    """In a process of its own, in which TensorFlow has still to be loaded: it greets at length
    otherwise.
    """
    (tmp_path / "tiny.toml").write_text(PIPELINE)
    _publish(tmp_path, Registry(str(tmp_path / "registry"), "tiny"))
    rows = [{"shopper": 1, "device": "tv", "items": ["b"]}]
    files = [jsonl(tmp_path / f"{name}.jsonl", rows) for name in ("q", "t")]
    command = [sys.executable, "-m", "twinspire", "evaluate", str(tmp_path / "tiny.toml")]
    command += ["--queries", files[0], "--truth", files[1]]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout == "" and ended.stderr.lstrip().startswith("2024-05-20-")
    assert not re.findall("WARNING|TensorFlow|oneDNN|cuda|absl", ended.stderr)


def test_the_command_scores_a_file(tmp_path, truth):
    (tmp_path / "tiny.toml").write_text(PIPELINE)
    recs = jsonl(tmp_path / "recs.jsonl", RECS)
    result = _run(
        str(tmp_path / "tiny.toml"), "--recs", recs, "--truth", truth, "-k", "2", "--json"
    )
    found = json.loads(result.stdout.splitlines()[-1])["measures"]["file"]
    assert found["recall@2"] == pytest.approx(1 / 2)
    result = _run(str(tmp_path / "tiny.toml"), "--recs", recs, "--truth", truth)
    assert "all lists together" not in result.stderr, "nothing is known of the catalogue"
    with pytest.raises(UsageError, match="either --queries, to score a version, or --recs"):
        _run(str(tmp_path / "tiny.toml"), "--truth", truth)
