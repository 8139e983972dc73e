"""Distances between two days' values, by hand."""

import math

import numpy as np
import pyarrow as pa
import pytest

from beam_jobs.validation import drift
from beam_jobs.validation.sketches import Numbers


def test_distances_by_hand():
    assert drift.linf({"a": 0.5, "b": 0.5}, {"a": 0.2, "b": 0.5, "c": 0.3}) == pytest.approx(0.3)
    assert drift.linf({}, {}) == 0
    half, certain = np.array([0.5, 0.5]), np.array([1.0, 0.0])
    assert drift.js(half, half) == 0
    assert drift.js(certain, certain[::-1]) == pytest.approx(1)
    # m = (3/4, 1/4): (1/2 log 2/3 + 1/2 log 2 + log 4/3) / 2 = (log 4/3 + 2 log 4/3) / 4 = 3/4 log
    # 4/3, in bits
    by_hand = 0.75 * math.log2(4 / 3)
    assert drift.js(half, certain) == pytest.approx(by_hand)
    assert drift.js(certain, half) == pytest.approx(by_hand)


def test_a_value_that_many_rows_have_is_an_interval_of_its_own():
    a = Numbers(pa.chunked_array([pa.array([0.0] * 60 + [1.0] * 40)]))
    b = Numbers(pa.chunked_array([pa.array([0.0] * 10 + [1.0] * 90)]))
    p, q = drift.on_one_grid(a.buckets, b.buckets)
    assert p[p + q > 0].tolist() == pytest.approx([0.6, 0.4]) and q[
        p + q > 0
    ].tolist() == pytest.approx([0.1, 0.9])
    c = Numbers(pa.chunked_array([pa.array([0.5] * 100)]))
    assert drift.js(*drift.on_one_grid(a.buckets, c.buckets)) == pytest.approx(1)
