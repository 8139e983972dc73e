"""`twinspire evaluate`: what it prints of a file of lists."""

import json
import re

import pytest
from typer.testing import CliRunner

from tests.model.split_by_hand import RECS, TRUTH, jsonl
from twinspire.cli.main import app


@pytest.fixture
def evaluate(shop_file, tmp_path):
    """Runs the command on lists whose measures were computed by hand."""
    recs = jsonl(tmp_path / "recs.jsonl", RECS)
    truth = jsonl(tmp_path / "truth.jsonl", TRUTH)
    command = ["evaluate", str(shop_file), "--recs", recs, "--truth", truth]
    return lambda *options: CliRunner().invoke(app, [*command, *options], catch_exceptions=False)


def _cells(table: str) -> set[str]:
    return set(re.split(r"\s{2,}|(?<=recall) |\n", table))


def test_the_command_scores_a_file(evaluate):
    result = evaluate("-k", "2", "--json")
    scores = json.loads(result.stdout.splitlines()[-1])["measures"]["file"]
    assert scores["recall@2"] == pytest.approx(1 / 2)
    result = evaluate("-k", "1", "-k", "2")
    assert result.stdout == ""
    assert {"recall", "@1", "@2", "file", "95% from", "MRR"} <= _cells(result.stderr)
    assert "3 users asked, 2 answered" in " ".join(result.stderr.split())  # wherever it wraps
    assert "all lists together" not in result.stderr, "nothing is known of the catalogue"
    assert max(map(len, result.stderr.splitlines()[1:])) <= 80


def test_lists_shorter_than_k_are_pointed_out(evaluate):
    assert "longest list has 3 items" in " ".join(evaluate("-k", "9").stderr.split())
    assert "longest list" not in evaluate("-k", "2").stderr
    assert "at least 1" in evaluate("-k", "0").stderr


def test_of_a_catalogue_coverage_is_known(evaluate, tmp_path):
    corpus = jsonl(tmp_path / "corpus.jsonl", [{"item": x} for x in "abcd"])
    result = evaluate("-k", "1", "-k", "2", "--corpus", corpus)
    assert {"coverage", "gini"} <= _cells(result.stderr)
    assert "75.00%" in result.stderr
