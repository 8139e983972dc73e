import numpy as np
import tensorflow as tf

from model.losses.negative_masks import drawn, items_of_user, own_item

RNG = np.random.default_rng(2)
ROWS, COLUMNS = 30, 45
ITEM, USER = RNG.integers(0, 12, COLUMNS), RNG.integers(0, 7, ROWS)
EXPECTED = RNG.random(12)[ITEM].astype(np.float32)


def of_blocks(mask, height):
    blocks = [
        mask(tf.constant(at), tf.constant(min(at + height, ROWS))) for at in range(0, ROWS, height)
    ]
    return [np.concatenate([block[part].numpy() for block in blocks]) for part in (0, 1)]


def test_a_row_leaves_out_its_own_item():
    columns, expected = of_blocks(own_item(tf.constant(ITEM), tf.constant(EXPECTED)), 8)
    assert columns.tolist() == [[ITEM[i] == ITEM[j] for j in range(COLUMNS)] for i in range(ROWS)]
    assert expected.tolist() == EXPECTED[:ROWS].tolist()


def test_a_row_leaves_out_what_its_user_took_in_the_whole_batch():
    mask = items_of_user(tf.constant(ITEM), tf.constant(EXPECTED), tf.constant(USER))
    columns, expected = of_blocks(mask, 8)
    for i in range(ROWS):
        took = {ITEM[k] for k in range(ROWS) if USER[k] == USER[i]}
        assert columns[i].tolist() == [item in took for item in ITEM]
        np.testing.assert_allclose(
            expected[i], sum(EXPECTED[ITEM.tolist().index(item)] for item in took), rtol=1e-6
        )


def test_rows_are_held_against_k_others_and_every_column_comes_as_often():
    nothing = own_item(tf.range(COLUMNS), tf.ones(COLUMNS))  # but each row's own column
    mask = drawn(nothing, tf.constant(ROWS), tf.constant(7), tf.constant([3, 4]))
    kept = ~of_blocks(mask, 8)[0]
    assert kept[:, ROWS:].all()  # what was added is not drawn from
    assert (kept[:, :ROWS].sum(1) == 7).all() and (kept[:, :ROWS].sum(0) == 7).all()
    assert not kept[np.arange(ROWS), np.arange(ROWS)].any()


def test_each_of_the_others_is_as_likely():
    counts = np.zeros((ROWS, ROWS))
    for seed in range(80):
        mask = drawn(
            own_item(tf.range(ROWS), tf.ones(ROWS)),
            tf.constant(ROWS),
            tf.constant(7),
            tf.constant([3, seed]),
        )
        counts += ~mask(tf.constant(0), tf.constant(ROWS)).candidates.numpy()
    expected = 80 * 7 / (ROWS - 1)
    off = ~np.eye(ROWS, dtype=bool)
    assert np.abs(counts[off] - expected).max() < 5 * np.sqrt(expected)
