from datetime import date
from itertools import chain

import numpy as np
import pytest
import tensorflow as tf

from model.data.batching import Packing, training_batches
from model.data.training_rows import Rows
from model.towers.list_encoders import last_of
from model.towers.two_tower import TwoTower

MONDAY, MINUTE = date(2024, 5, 6), 60_000_000
LENGTH = 5


def _rows(histories, users):
    """Rows in order of time, with histories as given."""
    n = len(histories)
    recent = np.zeros((n, LENGTH), np.int32)
    for row, history in zip(recent, histories, strict=True):
        row[: len(history)] = history
    ids = np.arange(n, dtype=np.int64)
    features = {"recent": recent, "item": np.ones(n, np.int32)}
    users, reward = np.array(users, np.int64), np.ones(n, np.float32)
    return Rows(features=features, user=users, item=ids, reward=reward, time=ids * MINUTE)


def _clicks(n=400, users=25, seed=0):
    """Users who click on, with views in between; old clicks drop out, histories break."""
    rng = np.random.default_rng(seed)
    seen = {user: [] for user in range(users)}
    histories, of = [], []
    for _ in range(n):
        user = int(rng.integers(users))
        past = seen[user]
        if rng.random() < 0.1:
            del past[: int(rng.integers(4))]
        histories.append(past[-LENGTH:] if rng.random() > 0.05 else rng.integers(1, 21, 3).tolist())
        of.append(user)
        if rng.random() > 0.2:
            past.extend(rng.integers(1, 21, int(rng.integers(1, 3))).tolist())
    return _rows(histories, of)


def _seen(rows, packing, batch, run):
    """What the encoder may look at for each row of a batch."""
    ids, last = packing.take(batch, run)["recent"]
    flat, width = ids.reshape(-1), ids.shape[1]
    return [flat[at - at % width : at + 1].tolist() if at >= 0 else [] for at in last]


def _history(rows, row):
    return [int(x) for x in rows.features["recent"][row] if x]


def test_a_users_rows_share_the_last_ones_history():
    rows = _rows([[], [3], [3, 4], [3, 4], [3, 4, 9]], [7] * 5)
    packing = Packing(rows, ["recent"])
    run = packing.runs(np.zeros(5, np.int64), 100, np.random.default_rng(0))
    ids, last = packing.take(np.arange(5), run)["recent"]
    assert ids.tolist() == [[3, 4, 9]]
    assert last.tolist() == [-1, 0, 1, 1, 2]


def test_a_row_sees_the_end_of_its_history_and_a_short_history_whole():
    rows = _clicks()
    packing, block = Packing(rows, ["recent"]), np.arange(len(rows)) // 100
    for seed in range(5):
        run = packing.runs(block, 8, np.random.default_rng(seed))
        order = np.argsort(run, kind="stable")
        for row, seen in zip(order, _seen(rows, packing, order, run[order]), strict=True):
            history = _history(rows, row)
            assert len(seen) >= min(len(history), 3) and seen == history[len(history) - len(seen) :]


def test_runs_keep_to_their_user_their_block_and_their_size():
    rows, block = _clicks(), np.arange(400) // 100
    run = Packing(rows, ["recent"]).runs(block, 4, np.random.default_rng(0))
    assert sorted(set(run)) == list(range(run.max() + 1))
    for number in range(run.max() + 1):
        inside = np.flatnonzero(run == number)
        assert len(inside) <= 4 and len(set(rows.user[inside])) == len(set(block[inside])) == 1


def test_far_fewer_sequences_than_rows():
    """And cut elsewhere in each pass: otherwise the same rows would share a sequence in all."""
    rows = _rows([list(range(max(1, n - LENGTH), n)) for n in range(1, 41)], [7] * 40)
    packing, block = Packing(rows, ["recent"]), np.zeros(40, np.int64)
    runs = [packing.runs(block, 100, np.random.default_rng(seed)) for seed in range(20)]
    assert runs[0].max() + 1 <= 15  # the first 6 rows in up to 2, then 3 rows each
    assert len({int((run == 0).sum()) for run in runs}) > 2


def test_histories_that_do_not_go_on_have_sequences_of_their_own():
    rows = _rows([[1, 2], [8, 9], [1, 2, 3], [2, 3, 4]], [7] * 4)
    packing = Packing(rows, ["recent"])
    run = packing.runs(np.zeros(4, np.int64), 100, np.random.default_rng(0))
    assert len(set(run)) >= 3 and run[2] != run[1] != run[0]
    assert _seen(rows, packing, np.arange(4), run)[:2] == [[1, 2], [8, 9]]


def test_two_histories_are_cut_at_the_same_rows():
    rows = _clicks()
    rows.features["viewed"] = _clicks(seed=1).features["recent"]
    packing = Packing(rows, ["recent", "viewed"])
    run = packing.runs(np.zeros(len(rows), np.int64), 100, np.random.default_rng(0))
    order = np.argsort(run, kind="stable")
    for name, (ids, last) in packing.take(order, run[order]).items():
        assert len(ids) == run.max() + 1
        for row, at in zip(order, last, strict=True):
            history = [x for x in rows.features[name][row] if x]
            assert (at >= 0) == bool(history) and (at < 0 or ids.reshape(-1)[at] == history[-1])


def _pipeline(tiny, **train):
    features = {name: tiny.features[name] for name in ("recent", "item")}
    history = {"pooling": "attention"}
    return tiny.pipeline(features, train={"history": history, "batch_size": 64, **train})


@pytest.mark.parametrize("order", ["time", "shuffled"])
def test_packed_rows_are_encoded_as_each_is_alone(tiny, order):
    """Over two passes; where the oldest items are missing, as that shorter history is."""
    pipeline, rows = _pipeline(tiny, order=order, epochs=2), _clicks()
    model = TwoTower(tiny.architecture(pipeline), seed=1)
    rng = np.random.default_rng(0)
    for weight in model.dense.values():  # as trained: none at its start, and `empty` not zero
        weight.values.assign_add(rng.normal(size=weight.values.shape) * 0.3)
    done, whole = 0, 0
    given = rows, model.architecture, pipeline.train, MONDAY
    for batch, features in chain(training_batches(*given, 0), training_batches(*given, 1)):
        packed = model("query", features).numpy()
        width = features["recent"].shape[1]
        kept = np.where(features[last_of("recent")] < 0, 0, features[last_of("recent")] % width + 1)
        alone = np.zeros((len(batch), LENGTH), np.int32)
        for line, row, n in zip(alone, batch, kept, strict=True):
            history = _history(rows, row)
            line[:n] = history[len(history) - n :]
            whole += n == len(history)
        np.testing.assert_allclose(packed, model("query", {"recent": alone}), atol=1e-5)
        done += len(batch)
    assert done == 2 * len(rows) and whole > 0.7 * done


def test_dropout_in_training_only_and_a_function_of_its_seed(tiny):
    pipeline = _pipeline(tiny)
    model = TwoTower(tiny.architecture(pipeline), seed=1)
    columns = {"recent": tiny.columns(20)["recent"]}
    seeds = (None, *map(tf.constant, ([1, 2], [1, 2], [1, 3])))
    plain, one, again, other = (model("query", columns, seed) for seed in seeds)
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(plain, one, atol=1e-3) and not np.allclose(one, other, atol=1e-3)
