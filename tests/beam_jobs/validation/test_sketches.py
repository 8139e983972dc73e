"""Sketches of a column: parts that add up to the whole, quantiles and distinct counts."""

import math
import pickle
import random
import statistics as plain
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from beam_jobs.validation import statistics
from beam_jobs.validation.sketches import Numbers, Strings, sketch
from tests.beam_jobs.validation.made_up_days import column, day, make


def test_parts_add_up_to_the_whole():
    rows = day(1000)
    for name in ("device", "recent", "tags", "item", "price", "when_hour", "image"):
        parts = [
            pickle.loads(pickle.dumps(sketch(column(rows[i : i + 130], name))))
            for i in range(0, 1000, 130)
        ]
        random.Random(1).shuffle(parts)
        total = parts.pop()
        for part in parts:
            total.merge(part)
        whole = sketch(column(rows, name))
        assert total.lengths == whole.lengths
        if isinstance(whole, Strings):
            values = [
                v
                for row in rows
                for v in (row[name] if isinstance(row[name], list) else [row[name]])
                if v
            ]
            assert dict(total.values()) == dict(whole.values()) == Counter(values)
            assert total.exact and total.unique == whole.unique == len(set(values))
            assert total.letters == whole.letters == sum(map(len, values))
        else:
            values = [v for row in rows for v in np.ravel(row[name]).tolist() if v is not None]
            assert total.zeros == whole.zeros == values.count(0)
            n, mean, squares = total.moments
            assert (n, mean) == (len(values), pytest.approx(plain.fmean(values), rel=1e-6))
            assert math.sqrt(squares / n) == pytest.approx(plain.pstdev(values), rel=1e-6)


def test_quantiles_and_distinct_counts_are_near():
    rng = np.random.default_rng(0)
    values = rng.lognormal(size=60_000).astype(np.float32)
    total = Numbers(pa.chunked_array([pa.array(values[:1000])]))
    for start in range(1000, 60_000, 1000):
        total.merge(
            pickle.loads(
                pickle.dumps(Numbers(pa.chunked_array([pa.array(values[start : start + 1000])])))
            )
        )
    for q in (0.01, 0.25, 0.5, 0.75, 0.99):
        (found,) = total.buckets.quantiles([q])
        assert np.mean(values <= found) == pytest.approx(q, abs=0.005)
    stats = statistics.to_proto(make(), {"price": total}).datasets[0].features[0].num_stats
    assert (stats.min, stats.max) == (values.min(), values.max()), "the ends are exact"
    buckets = stats.histograms[0].buckets
    assert (buckets[0].low_value, buckets[9].high_value, len(buckets)) == (stats.min, stats.max, 10)
    assert buckets[4].high_value == stats.median == pytest.approx(np.median(values), rel=0.02)
    names = [f"user{i}" for i in range(40_000)]
    parts = [
        Strings(pa.chunked_array([pa.array([*names[i : i + 20_000], "me", "me"])]))
        for i in (0, 10_000, 20_000)
    ]
    parts[0].merge(parts[1])
    parts[0].merge(parts[2])
    assert not parts[0].exact
    assert parts[0].unique == pytest.approx(40_001, rel=0.05)


def test_many_values_travel_once():
    names = [f"user{i:07d}" for i in range(200_000)]
    one = Strings(pa.chunked_array([pa.array(names)]))
    assert len(pickle.dumps(one)) < 2 * 200_000 * (11 + 8 + 8 + 4)


def test_rows_that_hold_nothing():
    nothing = pa.chunked_array([pa.array([None, None], pa.float32())])
    found = sketch(nothing)
    found.merge(sketch(pa.chunked_array([pa.array([3.0, math.nan], pa.float32())])))
    assert found.lengths.rows == 4 and found.lengths.filled == 2 and found.moments.n == 1
    lists = sketch(
        pa.chunked_array([pa.array([[], None, ["a", "b"], ["c"]], pa.list_(pa.string()))])
    )
    assert lists.lengths == (4, 2, 3, 1, 2)
