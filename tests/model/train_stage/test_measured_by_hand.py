import math

import numpy as np
import pyarrow.parquet as pq
import pytest

from model.evaluation.day_queries import progressive_rows
from model.evaluation.tower_vectors import load
from tests.model.train_stage.two_days import FIRST, SECOND, metrics_of, rows_trained_on

pytestmark = pytest.mark.slow


def test_training_beats_what_needs_no_model(shop):
    metrics = metrics_of(shop.train2)
    popular = metrics["baselines"]["most_popular"]["recall@10"]
    assert metrics["progressive"]["recall@10"] > 1.5 * popular
    held = metrics["holdout"]
    assert held["users"] > 10
    assert held["candidate"]["recall@10"] > 1.5 * held["baselines"]["most_popular"]["recall@10"]


def test_items_taken_together_are_those_of_the_days_before(shop):
    """By hand: similarities to what a user took, added up, of the table that ends before the day; the
    further back an item was taken, the less it counts.
    """
    near = {
        row["_item"]: row
        for row in pq.read_table(shop.features2 / "co_occurrence/start").to_pylist()
    }
    names = sorted(pq.read_table(shop.features2 / "corpus/start")["_item"].to_pylist())
    recalls = []
    for row in progressive_rows(
        pq.read_table(shop.features2 / "evaluation"), SECOND, 10_000
    ).to_pylist():
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
    assert metrics_of(shop.train2)["baselines"]["co_occurrence"]["recall@10"] == pytest.approx(
        np.mean(recalls)
    )


def test_each_event_is_a_query_of_its_own_too(shop):
    """Next-click by hand: the clicks of one user, one row at a time, through the tower that never
    saw the day.
    """
    metrics = metrics_of(shop.train2)["next_click"]
    examples = pq.read_table(shop.features2 / "examples" / f"dt={SECOND}")
    held = examples.filter(examples["_holdout"])
    assert (
        metrics["progressive"]["queries"]
        == metrics["baselines"]["purchase_history"]["queries"]
        == examples.num_rows
        > 100
    )
    assert (
        metrics["holdout"]["candidate"]["queries"]
        == metrics["holdout"]["baseline"]["queries"]
        == held.num_rows
    )
    assert metrics["holdout"]["users"] == len(held["_user"].unique())
    corpus = pq.read_table(shop.features2 / "corpus/start")
    for which, attempt, rows in (
        (metrics["progressive"], shop.train1, examples),
        (metrics["holdout"]["candidate"], shop.train2, held),
    ):
        scores = load(attempt / "query_tower")(rows) @ load(attempt / "item_tower")(corpus).T
        listed = np.argsort(-scores, axis=1, kind="stable")[:, :5]
        names = corpus["_item"].to_numpy(False)
        found = [
            item in names[top] for item, top in zip(rows["_item"].to_pylist(), listed, strict=True)
        ]
        assert which["recall@5"] == which["hit_rate@5"] == pytest.approx(np.mean(found))


def test_the_lead_is_over_what_the_users_trained_on_took_that_day(shop):
    """By hand: the ten items that they took most, beside what each held-out user took."""
    taken = [row["_item"] for row in rows_trained_on(shop)]
    corpus = pq.read_table(
        shop.features2 / "corpus/start", columns=["_item", "_lately", "_popular"]
    ).to_pylist()
    ranked = sorted(
        corpus,
        key=lambda x: (-taken.count(x["_item"]), -(x["_lately"] or 0), -(x["_popular"] or 0)),
    )
    first = {x["_item"] for x in ranked[:10]}
    held = progressive_rows(pq.read_table(shop.features2 / "evaluation"), SECOND, 10_000)
    truths = [x["_truth"] for x in held.to_pylist() if x["_holdout"] and x["_past_events"]]
    metrics, parent = metrics_of(shop.train2), metrics_of(shop.train1)
    found = metrics["holdout"]["lead"]["recall@10"]
    assert found["popular_today"] == pytest.approx(
        np.mean([len(first & set(x)) / len(set(x)) for x in truths])
    )
    assert found["lead"] == pytest.approx(
        metrics["holdout"]["candidate"]["recall@10"] / found["popular_today"]
    )
    own = {name: x["lead"] for name, x in metrics["holdout"]["lead"].items()}
    assert metrics["leads"] == parent["leads"] | {str(SECOND): own} and list(parent["leads"]) == [
        str(FIRST)
    ]
