import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from twinspire_core.search.top_k import best_of, exact_search

NONE = -1


def test_exact_search_is_a_full_sort_in_double_precision():
    rng = np.random.default_rng(0)
    for items, k, asked in ((1, 1, 5), (7, 3, 5), (300, 100, 300), (5000, 10, 5), (140_000, 50, 5)):
        # Small integers: sums are exact, and ties are plenty.
        vectors = rng.integers(-3, 4, (items, 6)).astype(np.float32)
        queries = rng.integers(-3, 4, (asked, 6)).astype(np.float32)
        rows, scores = exact_search(vectors, queries, k)
        exact = queries.astype(float) @ vectors.astype(float).T
        expected = np.argsort(-exact, axis=1, kind="stable")[:, :k]
        np.testing.assert_array_equal(rows, expected)
        np.testing.assert_array_equal(scores, np.take_along_axis(queries @ vectors.T, rows, 1))


def test_a_query_alone_at_the_end_of_a_block_is_scored_as_in_a_batch():
    rng = np.random.default_rng(6)
    queries = rng.normal(size=(129, 16)).astype(np.float32)
    items = rng.normal(size=(500, 16)).astype(np.float32)
    rows, scores = exact_search(items, queries, 5)
    whole = queries @ items.T
    np.testing.assert_array_equal(rows, np.argsort(-whole, axis=1)[:, :5])
    np.testing.assert_array_equal(scores[-1], whole[-1, rows[-1]])


@settings(deadline=None)  # the first example compiles the loop
@given(st.data())
def test_the_best_equal_a_stable_sort_whatever_ties(data):
    """Wide rows of few distinct scores: many tie with the k-th, in and across groups of columns."""
    rows, width, k = (data.draw(st.integers(*span)) for span in ((1, 3), (1, 90), (1, 12)))
    score = st.sampled_from([-np.inf, -2.0, -1.0, -0.0, 0.0, 0.5, 1.0])
    drawn = data.draw(st.lists(score, min_size=rows * width, max_size=rows * width))
    scores, k = np.array(drawn, np.float32).reshape(rows, width), min(k, width)
    for row, value in zip(scores, best_of(scores, k).tolist(), strict=True):
        best = sorted(range(width), key=lambda c, row=row: (-row[c], c))[:k]
        assert value == [c if row[c] > -np.inf else NONE for c in best]
