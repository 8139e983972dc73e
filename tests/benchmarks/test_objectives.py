"""The benchmark of the second objective: who is asked what, and how answers are judged."""

import numpy as np
import polars as pl
import pytest

from benchmarks import objectives
from benchmarks.objectives import Log


def test_the_last_fifth_of_a_user_is_asked_and_enters_no_history():
    films = [*range(10), 3, 4]
    ratings = pl.DataFrame(
        {"user_id": ["a"] * 10 + ["b"] * 2, "item_id": films, "rating": [4.0] * 12}
    )
    log = objectives.log_of(ratings)
    assert (
        np.flatnonzero(log.held_out).tolist() == [8, 9] and log.user.tolist() == [0] * 10 + [1] * 2
    )
    assert log.recent[3, :4].tolist() == [1, 2, 3, 0]
    assert log.recent[8].tolist() == log.recent[9].tolist() == [*range(1, 9), *[0] * 12]
    assert log.recent[11, :2].tolist() == [4, 0]


def test_answers_by_hand(monkeypatch):
    """One user had film 0 and is asked for 1, 2 and 3, of which 2 and 3 are liked; lists hold two
    films.
    """
    monkeypatch.setattr(objectives, "K", 2)
    asked = np.array([False, True, True, True])
    log = Log(
        np.zeros(4, int),
        np.arange(4),
        np.array([5, 1, 4, 5], np.float32),
        np.zeros((4, 20), np.int32),
        asked,
    )
    items = np.array([[1.0], [0.9], [0.1], [0.8]], np.float32)

    class Towers:
        head = None

        def __call__(self, side, features):
            return (
                items[features["film"] - 1]
                if side == "item"
                else np.ones((len(features["user"]), 1), np.float32)
            )

    assert objectives.evaluate(log, Towers()) == {
        "recall@50": pytest.approx(2 / 3),
        "recall@50 of liked": 0.5,
    }


def test_every_weight_is_measured(monkeypatch):
    monkeypatch.setattr(objectives, "WEIGHTS", (0.0, 0.5))
    rng = np.random.default_rng(0)
    columns = {"user_id": rng.integers(0, 12, 600), "item_id": rng.integers(0, 70, 600)}
    log = objectives.log_of(pl.DataFrame({**columns, "rating": 1.0 + columns["item_id"] % 5}))
    rows = list(objectives.measure(log, seeds=1, epochs=1))
    assert [(row["contender"], row["metric"]) for row in rows] == [
        ("mean", "rmse"),
        *(("twinspire", name) for name in ("recall@50", "recall@50 of liked", "examples/s")),
        *(
            ("twinspire/auxiliary=0.5", name)
            for name in ("recall@50", "recall@50 of liked", "rmse", "examples/s")
        ),
    ]
    assert all(0 < row["low"] <= row["value"] <= row["high"] for row in rows)
