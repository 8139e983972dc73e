from time import process_time

import numpy as np
import pytest
import tensorflow as tf

from model.data.training_rows import NegativeCorpus
from model.losses import negatives
from model.losses.negatives import (
    EncodedItems,
    choose_negatives,
    mask_drawn,
    mask_items_of_user,
    mask_own_item,
    step_candidates,
)
from model.losses.sampling_probability import StreamingFrequency
from twinspire_core.config.tables.training import NegativesConfig


def entries(items, chance=0.0):
    """Vectors that tell which item they are of."""
    items = np.asarray(items)
    return EncodedItems(
        tf.constant(np.stack([items, -items], 1), tf.float32),
        tf.constant(items, tf.int64),
        tf.constant(np.broadcast_to(chance, items.shape), tf.float32),
    )


def counted(*batches):
    """An estimate whose gaps are those of the batches given, over and over."""
    frequency = StreamingFrequency(buckets=1 << 16)
    for _ in range(20):
        for batch in batches:
            frequency.update(tf.constant(batch, tf.int64))
    return frequency


def test_columns_expect_every_way_that_their_item_can_come():
    # Item 1 holds half of the rows, 2 and 3 a quarter. The catalogue has four items, and not item
    # 3.
    batch, uniform = entries([1, 2, 1, 3], [0.25, 0.25, 0.25, 0]), entries([2, 9], 0.25)
    columns = step_candidates(batch, uniform, counted([1, 2, 1, 3]))
    assert columns.item.numpy().tolist() == [1, 2, 1, 3, 2, 9]
    np.testing.assert_allclose(columns.in_batch[:5], [1.5, 0.75, 1.5, 0.75, 0.75], rtol=1e-5)
    assert columns.in_batch[5] < 1e-3  # never seen
    np.testing.assert_allclose(columns.added, [0.5, 0.5, 0.5, 0, 0.5, 0.5], rtol=1e-5)


def test_without_draws_the_batch_alone_is_expected():
    columns = step_candidates(entries([1, 2, 1, 3], 0.25), None, counted([1, 2, 1, 3]))
    np.testing.assert_allclose(columns.in_batch, [1.5, 0.75, 1.5, 0.75], rtol=1e-5)
    assert columns.added.numpy().tolist() == [0, 0, 0, 0]


def test_uniform_draws_are_uniform_with_the_features_of_what_is_drawn():
    items = np.array([50, 10, 70, 30])
    columns = {"item": items.astype(np.int32), "tags": np.stack([items, items + 1], 1)}
    catalogue = NegativeCorpus(features=columns, item=items)
    features, drawn = catalogue.draw(4000, np.random.default_rng(1))
    np.testing.assert_array_equal(features["item"], drawn)
    np.testing.assert_array_equal(features["tags"], np.stack([drawn, drawn + 1], 1))
    assert np.abs(np.unique(drawn, return_counts=True)[1] - 1000).max() < 5 * np.sqrt(750)
    assert catalogue.draw_probability(np.array([30, 31, 50])).tolist() == [0.25, 0, 0.25]


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_probabilities_of_draws_equal_a_look_through_the_whole_corpus(size):
    rng = np.random.default_rng(size)
    items = rng.choice(np.arange(-2 * size, 2 * size), size, replace=False)
    asked = rng.integers(-3 * size, 3 * size, 500)
    expected = [(items == item).sum() / size for item in asked]
    actual = NegativeCorpus(features={}, item=items).draw_probability(asked)
    assert actual == pytest.approx(expected) and actual.dtype == np.float32


def test_the_cost_of_a_draw_does_not_grow_with_the_corpus():
    """A sort of the corpus takes a thousand times longer for a thousand times more items."""

    def seconds(size):
        corpus = NegativeCorpus(features={"item": np.arange(size)}, item=np.arange(size))
        taken = []
        for _ in range(20):
            begin = process_time()
            _, drawn = corpus.draw(1000, np.random.default_rng(1))
            corpus.draw_probability(drawn)
            taken.append(process_time() - begin)
        return min(taken)

    assert seconds(1_000_000) < 50 * seconds(1_000)


def test_nothing_is_drawn_from_an_empty_catalogue():
    catalogue = NegativeCorpus(features={"item": np.zeros(0, np.int32)}, item=np.zeros(0, np.int64))
    features, drawn = catalogue.draw(5, np.random.default_rng(1))
    assert len(features["item"]) == len(drawn) == 0
    assert catalogue.draw_probability(np.array([3])).tolist() == [0]


DRAW = np.random.default_rng(2)
ROWS, COLUMNS = 30, 45
ITEM, USER = DRAW.integers(0, 12, COLUMNS), DRAW.integers(0, 7, ROWS)
EXPECTED = DRAW.random(12)[ITEM].astype(np.float32)


def of_blocks(mask, height):
    blocks = [
        mask(tf.constant(at), tf.constant(min(at + height, ROWS))) for at in range(0, ROWS, height)
    ]
    return [np.concatenate([block[part].numpy() for block in blocks]) for part in (0, 1)]


def test_a_row_leaves_out_its_own_item():
    columns, expected = of_blocks(mask_own_item(tf.constant(ITEM), tf.constant(EXPECTED)), 8)
    assert columns.tolist() == [[ITEM[i] == ITEM[j] for j in range(COLUMNS)] for i in range(ROWS)]
    assert expected.tolist() == EXPECTED[:ROWS].tolist()


def test_a_row_leaves_out_what_its_user_took_in_the_whole_batch():
    mask = mask_items_of_user(tf.constant(ITEM), tf.constant(EXPECTED), tf.constant(USER))
    columns, expected = of_blocks(mask, 8)
    for i in range(ROWS):
        took = {ITEM[k] for k in range(ROWS) if USER[k] == USER[i]}
        assert columns[i].tolist() == [item in took for item in ITEM]
        whole = sum(EXPECTED[ITEM.tolist().index(item)] for item in took)
        np.testing.assert_allclose(expected[i], whole, rtol=1e-6)


def test_rows_are_held_against_k_others_and_every_column_comes_as_often():
    nothing = mask_own_item(tf.range(COLUMNS), tf.ones(COLUMNS))  # but each row's own column
    mask = mask_drawn(nothing, tf.constant(ROWS), tf.constant(7), tf.constant([3, 4]))
    kept = ~of_blocks(mask, 8)[0]
    assert kept[:, ROWS:].all()  # what was added is not drawn from
    assert (kept[:, :ROWS].sum(1) == 7).all() and (kept[:, :ROWS].sum(0) == 7).all()
    assert not kept[np.arange(ROWS), np.arange(ROWS)].any()


def test_each_of_the_others_is_as_likely():
    counts = np.zeros((ROWS, ROWS))
    for seed in range(80):
        mask = mask_drawn(
            mask_own_item(tf.range(ROWS), tf.ones(ROWS)),
            tf.constant(ROWS),
            tf.constant(7),
            tf.constant([3, seed]),
        )
        counts += ~mask(tf.constant(0), tf.constant(ROWS)).candidates.numpy()
    expected = 80 * 7 / (ROWS - 1)
    off = ~np.eye(ROWS, dtype=bool)
    assert np.abs(counts[off] - expected).max() < 5 * np.sqrt(expected)


RNG = np.random.default_rng(4)
# Rounded, so that there are ties
COSINE = np.round(RNG.uniform(-1, 1, (40, 25)), 2).astype(np.float32)
COSINE[:, 10] = COSINE[:, 9]
ALLOWED = RNG.random((40, 25)) < 0.8
ALLOWED[3], ALLOWED[4, :22] = False, False


def chosen(seed=1, **settings):
    drawn = choose_negatives(
        tf.constant(COSINE),
        tf.constant(ALLOWED),
        NegativesConfig(**settings),
        tf.constant([7, seed]),
    )
    return [x.numpy() for x in drawn]


def slow_band(row, ranks):
    """Columns of the band, best first; of equal ones the first is the better."""
    order = sorted(np.flatnonzero(ALLOWED[row]), key=lambda j: (-COSINE[row, j], j))
    return order[ranks[0] : ranks[1]]


@pytest.mark.parametrize("k", [1, 6, 25, 100])
def test_hard_ones_are_those_of_the_highest_cosine(k):
    columns, share, low, high = chosen(in_batch="hard", k=k)
    for row in range(40):
        band = slow_band(row, (0, k))
        assert np.flatnonzero(columns[row]).tolist() == sorted(band)
        assert share[row] == (1 if band else 0)
        if band:
            assert (low[row], high[row]) == (COSINE[row, band[-1]], COSINE[row, band[0]])


@pytest.fixture(params=[(2, 9), (20, 500)], ids=["inside the batch", "beyond it"])
def band(request, monkeypatch):
    monkeypatch.setattr(negatives, "SEMI_HARD_RANKS", request.param)
    return request.param


@pytest.mark.parametrize("k", [3, 30])
def test_semi_hard_ones_are_k_of_a_band(band, k):
    columns, share, _, _ = chosen(in_batch="semi_hard", k=k)
    for row in range(40):
        there = set(slow_band(row, band))
        actual = set(np.flatnonzero(columns[row]).tolist())
        assert actual <= there and len(actual) == min(k, len(there))
        assert share[row] == pytest.approx(len(actual) / len(there) if there else 0)


def test_all_of_a_band_are_equally_likely(band):
    counts = sum(chosen(seed, in_batch="semi_hard", k=2)[0].astype(int) for seed in range(60))
    for row in range(40):
        there = slow_band(row, band)
        if len(there) > 2:
            expected = 60 * 2 / len(there)
            assert np.abs(counts[row, there] - expected).max() < 5 * np.sqrt(expected), row


def test_what_is_drawn_follows_from_the_seed(monkeypatch):
    monkeypatch.setattr(negatives, "SEMI_HARD_RANKS", (0, 9))
    again, other = (
        [chosen(seed, in_batch="semi_hard", k=2)[0] for seed in seeds] for seeds in ((1, 1), (1, 2))
    )
    assert (again[0] == again[1]).all() and (other[0] != other[1]).any()
