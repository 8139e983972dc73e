import math

import numpy as np
import pyarrow.parquet as pq
import pytest

from model.train_stage import load
from tests.model.train_stage.two_days import (
    day_queries,
    examples,
    metrics_of,
)

pytestmark = pytest.mark.slow


def test_training_beats_what_needs_no_model(shop):
    metrics = metrics_of(shop.train2)
    popular = metrics["baselines"]["most_popular"]["recall@10"]
    assert metrics["progressive"]["recall@10"] > 1.5 * popular
    held = metrics["holdout"]
    assert held["users"] > 10
    assert held["candidate"]["recall@10"] > 1.5 * held["baselines"]["most_popular"]["recall@10"]


def test_items_taken_together_are_those_of_the_days_before(shop):
    """By hand: similarities to what a user took, added up; older items count less."""
    table = pq.read_table(shop.features2 / "co_occurrence/start").to_pylist()
    near = {row["_item"]: row for row in table}
    queries, corpus = day_queries(shop)
    names, recalls = sorted(corpus["_item"].to_pylist()), []
    for row in queries.to_pylist():
        ages = zip(row["_personal_age"], row["_personal"], strict=True)
        newest = [item for _, item in sorted(ages, key=lambda one: one[0]) if item in names]
        sums = {}
        for back, item in enumerate(newest[:50]):
            # Seen, and never bought with another one
            found = near.get(item, {"_rows": [], "_similarities": []})
            for place, similarity in zip(found["_rows"], found["_similarities"], strict=True):
                gain = similarity * math.exp(-back / 3)
                sums[names[place]] = sums.get(names[place], 0.0) + gain
        first = sorted(sums, key=lambda item: (-sums[item], item))[:10]
        if newest:
            recalls.append(len(set(first) & set(row["_truth"])) / len(row["_truth"]))
    found = metrics_of(shop.train2)["baselines"]["co_occurrence"]["recall@10"]
    assert found == pytest.approx(np.mean(recalls))


def test_each_event_is_also_a_separate_query(shop):
    """Next-click by hand: the clicks, one row at a time, through the tower that never saw the day."""
    metrics, every = metrics_of(shop.train2)["next_click"], examples(shop)
    holdout, held = metrics["holdout"], every.filter(every["_holdout"])
    day, past = metrics["progressive"], metrics["baselines"]["purchase_history"]
    assert day["queries"] == past["queries"] == every.num_rows > 100
    measured = holdout["candidate"]["queries"], holdout["baseline"]["queries"]
    assert measured == (held.num_rows, held.num_rows)
    assert holdout["users"] == len(held["_user"].unique())
    _, corpus = day_queries(shop)
    of_version = (day, shop.train1, every), (holdout["candidate"], shop.train2, held)
    for which, attempt, rows in of_version:
        scores = load(attempt / "query_tower")(rows) @ load(attempt / "item_tower")(corpus).T
        listed = np.argsort(-scores, axis=1, kind="stable")[:, :5]
        names = corpus["_item"].to_numpy(False)
        asked = zip(rows["_item"].to_pylist(), listed, strict=True)
        actual = [item in names[top] for item, top in asked]
        assert which["recall@5"] == which["hit_rate@5"] == pytest.approx(np.mean(actual))
