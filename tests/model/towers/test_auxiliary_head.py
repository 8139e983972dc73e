"""The head that learns labels: by hand, against a slow joint loss, and in a made-up world."""

from datetime import date
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from model.data.training_rows import Rows
from model.evaluation.day_queries import DayQueries
from model.losses.sampling_probability import StreamingFrequency
from model.optimizers import START
from model.towers.architecture import design
from model.towers.auxiliary_head import PREFIX, Head, LabelledClicks, label_moments, measure_head
from model.towers.two_tower import TwoTower
from model.train_stage import labelled_clicks
from model.training import checkpoint
from model.training.loop import run_training
from model.training.warm_start import warm_start
from twinspire_core.contracts.trained_day import Encoded
from twinspire_core.metrics.intervals import Moments

DAY = date(2024, 5, 6)
NAN = np.nan
IDS = {"user": {"kind": "id", "tower": "query"}, "item": {"kind": "id", "tower": "item"}}


def _model(tiny, users, items, seed=0, auxiliary=None, **train):
    """Towers of two ids without layers, and their settings."""
    plain = {"layers": [], "skip": False, "id_dropout": 0.0, "order": "shuffled"}
    train = {**plain, "auxiliary": auxiliary or {}, **train}
    pipeline = tiny.pipeline(IDS, train=train, columns={"label": "stars"})
    sizes = {"user": users, "item": items}
    tokens = {name: pa.array([f"{name}{n}" for n in range(size)]) for name, size in sizes.items()}
    return TwoTower(design(pipeline, tokens), seed), pipeline.train


def _rows(user, item, label=None, reward=None):
    n = len(user)
    return Rows(
        features={"user": np.asarray(user, np.int32) + 1, "item": np.asarray(item, np.int32) + 1},
        user=np.asarray(user, np.int64),
        item=np.asarray(item, np.int64),
        reward=np.ones(n, np.float32) if reward is None else np.asarray(reward, np.float32),
        time=np.arange(n),
        label=None if label is None else np.asarray(label, np.float32),
    )


def _fit(model, settings, rows):
    return run_training(model, StreamingFrequency(buckets=100), [(DAY, rows)], settings)


def _all(model):
    return {**{f"table {name}": w for name, w in model.tables.items()}, **model.dense}


# The joint loss, slowly: everything in float64, one row at a time.


def _slow_loss(weights, user, item, reward, label, weight, temperature):
    def unit(table, side, row):
        hidden = weights[f"table {table}"][row + 1] @ weights[f"{side}/first/{table}"]
        hidden = hidden + weights[f"{side}/bias/0"]
        return hidden / np.sqrt(hidden @ hidden)

    q, c = [unit("user", "query", n) for n in user], [unit("item", "item", n) for n in item]
    softmax = 0.0
    for i in range(len(user)):
        scores = [q[i] @ c[j] / temperature for j in range(len(user))]
        softmax += reward[i] / sum(reward) * (np.log(np.sum(np.exp(scores))) - scores[i])
    there = [n for n in range(len(user)) if not np.isnan(label[n])]
    mean = sum(label[n] for n in there) / len(there)
    spread = (sum((label[n] - mean) ** 2 for n in there) / len(there)) ** 0.5
    a, b, w, bias = (weights[f"{PREFIX}{name}"] for name in ("query", "item", "product", "bias"))
    auxiliary = 0.0
    for n in there:
        product = sum(w[d] * q[n][d] * c[n][d] for d in range(len(a)))
        x = bias + a @ q[n] + b @ c[n] + len(a) ** 0.5 * product
        auxiliary += ((label[n] - (mean + spread * x)) / spread) ** 2 / len(there)
    return softmax + weight * auxiliary, softmax, auxiliary


LABELS = [40.0, NAN, 10.0, 25.0, NAN, 5.0]


def test_a_step_follows_the_gradient_of_both_losses(tiny):
    """Adagrad's slots tell the square of each gradient, the move its sign; differences tell both."""
    train = {"dimension": 4, "batch_size": 6, "epochs": 1, "correction": "none", "temperature": 0.5}
    model, settings = _model(tiny, 6, 6, auxiliary={"weight": 0.7}, **train)
    rng = np.random.default_rng(1)
    for weight in model.head.weights.values():
        weight.values.assign(rng.normal(size=weight.values.shape))
    before = {name: np.array(w.values, np.float64) for name, w in _all(model).items()}
    user, item, reward = [0, 1, 2, 3, 3, 5], [5, 4, 3, 2, 1, 0], [1.0, 2.0, 0.5, 1.0, 0.0, 3.0]
    learned = _fit(model, settings, _rows(user, item, LABELS, reward))

    def slow(weights):
        return _slow_loss(weights, user, item, reward, LABELS, 0.7, 0.5)

    _, softmax, auxiliary = slow(before)
    assert learned.curve == [(1, pytest.approx(softmax, abs=2e-5))]
    assert learned.auxiliary == [(1, pytest.approx(auxiliary, abs=2e-5))] and learned.labels == 4
    for name, weight in _all(model).items():
        gradient = np.zeros(before[name].shape)
        for place in np.ndindex(gradient.shape):
            moved = [{**before, name: before[name].copy()} for _ in range(2)]
            moved[0][name][place] += 1e-5
            moved[1][name][place] -= 1e-5
            gradient[place] = (slow(moved[0])[0] - slow(moved[1])[0]) / 2e-5
        size = np.sqrt(np.maximum(weight.slots.numpy().astype(np.float64) - START, 0))
        np.testing.assert_allclose(size, np.abs(gradient), rtol=1e-3, atol=2e-5, err_msg=name)
        felt = np.abs(gradient) > 1e-4
        moved = np.sign(before[name] - weight.values.numpy())
        assert felt.any() and (moved[felt] == np.sign(gradient)[felt]).all(), name


def test_rows_without_a_label_give_no_gradient_and_none_is_lost_to_nan():
    head, rng = Head(3), np.random.default_rng(0)
    for weight in head.weights.values():
        weight.values.assign(rng.normal(size=weight.values.shape))
    q, c = (tf.constant(rng.normal(size=(4, 3)), tf.float32) for _ in range(2))
    gradients = []
    for label in ([2.0, NAN, 4.0, np.inf], [2.0, 9.0, 4.0, 9.0], [NAN] * 4):
        with tf.GradientTape() as tape:
            tape.watch([q, c])
            loss, labels = head.loss(q, c, tf.constant(label, tf.float32))
        gradients.append(np.stack(tape.gradient(loss, [q, c])))
        assert labels == np.isfinite(label).sum() and np.isfinite(loss)
    assert (gradients[0][:, [1, 3]] == 0).all() and (gradients[0][:, [0, 2]] != 0).all()
    # A mean over 2 of 4
    np.testing.assert_allclose(gradients[0][:, [0, 2]], 2 * gradients[1][:, [0, 2]], rtol=1e-5)
    assert (gradients[2] == 0).all() and loss == 0


def test_it_starts_from_the_mean_and_does_not_know_the_labels_unit():
    labels, unit = np.array([0.9, 0.1, NAN, 0.5, 0.9], np.float32), np.eye(4, dtype=np.float32)
    head = Head(4)
    head.see(label_moments(labels))
    np.testing.assert_allclose(head.predict(unit, unit), 0.6, rtol=1e-6)
    for scale, shift in ((1, 0), (1000, 7)):
        told = scale * labels + shift
        head.see(label_moments(told))
        loss, _ = head.loss(unit, unit, tf.constant(told[[0, 1, 3, 4]]))
        np.testing.assert_allclose(loss, 1.0, rtol=1e-5)


def test_moments_add_up_whatever_the_parts():
    x = np.random.default_rng(0).normal(5, 2, 1000).astype(np.float32)
    x[::7] = NAN
    whole, parts = label_moments(x), Moments()
    for part in (x[:1], x[1:400], x[:0], x[400:]):
        parts = parts.merged(label_moments(part))
    there = x[np.isfinite(x)].astype(np.float64)
    for found in (whole, parts):
        assert found.n == len(there)
        known = [there.mean(), there.std()]
        np.testing.assert_allclose([found.mean, found.spread], known, rtol=1e-9)
    assert label_moments(np.array([3.0, 3.0])).spread == 0 and Moments().spread == 0


def test_labels_that_are_all_alike_break_nothing(tiny):
    model, settings = _model(tiny, 9, 9, auxiliary={"weight": 1.0}, dimension=4, batch_size=9)
    learned = _fit(model, settings, _rows(range(9), range(9), [3.0] * 9))
    assert learned.auxiliary[-1][1] < 0.01
    assert all(np.isfinite(w.values).all() for w in _all(model).values())


def test_towers_without_the_head_are_what_they_were(tiny):
    rng, trained = np.random.default_rng(0), {}
    user, item = rng.integers(0, 20, 400), rng.integers(0, 30, 400)
    for name, auxiliary, label in (
        ("none", None, None),
        ("off", {"weight": 0.0}, None),
        ("no labels", {"weight": 1.0}, [NAN] * 400),
        ("labels", {"weight": 1.0}, rng.random(400)),
    ):
        model, settings = _model(tiny, 20, 30, auxiliary=auxiliary, batch_size=50, dimension=8)
        learned = _fit(model, settings, _rows(user, item, label))
        assert (PREFIX in "".join(model.dense)) == (label is not None)
        assert bool(learned.auxiliary) == (name == "labels")
        towers = {key: w for key, w in _all(model).items() if not key.startswith(PREFIX)}
        trained[name] = {key: w.values.numpy() for key, w in towers.items()}
    for name in trained["none"]:
        np.testing.assert_array_equal(trained["off"][name], trained["none"][name])
        np.testing.assert_array_equal(trained["no labels"][name], trained["none"][name])
        assert np.abs(trained["labels"][name] - trained["none"][name]).max() > 1e-3


# A world in which clicks do not tell what is liked: everybody clicks everything, but of two kinds
# of items one half of the users likes one, the other half the other, and some items are liked more
# than others.

USERS, ITEMS = 80, 60


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    pairs = rng.permutation(USERS * ITEMS)
    user, item = np.divmod(pairs, ITEMS)
    liked = 3.0 + 1.5 * np.where(user % 2 == item % 2, 1, -1) + 0.5 * (item % 3 - 1)
    liked += rng.normal(0, 0.2, len(pairs))
    label = np.where(rng.random(len(pairs)) < 0.3, NAN, liked)
    return SimpleNamespace(user=user, item=item, label=label, known=slice(0, 3600))


def _told(world, model, label):
    """How well labels of pairs that were never trained on are predicted."""
    new = np.arange(world.known.stop, len(world.user))
    new = new[np.isfinite(label[new])]
    features = _rows(world.user[new], world.item[new]).features
    vectors = (model(side, features).numpy() for side in ("query", "item"))
    return measure_head(model.head, LabelledClicks(*vectors, label[new].astype(np.float32)))


def _learn_world(tiny, world, weight):
    train = {"dimension": 8, "batch_size": 120, "epochs": 12}
    model, settings = _model(tiny, USERS, ITEMS, auxiliary={"weight": weight}, **train)
    _fit(model, settings, _rows(*(x[world.known] for x in (world.user, world.item, world.label))))
    return _told(world, model, world.label)


def test_labels_that_clicks_do_not_tell_are_predicted(tiny, world):
    found = _learn_world(tiny, world, 1.0)
    assert found["labels"] > 700
    assert found["rmse_of_mean"] == pytest.approx(np.nanstd(world.label), rel=0.05)
    assert found["rmse"] < 0.35 * found["rmse_of_mean"]
    # The towers must take part: with a softmax alone, the head finds the items' own share at best.
    assert _learn_world(tiny, world, 1e-6)["rmse"] > 0.8 * found["rmse_of_mean"]


# From day to day.


def _marked(tiny, **auxiliary):
    model, _ = _model(tiny, 5, 5, seed=1, auxiliary={"weight": 1.0, **auxiliary}, dimension=4)
    rng = np.random.default_rng(1)
    for weight in _all(model).values():
        weight.values.assign(rng.normal(size=weight.values.shape))
        weight.slots.assign(rng.random(weight.slots.shape))
    model.head.see(Moments(100, 3.25, 37.5))
    return model


def _next_day(tiny, parent, folder, **auxiliary):
    frequency = StreamingFrequency(buckets=8).state()
    checkpoint.save(checkpoint.capture(parent, frequency, day=DAY, step=7), folder / "state")
    child, _ = _model(tiny, 5, 5, seed=2, auxiliary=auxiliary, dimension=4)
    warm_start(child, checkpoint.load(folder / "state"), day=DAY, keep=0, slot_decay=1.0)
    return child


def test_a_warm_start_carries_the_head(tiny, tmp_path):
    parent = _marked(tiny)
    child = _next_day(tiny, parent, tmp_path, weight=0.5)
    assert child.head.seen == parent.head.seen == Moments(100, 3.25, 37.5)
    for name, weight in parent.head.weights.items():
        np.testing.assert_array_equal(child.head.weights[name].values, weight.values)
        np.testing.assert_array_equal(child.head.weights[name].slots, weight.slots)
    unit = np.eye(4, dtype=np.float32)
    np.testing.assert_array_equal(child.head.predict(unit, unit), parent.head.predict(unit, unit))
    settings = _model(tiny, 5, 5, auxiliary={"weight": 1.0}, batch_size=5)[1]
    _fit(child, settings, _rows(range(5), range(5), [0.5] * 5))
    both = parent.head.seen.merged(label_moments(np.full(5, 0.5)))
    assert child.head.seen == both, "labels of earlier days count on"


def test_a_parent_without_a_head_lets_it_start_afresh(tiny, tmp_path):
    without, _ = _model(tiny, 5, 5, seed=1, dimension=4)
    fresh = _next_day(tiny, without, tmp_path / "without", weight=1.0)
    assert not any(w.values.numpy().any() for w in fresh.head.weights.values())
    assert all((w.slots.numpy() == np.float32(START)).all() for w in fresh.head.weights.values())
    assert fresh.head.seen == Moments()


def test_a_head_that_is_switched_off_is_dropped(tiny, tmp_path):
    parent = _marked(tiny)
    child = _next_day(tiny, parent, tmp_path)
    kept = checkpoint.capture(child, {}, day=DAY, step=8)
    assert child.head is None and kept.labels is None
    assert not any(name.startswith(PREFIX) for name in kept.dense)
    features = {"user": np.arange(6, dtype=np.int32), "item": np.arange(6, dtype=np.int32)}
    for side in ("query", "item"):
        np.testing.assert_array_equal(child(side, features), parent(side, features))


def test_a_copy_stays_what_it_was(tiny):
    model = _marked(tiny)
    unit, copy = np.eye(4, dtype=np.float32), model.head.copy()
    before = model.head.predict(unit, unit).numpy()
    model.head.weights[f"{PREFIX}bias"].values.assign(9.0)
    model.head.see(Moments(1, 77.0, 0.0))
    np.testing.assert_array_equal(copy.predict(unit, unit), before)


# What is measured, and what is refused.


def test_measures_by_hand():
    head, none = Head(2), np.zeros((3, 2), np.float32)
    clicks = LabelledClicks(none, none, np.array([1.0, 2.0, 6.0], np.float32))
    assert measure_head(head, clicks) is None, "it was never trained on a label"
    head.see(Moments(10, 3.0, 40.0))
    head.weights[f"{PREFIX}bias"].values.assign(0.5)  # 3 + 2 * .5 = 4
    measured = measure_head(head, clicks)
    roots = {"rmse": (17 / 3) ** 0.5, "rmse_of_mean": (14 / 3) ** 0.5}
    assert measured == pytest.approx({"labels": 3} | roots)
    assert measure_head(head, LabelledClicks(none[:0], none[:0], clicks.label[:0])) is None


def test_clicks_with_a_label_and_an_item_of_the_corpus_are_measured():
    labels = pa.array([2.0, 3.0, None, 5.0], pa.float32())
    table = pa.table({"_item": ["b", "z", "a", "b"], "_label": labels})
    queries, items = np.arange(8).reshape(4, 2), np.array([[10, 11], [20, 21]])
    encoded = Encoded(distinct=queries, place={"clicks": np.arange(4)}, items=items)
    corpus = pa.table({"_item": ["a", "b"]})
    day = DayQueries(corpus=corpus, queries={"clicks": table}, by_history=None, events=table)
    clicks = labelled_clicks(day, "clicks", encoded)
    assert clicks.label.tolist() == [2, 5] and clicks.query.tolist() == [[0, 1], [6, 7]]
    assert clicks.item.tolist() == [[20, 21], [20, 21]]
