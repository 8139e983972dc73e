from unittest.mock import patch

import numpy as np
import pytest
import tensorflow as tf

from model.losses.corrected_softmax import Candidates, sampled_softmax_loss
from model.losses.sampling_probability import StreamingFrequency
from model.towers.list_encoders import bagged
from model.towers.two_tower import TwoTower
from model.training import step as training_step
from twinspire_core.config.tables.training import NegativesConfig

ROWS, DRAWN = 40, 12


def item_features(tiny, model, columns):
    return {column.name: columns[column.name] for column in model.architecture.columns["item"]}


def one_step(tiny, **train):
    """A model, its copy after one step, the batch, the items drawn, and the step's loss."""
    pipeline = tiny.pipeline(train={"batch_size": ROWS, **train})
    before, after = (TwoTower(tiny.architecture(pipeline), seed=1) for _ in range(2))
    features, other, rng = tiny.columns(ROWS), tiny.columns(DRAWN, seed=1), np.random.default_rng(2)
    # Some items are there several times, and half of all never
    features["item"] = features["item"] % 10 + 1
    features["recent"] %= 11
    batch = {
        "user": features["user"].astype(np.int64),
        "item": features["item"].astype(np.int64),
        "reward": rng.random(ROWS).astype(np.float32),
        "draw_probability": np.full(ROWS, 0.05, np.float32),
    }
    drawn = {
        "features": item_features(tiny, before, other),
        "item": other["item"].astype(np.int64),
        "draw_probability": np.full(DRAWN, 0.05, np.float32),
    }
    with patch.object(training_step, "_losses", wraps=training_step._losses) as traced:
        step = training_step.compile_step(
            after, StreamingFrequency(buckets=1 << 20), pipeline.train
        )
    traced.assert_called_once()  # each trace takes longer than the steps of a small day
    lists = after.architecture.lists
    given = {**drawn, "features": bagged(drawn["features"], lists)}
    given = given if pipeline.train.negatives.uniform else {}
    loss = step(bagged(features, lists), batch, given, np.int32(0)).numpy()[0]
    return before, after, features, batch, drawn, loss


SETTINGS = {
    "none": {"correction": "none"},
    "batch": {"correction": "batch", "temperature": 0.7},
    "expected_count": {"negatives": {"uniform": DRAWN, "mask_positives": True}},
    "hard": {"negatives": {"in_batch": "hard", "k": 3, "uniform": DRAWN}},
}


@pytest.mark.parametrize("case", SETTINGS)
def test_the_loss_is_that_of_the_settings(tiny, case):
    settings = SETTINGS[case]
    before, _, features, batch, drawn, found = one_step(tiny, id_dropout=0.0, **settings)
    # Of the first batch ever an item's share is its share of the rows; one that was never met is
    # taken for very rare.
    item, vectors = batch["item"], [before("item", item_features(tiny, before, features))]
    if "negatives" in settings:
        item = np.concatenate([item, drawn["item"]])
        vectors.append(before("item", drawn["features"]))
    share = np.array([np.mean(batch["item"] == i) or 1e-5 for i in item])
    added = np.full(len(item), 0.05 * (len(item) - ROWS))
    counts = (tf.constant(x, tf.float32) for x in ((ROWS - 1) * share, added))
    columns = Candidates(tf.concat(vectors, 0), tf.constant(item), *counts)
    train = tiny.pipeline(train=settings).train
    expected = sampled_softmax_loss(
        before("query", features),
        columns,
        tf.constant(batch["reward"]),
        temperature=train.temperature,
        correction=train.correction,
        negatives=NegativesConfig(**settings.get("negatives", {})),
        user=tf.constant(batch["user"]),
        seed=tf.constant([0, 0]),
    )
    np.testing.assert_allclose(found, expected.total, rtol=1e-4)


def test_ids_of_the_items_drawn_are_dropped_as_those_of_the_batch_are(tiny):
    before, after, *_ = one_step(tiny, id_dropout=0.999999, negatives={"uniform": DRAWN})
    moved = (after.tables["item"].values.numpy() != before.tables["item"].values.numpy()).any(1)
    assert moved[21:].sum() > 10  # of the shared rows
    assert not moved[11:21].any()  # of items that only the draws hold
