"""The evaluation benchmark: its world holds something to measure, its peer is right, its file has
the house form.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import evaluation
from model.evaluation.evaluate import evaluate_ranked
from model.evaluation.ranked_lists import rank


def test_the_world_is_one_that_vectors_know_something_of() -> None:
    made, again = evaluation.world(300, 500), evaluation.world(300, 500)
    assert all(np.array_equal(a, b) for a, b in zip(made[1:], again[1:], strict=True))
    assert made.queries.dtype == made.items.dtype == np.float32
    assert (
        0 < (~made.evaluation_set.headline).sum() < 100
        and made.evaluation_set.truth.lengths.min() > 0
    )
    ours, older = (
        evaluate_ranked(made.evaluation_set, rank(made.evaluation_set, q, made.items, 100), [10])
        for q in (made.queries, made.older)
    )
    by_chance = 10 / 500
    assert ours["recall@10"] > older["recall@10"] > 3 * by_chance
    assert all(part["users"] > 0 for part in ours["slices"]["users"].values())


def test_the_peer_finds_the_best() -> None:
    rng = np.random.default_rng(1)
    queries, items = (rng.standard_normal((n, 8), np.float32) for n in (40, 200))
    np.testing.assert_array_equal(
        evaluation.plain(queries, items, 7), np.argsort(-queries @ items.T, axis=1)[:, :7]
    )


def test_rows_have_the_house_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "QUICK", {"users": 200, "items": 400, "times": 2})
    monkeypatch.setattr(
        sys, "argv", ["evaluation.py", "--quick", "--json", str(tmp_path / "found.json")]
    )
    evaluation.main()
    found = json.loads((tmp_path / "found.json").read_text())
    assert {"cpu", "cores", "memory_gb"} <= found["machine"].keys()
    wanted = {"case", "contender", "metric", "value", "low", "high", "unit"}
    assert all(
        row.keys() == wanted and row["low"] <= row["value"] <= row["high"] for row in found["rows"]
    )
    seconds = {
        row["case"]: row["value"] for row in found["rows"] if row["contender"] == "twinspire"
    }
    assert {case.partition(": ")[2] for case in seconds} >= {
        "measures",
        "baselines",
        "comparison",
        "all",
    }
