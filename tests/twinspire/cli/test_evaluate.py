"""`twinspire evaluate`: what it prints of a file of lists."""

import json
import re

import pytest
from typer.testing import CliRunner

from tests.model.split_by_hand import RECS, TRUTH, jsonl
from twinspire.cli.main import app

PIPELINE = """
pipeline = { name = "tiny" }
source = { events = "events/dt={date}/" }
columns = { user = "shopper", item = "item", time = "time" }
evaluation = { ks = [1, 2] }
gate = { metric = "recall@2" }
[features]
device = { kind = "category", tower = "query" }
item = { kind = "id", tower = "item" }
"""


@pytest.fixture
def files(tmp_path) -> list[str]:
    (tmp_path / "tiny.toml").write_text(PIPELINE)
    recs = jsonl(tmp_path / "recs.jsonl", RECS)
    truth = jsonl(tmp_path / "truth.jsonl", TRUTH)
    return [str(tmp_path / "tiny.toml"), "--recs", recs, "--truth", truth]


def _cells(table: str) -> set[str]:
    return set(re.split(r"\s{2,}|(?<=recall) |\n", table))


def _run(*arguments: str):
    return CliRunner().invoke(app, ["evaluate", *arguments], catch_exceptions=False)


def test_the_command_scores_a_file(files):
    result = _run(*files, "-k", "2", "--json")
    scores = json.loads(result.stdout.splitlines()[-1])["measures"]["file"]
    assert scores["recall@2"] == pytest.approx(1 / 2)
    result = _run(*files)
    assert result.stdout == ""
    assert {"recall", "@1", "@2", "file", "95% from", "MRR"} <= _cells(result.stderr)
    assert "3 users asked, 2 answered" in " ".join(result.stderr.split())  # wherever it wraps
    assert "all lists together" not in result.stderr, "nothing is known of the catalogue"
    assert max(map(len, result.stderr.splitlines()[1:])) <= 80


def test_lists_shorter_than_k_are_pointed_out(files):
    assert "longest list has 3 items" in " ".join(_run(*files, "-k", "9").stderr.split())
    assert "longest list" not in _run(*files, "-k", "2").stderr
    assert "greater than or equal to 1" in _run(*files, "-k", "0").stderr


def test_of_a_catalogue_coverage_is_known(files, tmp_path):
    corpus = jsonl(tmp_path / "corpus.jsonl", [{"item": x} for x in "abcd"])
    result = _run(*files, "--corpus", corpus)
    assert {"coverage", "gini"} <= _cells(result.stderr)
    assert "75.00%" in result.stderr
