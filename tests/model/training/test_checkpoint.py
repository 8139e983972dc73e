from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from model.losses.sampling_probability import StreamingFrequency
from model.towers.architecture import design
from model.towers.two_tower import TwoTower
from model.training import checkpoint
from model.training.warm_start import warm_start
from twinspire_core.config.feature_kinds import OOV_BUCKETS
from twinspire_core.errors import BadData, UsageError

MONDAY, TUESDAY, WEDNESDAY = date(2024, 5, 6), date(2024, 5, 7), date(2024, 5, 8)


def _marked(architecture, seed=1):
    """A model whose rows and slots tell keys apart: numbers as training would have left them."""
    model = TwoTower(architecture, seed)
    rng = np.random.default_rng(seed)
    for weight in [*model.tables.values(), *model.dense.values()]:
        weight.values.assign(rng.normal(size=weight.values.shape))
        weight.slots.assign(rng.random(weight.slots.shape))
    return model


def _captured(model, day=MONDAY, archive=None):
    frequency = StreamingFrequency(buckets=64).state()
    return checkpoint.capture(model, frequency, day=day, step=7, archive=archive)


def _alike(tiny, child, parent, sides=("query", "item"), atol=1e-6):
    """Whether two models give the same vectors."""
    for side in sides:
        vectors = (model(side, tiny.columns(9)) for model in (child, parent))
        np.testing.assert_allclose(*vectors, rtol=0, atol=atol)


def _row(model, table, key):
    number = model.architecture.tables[table].keys.index(key).as_py()
    assert number >= 0
    return model.tables[table].values.numpy()[number], model.tables[table].slots.numpy()[number]


def _next(tiny, parent, day=TUESDAY, pipeline=None, keep=100, slot_decay=1.0, **vocabularies):
    model = TwoTower(tiny.architecture(pipeline, parent.widths, **vocabularies), seed=2)
    return model, warm_start(model, parent, day=day, keep=keep, slot_decay=slot_decay)


def test_a_state_is_read_back_as_it_was_written(tiny, tmp_path):
    before = _captured(_marked(tiny.architecture()))
    checkpoint.save(before, tmp_path / "state")
    after = checkpoint.load(tmp_path / "state")
    assert (after.day, after.step) == (MONDAY, 7)
    assert list(after.tables) == list(before.tables)
    for name, table in before.tables.items():
        assert after.tables[name].keys.equals(table.keys)
        assert after.tables[name].left.equals(table.left)
        np.testing.assert_array_equal(after.tables[name].values, table.values)
        np.testing.assert_array_equal(after.tables[name].slots, table.slots)
    for name, pair in before.dense.items():
        np.testing.assert_array_equal(after.dense[name], pair)
    assert set(after.frequency) == set(before.frequency)


def test_no_file_of_a_state_needs_pickle(tiny, tmp_path):
    checkpoint.save(_captured(_marked(tiny.architecture())), tmp_path / "state")
    assert {p.suffix for p in tmp_path.rglob("*") if p.is_file()} == {".npz", ".json", ".arrow"}
    for file in tmp_path.rglob("*.npz"):
        assert all(array.dtype != object for array in np.load(file, allow_pickle=False).values())


def test_a_later_format_is_refused(tiny, tmp_path):
    checkpoint.save(_captured(_marked(tiny.architecture())), tmp_path / "state")
    head = tmp_path / "state" / "state.json"
    head.write_text(head.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(BadData, match="format 2"):
        checkpoint.load(tmp_path / "state")


def test_an_unchanged_layout_gives_the_same_vectors(tiny):
    parent = _marked(tiny.architecture())
    child, archive = _next(tiny, _captured(parent))
    _alike(tiny, child, parent, atol=0)
    assert all(len(rows.keys) == 0 for rows in archive.values())


def test_rows_and_slots_follow_keys_when_the_order_changes(tiny):
    parent = _marked(tiny.architecture())
    child, _ = _next(tiny, _captured(parent), item=[f"i{i}" for i in reversed(range(20))])
    for key in ("=i0", "=i13", "missing", "oov:3"):
        np.testing.assert_array_equal(_row(child, "item", key), _row(parent, "item", key))


def test_a_new_key_starts_from_the_shared_row_it_was_hashed_to(tiny):
    """Until yesterday, the transform graph looked the token up in a vocabulary without it."""
    import tensorflow as tf

    parent = _marked(tiny.architecture())
    init = tf.lookup.KeyValueTensorInitializer(tf.constant(["i0"]), tf.constant([0], tf.int64))
    looked_up = tf.lookup.StaticVocabularyTable(init, num_oov_buckets=OOV_BUCKETS)
    tokens = [f"new{i}" for i in range(12)]
    bucket = looked_up.lookup(tf.constant(tokens)).numpy() - 1
    assert len(set(bucket)) > 4
    child, _ = _next(tiny, _captured(parent), item=["i3", *tokens])
    for token, b in zip(tokens, bucket, strict=True):
        values, slots = _row(child, "item", f"={token}")
        np.testing.assert_array_equal(values, _row(parent, "item", f"oov:{b}")[0])
        assert (slots < _row(parent, "item", f"oov:{b}")[1]).all()  # free to move on


def test_a_key_that_left_comes_back_as_it_was(tiny, tmp_path):
    parent = _marked(tiny.architecture())
    tuesday, archive = _next(tiny, _captured(parent), item=["i1", "i2"])
    assert len(archive["item"].keys) == 18
    checkpoint.save(_captured(tuesday, TUESDAY, archive), tmp_path / "tuesday")
    saved = checkpoint.load(tmp_path / "tuesday")
    wednesday, archive = _next(tiny, saved, WEDNESDAY, item=["i2", "i7"])
    np.testing.assert_array_equal(_row(wednesday, "item", "=i7"), _row(parent, "item", "=i7"))
    rows = archive["item"]
    left = dict(zip(rows.keys.to_pylist(), rows.left.to_pylist(), strict=True))
    assert "=i7" not in left and len(left) == 18
    assert (left["=i1"], left["=i5"]) == (WEDNESDAY, TUESDAY)


def test_the_archive_keeps_those_that_left_last(tiny):
    parent = _captured(_marked(tiny.architecture()))
    tuesday, archive = _next(tiny, parent, item=[f"i{i}" for i in range(10)])
    saved = _captured(tuesday, TUESDAY, archive)
    _, archive = _next(tiny, saved, WEDNESDAY, keep=3, item=[f"i{i}" for i in range(8)])
    kept = archive["item"].keys.to_pylist()
    assert len(kept) == 3 and set(kept) > {"=i8", "=i9"}


def _without(tiny, *names):
    return {name: feature for name, feature in tiny.features.items() if name not in names}


def test_a_new_feature_starts_without_effect(tiny):
    fewer = _without(tiny, "device", "week", "title")
    parent = _marked(tiny.architecture(tiny.pipeline(fewer)))
    child, _ = _next(tiny, _captured(parent))
    _alike(tiny, child, parent)
    # Or no gradient would ever reach the new columns
    assert (child.tables["device"].values.numpy() != 0).all()


def test_a_removed_feature_is_dropped(tiny):
    parent = _marked(tiny.architecture())
    fewer = tiny.pipeline(_without(tiny, "device", "week"))
    child, _ = _next(tiny, _captured(parent), pipeline=fewer)
    assert "device" not in _captured(child).tables
    actual, expected = (model.dense["query/first/user"].values for model in (child, parent))
    np.testing.assert_array_equal(actual, expected)


def test_a_width_stays_when_the_vocabulary_grows(tiny):
    wide = tiny.pipeline(train={"dimension": 32})
    parent = _captured(_marked(tiny.architecture(wide, device=["phone"])))
    larger = [f"d{i}" for i in range(5000)]
    now = tiny.architecture(wide, device=larger).tables["device"].dimension
    assert now != parent.widths["device"]
    child, _ = _next(tiny, parent, pipeline=wide, device=larger)
    assert child.tables["device"].values.shape == (5001 + OOV_BUCKETS, parent.widths["device"])


ATTENTION = {"train": {"history": {"pooling": "attention"}}}
WIDE = {"train": {"dimension": 32}}
LONGER = {"recent": {"length": 7}, **ATTENTION}
PLAIN = {"train": {"skip": False, **ATTENTION["train"]}}


@pytest.mark.parametrize(
    ("parent", "child", "found"),
    [
        ({}, {"train": {"layers": [32]}}, "train.layers now gives"),
        ({}, {"train": {"dimension": 4}}, "train.dimension now gives"),
        ({}, {"device": {"kind": "text"}}, "features.device.kind now gives"),
        ({}, {"device": {"kind": "number"}}, "features.device now gives"),
        ({}, {"shape": {"size": 4}}, "features.shape.size now gives"),
        ({"user": {"kind": "category"}, **WIDE}, WIDE, r"features.user now gives 32, .* has \d"),
        ({}, ATTENTION, "history.pooling now gives attention, the parent has a sum or mean"),
        (ATTENTION, {}, "train.history.pooling now gives"),
        (ATTENTION, LONGER, "features.recent.length now gives"),
        (ATTENTION, PLAIN, "train.skip now gives"),
    ],
)
def test_a_change_of_shape_names_its_key_and_the_way_out(tiny, parent, child, found):

    def made(changed):
        features = {name: {**of, **changed.get(name, {})} for name, of in tiny.features.items()}
        return tiny.pipeline(features, train=changed.get("train", {}))

    before, after = made(parent), made(child)
    with pytest.raises(UsageError, match=rf"{found}.*--mode full"):
        _next(tiny, _captured(_marked(tiny.architecture(before))), pipeline=after)


def test_an_encoder_and_its_moments_are_carried_on_by_name(tiny, tmp_path):
    attentive = tiny.pipeline(**ATTENTION)
    parent = _marked(tiny.architecture(attentive))
    checkpoint.save(_captured(parent), tmp_path / "state")
    child, _ = _next(tiny, checkpoint.load(tmp_path / "state"), pipeline=attentive)
    _alike(tiny, child, parent, ["query"], atol=0)
    for name, weight in parent.dense.items():
        np.testing.assert_array_equal(child.dense[name].slots, weight.slots, err_msg=name)


def test_a_new_history_starts_without_effect_and_ready_to_learn(tiny):
    without = tiny.pipeline(_without(tiny, "recent"), **ATTENTION)
    parent = _marked(tiny.architecture(without))
    child, _ = _next(tiny, _captured(parent), pipeline=tiny.pipeline(**ATTENTION))
    _alike(tiny, child, parent, ["query"])
    names = [name for name in child.dense if "history" in name and name.endswith("kernel")]
    assert len(names) == 12 and all(child.dense[name].values.numpy().any() for name in names)


def test_a_skip_that_the_parent_had_not_starts_without_effect(tiny):
    parent = _marked(tiny.architecture(tiny.pipeline(train={"skip": False})))
    child, _ = _next(tiny, _captured(parent))
    _alike(tiny, child, parent)
    for name in ("query/skip/recent", "item/skip/item"):
        assert not child.dense[name].values.numpy().any()


def test_widths_are_chosen_by_size_and_never_above_the_towers_own(tiny):
    def width(n):
        tokens = {name: pa.array(["x"]) for name in ("user", "item", "tags")}
        tokens["device"] = pa.array(map(str, range(n)))
        return design(tiny.pipeline(train={"dimension": 32}), tokens).tables["device"].dimension

    assert width(3) < width(300) < width(3000) <= 32 == width(100_000)


def test_all_changes_of_shape_are_named_at_once(tiny):
    parent = _captured(_marked(tiny.architecture()))
    features = {
        **tiny.features,
        "device": {"kind": "text", "tower": "query"},
        "shape": {"kind": "vector", "tower": "item", "size": 4},
        "week": {"kind": "category", "tower": "item"},
    }
    keys = "features.device.kind, features.shape.size, features.week"
    with pytest.raises(
        UsageError, match=f"Set {keys} back, or train from scratch with --mode full"
    ):
        _next(tiny, parent, pipeline=tiny.pipeline(features), week=["a", "b"])


def test_a_category_that_becomes_several_keeps_its_rows(tiny):
    parent = _marked(tiny.architecture())
    features = {**tiny.features, "device": {"kind": "categories", "tower": "query"}}
    child, _ = _next(tiny, _captured(parent), pipeline=tiny.pipeline(features))
    for key in ("=phone", "=tv", "missing"):
        np.testing.assert_array_equal(_row(child, "device", key), _row(parent, "device", key))
    actual, expected = (model.dense["query/first/device"].values for model in (child, parent))
    np.testing.assert_array_equal(actual, expected)


def test_a_feature_that_moves_to_the_other_tower_starts_there_without_effect(tiny):
    parent = _marked(tiny.architecture())
    features = {**tiny.features, "device": {"kind": "category", "tower": "item"}}
    child, _ = _next(tiny, _captured(parent), pipeline=tiny.pipeline(features))
    assert not child.dense["item/first/device"].values.numpy().any()
    assert "query/first/device" not in child.dense
