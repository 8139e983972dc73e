"""The day's statistics in TFDV's format, against counts by plain Python."""

import pickle
import statistics as plain
from collections import Counter

import datasketches as ds
import numpy as np
import pyarrow as pa
import pytest
from google.protobuf.wrappers_pb2 import BytesValue
from tensorflow_metadata.proto.v0 import statistics_pb2 as pb

from beam_jobs.validation import statistics
from beam_jobs.validation.sketches import Numbers, Strings
from tests.beam_jobs.validation.made_up_days import day, make, write_day
from twinspire_core import storage


def read(out):
    return statistics.by_name(statistics.read(f"{out}/statistics"))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_day(make(), day(1000), tmp_path_factory.mktemp("day"))


def test_statistics_are_the_counted_ones(written):
    rows, found = day(1000), read(written)
    assert statistics.read(f"{written}/statistics").datasets[0].num_examples == 1000
    assert "_user" in found and "_item" not in found, (
        "the item's id is a feature, the user's is not"
    )
    devices = Counter(row["device"] for row in rows)
    stats = found["device"].string_stats
    assert found["device"].type == pb.FeatureNameStatistics.STRING
    assert (stats.common_stats.num_missing, stats.unique) == (devices[None], 2)
    assert [(v.value, v.frequency) for v in stats.top_values] == [
        ("phone", devices["phone"]),
        ("tv", devices["tv"]),
    ]
    lengths = [len(row["tags"]) for row in rows]
    common = found["tags"].string_stats.common_stats
    assert (common.num_missing, common.tot_num_values) == (lengths.count(0), sum(lengths))
    assert (common.min_num_values, common.max_num_values) == (1, 2)
    prices = sorted(row["price"] for row in rows if row["price"] is not None)
    stats = found["price"].num_stats
    assert found["price"].type == pb.FeatureNameStatistics.FLOAT
    assert (stats.num_zeros, stats.min, stats.max) == (
        prices.count(0),
        0,
        pytest.approx(prices[-1]),
    )
    assert stats.mean == pytest.approx(plain.fmean(prices), rel=1e-6)
    assert stats.median == pytest.approx(plain.median(prices), abs=0.1)
    assert sum(b.sample_count for b in stats.histograms[0].buckets) == pytest.approx(len(prices))
    assert found["when_hour"].type == pb.FeatureNameStatistics.INT
    assert found["image"].num_stats.common_stats.tot_num_values == 2000


@pytest.mark.slow
def test_same_from_several_processes(written, tmp_path):
    options = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    other = write_day(make(), day(1000), tmp_path, options, parts=4)
    for file in (statistics.STATS, statistics.STATS_JSON):
        here, there = (storage.read_bytes(f"{out}/statistics/{file}") for out in (written, other))
        assert here == there


def test_parts_in_any_order_give_the_same_bytes():
    """More values than are counted one by one: sketches that draw, and estimates that know what
    came first, would differ.
    """
    rng = np.random.default_rng(0)
    prices = rng.lognormal(3, 2, 60_000).astype(np.float32)
    numbers = [Numbers(pa.chunked_array([pa.array(part)])) for part in np.split(prices, 12)]
    names = [f"user{i}" for i in rng.permutation(40_000)]
    strings = [Strings(pa.chunked_array([pa.array(names[i::10])])) for i in range(10)]

    def added(parts, order):
        total, *others = (pickle.loads(pickle.dumps(parts[i])) for i in order)
        for other in others:
            total.merge(other)
        return total

    found = []
    balanced = [
        Numbers(pa.chunked_array([pa.array(part)]))
        for part in ([-1.0, 0.0, -0.0], [0.3, -0.7], [1.0], [-0.0, 0.1, 0.3])
    ]
    for turn in (1, -1):
        price = added(numbers, range(12)[::turn])
        change = added(balanced, range(4)[::turn])
        stats = statistics.to_proto(make(), {"price": price, "change": change})
        user = added(strings, range(10)[::turn])
        assert not user.exact
        found.append((stats.SerializeToString(deterministic=True), user.unique))
    assert found[0] == found[1]


def test_days_of_earlier_releases_are_still_compared():
    """Their numbers are in Apache DataSketches' KLL sketches, here of few values and so exact."""
    feature = pb.FeatureNameStatistics(type=pb.FeatureNameStatistics.FLOAT)
    sketch = ds.kll_floats_sketch(1024)
    sketch.update(np.array([3, 1, 1, 2], np.float32))
    value = BytesValue(value=sketch.serialize())
    feature.custom_stats.add(name="kll_floats_sketch").any.Pack(value)
    found = statistics.bucket_counts(feature)
    assert found.quantiles([0.5, 0.75, 1]).tolist() == [1, 2, 3]
    assert found.share_up_to([0, 1, 2.5]).tolist() == [0, 0.5, 0.75]


@pytest.mark.parametrize("n", [0, 1, 7, 60_000])
def test_an_earlier_release_reads_numbers_too(n):
    """It looks for a KLL sketch, and stops where there is none. Equal numbers give equal bytes."""
    values = np.random.default_rng(0).lognormal(3, 2, n).astype(np.float32)
    column = pa.chunked_array([pa.array(values)])
    told = [statistics.to_proto(make(), {"price": Numbers(column)}) for _ in range(2)]
    feature = told[0].datasets[0].features[0]
    value = BytesValue()
    # As 0.2.0 has it
    next(c for c in feature.custom_stats if c.name == "kll_floats_sketch").any.Unpack(value)
    sketch = ds.kll_floats_sketch.deserialize(value.value)
    assert told[0] == told[1] and not sketch.is_estimation_mode()
    if n <= 7:
        assert sorted(number for number, _ in sketch) == sorted(values.tolist())
    else:
        shares = np.asarray(sketch.get_cdf(np.quantile(values, [0.1, 0.5, 0.9]).tolist()))
        np.testing.assert_allclose(shares[:-1], [0.1, 0.5, 0.9], atol=0.002)
