"""The frequency benchmark against the paper's recurrence by hand and against counted draws."""

import numpy as np
import pytest

from benchmarks import frequency


def test_the_papers_recurrence_by_hand() -> None:
    # B starts at 100, alpha is 1/2. Item 7 is hit in steps 1 and 3: 100/2 + 1/2 = 50.5, 50.5/2 +
    # 2/2 = 26.25.
    paper = frequency.Paper(0, alpha=0.5, buckets=1 << 20)
    for items in ([7, 8], [8], [7]):
        paper.update(np.array(items))
    assert 1 / paper.probabilities()[[7, 8]] == pytest.approx([26.25, 50.5 / 2 + 1 / 2])
    assert 1 / paper.probabilities()[9] == 100


def test_rates_by_hits_average_the_first_gaps() -> None:
    paper = frequency.Paper(0, alpha=0.01, buckets=1 << 20, by_hits=True)
    for step in range(1, 8):
        paper.update(np.array([7] if step in (3, 7) else [8]))
    assert 1 / paper.probabilities()[7] == pytest.approx((3 + 4) / 2)


def test_items_that_collide_are_hits_without_a_gap_and_the_longest_gap_counts() -> None:
    paper = frequency.Paper(0, alpha=0.5, buckets=4, hashes=2)
    paper.places = np.zeros((2, frequency.ITEMS), int)
    paper.places[1, 2] = 1  # the second hash tells item 2 from the others
    paper.update(np.array([1, 2]))
    # One bucket of the first hash is hit twice: 100/2 + 1/2 = 50.5, then half of that; of the
    # second two once each.
    assert 1 / paper.probabilities()[[1, 2]] == pytest.approx([50.5, 50.5])
    assert paper.gap[0, 0] == pytest.approx(50.5 / 2)


def test_chances_are_those_of_drawn_batches() -> None:
    rng, weights = np.random.default_rng(5), np.arange(frequency.ITEMS) ** 2.0
    with np.errstate(divide="ignore"):
        clocks = rng.exponential(size=(4000, frequency.ITEMS)) / weights
    drawn = np.argpartition(clocks, frequency.BATCH, axis=1)[:, : frequency.BATCH]
    counts = np.bincount(drawn.ravel(), minlength=frequency.ITEMS) / 4000
    tens = (x.reshape(-1, 50).sum(1) for x in (counts, frequency.probabilities_in_batch(weights)))
    np.testing.assert_allclose(*tens, rtol=0.02, atol=0.02)
