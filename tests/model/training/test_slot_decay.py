"""What `train.slot_decay` does to a training state, by hand."""

from datetime import date

import numpy as np
import pytest

from model.optimizers import START, AdamWeight
from model.towers.two_tower import TwoTower
from model.training import checkpoint
from model.training.warm_start import warm_start
from tests.model.training.test_checkpoint import _captured

DAYS = [date(2024, 5, n) for n in range(6, 16)]


@pytest.fixture
def parent(tiny):
    """A state of Monday with slots from START to a million times it."""
    model = TwoTower(tiny.architecture(), seed=1)
    rng = np.random.default_rng(1)
    for weight in [*model.tables.values(), *model.dense.values()]:
        shape = weight.slots.shape
        weight.slots.assign(np.float32(START) * 10 ** rng.uniform(0, 6, shape))
    return _captured(model, DAYS[0], {})


def _next(tiny, parent, day, slot_decay, **vocabularies):
    """The state of a day that goes on from a parent, before its first step."""
    model = TwoTower(tiny.architecture(None, parent.widths, **vocabularies), seed=2)
    archive = warm_start(model, parent, day=day, keep=100, slot_decay=slot_decay)
    return _captured(model, day, archive)


def _slots(state, table):
    """Slots of a table's rows by key, archived ones too."""
    rows = state.tables[table]
    return dict(zip(rows.keys.to_pylist(), rows.slots, strict=True))


@pytest.mark.parametrize("slot_decay", [0.25, 0.9])
def test_a_warm_start_multiplies_slots_of_tables_and_dense_weights(tiny, parent, slot_decay):
    child = _next(tiny, parent, DAYS[1], slot_decay)
    pairs = [(child.tables[name].slots, table.slots) for name, table in parent.tables.items()]
    pairs += [(child.dense[name][1], slots) for name, (_, slots) in parent.dense.items()]
    assert len(pairs) > 10
    for after, before in pairs:
        by_hand = np.maximum(before.astype(np.float64) * slot_decay, START)
        np.testing.assert_allclose(after, by_hand, rtol=1e-6)
        assert (after < before)[before > 1.01 * START].all()
    for name, (values, _) in parent.dense.items():
        np.testing.assert_array_equal(child.dense[name][0], values)
    for name, table in parent.tables.items():
        np.testing.assert_array_equal(child.tables[name].values, table.values)


def test_one_leaves_every_byte_as_it_was(tiny, parent):
    child = _next(tiny, parent, DAYS[1], 1.0)
    for name, table in parent.tables.items():
        assert child.tables[name].slots.tobytes() == table.slots.tobytes()
    for name, (_, slots) in parent.dense.items():
        assert child.dense[name][1].tobytes() == slots.tobytes()


def test_a_new_row_starts_at_start(tiny, parent):
    child = _next(tiny, parent, DAYS[1], 0.5, item=["i1", "new"])
    assert (_slots(child, "item")["=new"] == np.float32(START)).all()


def test_a_row_that_left_and_comes_back_is_as_ready_to_learn_as_one_that_stayed(tiny, parent):
    """Three trainings, in the archive or not; and it is written and read in between."""
    away = there = parent
    for day in DAYS[1:3]:
        away = _next(tiny, away, day, 0.5, item=["i1"])
        there = _next(tiny, there, day, 0.5)
    assert away.tables["item"].left[-1].as_py() == DAYS[1]
    actual, expected = (_slots(_next(tiny, state, DAYS[3], 0.5), "item") for state in (away, there))
    assert set(actual) == set(expected)
    before = _slots(parent, "item")["=i7"]
    np.testing.assert_allclose(actual["=i7"], np.maximum(before / 8, START), rtol=1e-6)
    for key, slots in expected.items():
        np.testing.assert_array_equal(actual[key], slots, err_msg=key)


def test_a_gap_of_days_counts_once(tiny, parent):
    """Days that nobody trained on have added nothing to the sums."""
    next_day = _next(tiny, parent, DAYS[1], 0.5)
    later = _next(tiny, parent, DAYS[9], 0.5)
    for name, table in next_day.tables.items():
        np.testing.assert_array_equal(later.tables[name].slots, table.slots)


def test_the_parent_is_not_changed_so_that_a_second_try_starts_alike(tiny, parent, tmp_path):
    checkpoint.save(parent, tmp_path / "state")
    states = [checkpoint.load(tmp_path / "state") for _ in range(2)]
    first, *others = (_next(tiny, state, DAYS[1], 0.5) for state in [*states, states[1]])
    for other in others:
        for name, (_, slots) in first.dense.items():
            np.testing.assert_array_equal(other.dense[name][1], slots)
        for name, table in first.tables.items():
            np.testing.assert_array_equal(other.tables[name].slots, table.slots)


def test_moments_of_adam_are_carried_on_as_they_are(tiny):
    """They forget within some fifty steps by themselves, and m is no square."""
    pipeline = tiny.pipeline(train={"history": {"pooling": "attention"}})
    model = TwoTower(tiny.architecture(pipeline), seed=1)
    for weight in model.dense.values():
        weight.slots.assign(np.full(weight.slots.shape, 0.5, np.float32))
    parent = _captured(model, DAYS[0], {})
    child = TwoTower(tiny.architecture(pipeline, parent.widths), seed=2)
    warm_start(child, parent, day=DAYS[1], keep=0, slot_decay=0.5)
    kinds = set()
    for name, weight in child.dense.items():
        is_adam = isinstance(weight, AdamWeight)
        kinds.add(is_adam)
        assert (weight.slots.numpy() == (0.5 if is_adam else 0.25)).all(), name
    assert kinds == {True, False}
