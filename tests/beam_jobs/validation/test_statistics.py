"""The day's statistics and anomalies: sums of parts, distances by hand, and every anomaly by its
name.
"""

import math
import pickle
import random
import statistics as plain
from collections import Counter
from datetime import UTC, datetime

import apache_beam as beam
import datasketches as ds
import numpy as np
import pyarrow as pa
import pytest
from google.protobuf import text_format
from google.protobuf.wrappers_pb2 import BytesValue
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2
from tensorflow_metadata.proto.v0 import statistics_pb2 as pb

from beam_jobs.beam import engine
from beam_jobs.validation import anomalies, data_schema, drift, statistics
from beam_jobs.validation.sketches import Numbers, Strings, sketch
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import feature_schema
from twinspire_core.contracts.features_report import DayStatistics
from twinspire_core.errors import BadData

FEATURES = {
    "device": {"kind": "category", "tower": "query"},
    "recent": {"kind": "history", "tower": "query", "length": 4},
    "when": {"kind": "time", "tower": "query"},
    "item": {"kind": "id", "tower": "item"},
    "tags": {"kind": "categories", "tower": "item"},
    "price": {"kind": "number", "tower": "item"},
    "image": {"kind": "vector", "tower": "item", "size": 2},
}


def make(**limits) -> Pipeline:
    return Pipeline.model_validate(
        {
            "pipeline": {"name": "tiny"},
            "source": {"events": "/none/{date}/", "items": "/none/items/{date}/"},
            "columns": {"user": "who", "item": "what", "time": "at"},
            "beam": {"batch_rows": 50},
            "features": FEATURES,
            "statistics": limits,
        }
    )


def day(n=400, seed=0, **columns):
    """Examples of a day; a function of the row number may make a column's values."""
    rng = random.Random(seed)
    rows = [
        {
            "_user": f"u{rng.randrange(60)}",
            "_item": (item := f"i{rng.randrange(30)}"),
            "_time": datetime(2024, 3, 10, tzinfo=UTC),
            "_reward": 1.0,
            "_holdout": False,
            "device": rng.choice(["phone", "phone", "phone", "tv", None]),
            "recent": [f"i{rng.randrange(30)}" for _ in range(rng.randrange(5))],
            "when_hour": rng.randrange(24),
            "when_weekday": seed % 7,
            "item": item,
            "tags": rng.sample(["red", "green", "blue"], rng.randrange(3)),
            "price": rng.choice([0.0, 0.0, rng.uniform(1, 9), None]),
            "image": [rng.random(), 0.0],
        }
        for _ in range(n)
    ]
    return [
        {**row, **{name: make_value(i) for name, make_value in columns.items()}}
        for i, row in enumerate(rows)
    ]


def write_day(p, rows, out, options=(), parts=9):
    """Examples in some batches -> the stage's statistics."""
    kind = feature_schema.example_schema(p)
    found = [pa.RecordBatch.from_pylist(rows[i::parts], kind) for i in range(parts)]

    def build(pipeline):
        made = pipeline | beam.Create(found).with_output_types(pa.RecordBatch)
        _ = made | beam.Reshuffle() | statistics.WriteStatistics(p, str(out))

    engine.run_job(options, build, str(out))
    return str(out)


def read(out):
    return statistics.by_name(statistics.read(f"{out}/statistics"))


def column(rows, name):
    kind = feature_schema.example_schema(make()).field(name).type
    return pa.chunked_array([pa.array([row[name] for row in rows], kind)])


# Sketches.


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


# TFDV's format.


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


# Distances.


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


# Anomalies.


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """An ordinary day's output, checked."""
    out = write_day(make(), day(), tmp_path_factory.mktemp("usual"))
    assert anomalies.check(make(), out) == DayStatistics(rows=400, anomalies=[])
    return out


def report(out):
    text = storage.read_bytes(f"{out}/statistics/{anomalies.FILE}")
    return text_format.Parse(text, anomalies_pb2.Anomalies())


def test_an_ordinary_day_has_none(usual, tmp_path):
    out = write_day(make(), day(seed=1), tmp_path)
    assert anomalies.check(make(), out, usual).anomalies == []
    measured = {
        entry.path.step[0]: entry.drift_measurements[0] for entry in report(out).drift_skew_info
    }
    assert {"device", "item", "tags", "price", "when_hour"} <= measured.keys()
    assert "when_weekday" not in measured, "two days in a row never share one"
    assert all(0 <= m.value < m.threshold for m in measured.values())


KINDS = anomalies_pb2.AnomalyInfo.Type
CASES = {
    "category": (
        {"device": lambda i: "tv" if i % 5 else "phone"},
        "device",
        "COMPARATOR_L_INFTY_HIGH",
        "'tv' went from",
    ),
    "number": (
        {"price": lambda i: 5.0 + i % 3},
        "price",
        "COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH",
        "median 6 after 0 on 2017-10-13",
    ),
    "nulls": (
        {"tags": lambda i: ["red"] if i % 4 == 0 else []},
        "tags",
        "FEATURE_TYPE_LOW_FRACTION_PRESENT",
        "75.0%",
    ),
    "filled": (
        {"price": lambda i: float(i % 2)},
        "price",
        "CUSTOM_VALIDATION",
        "missing in 0.0% of the rows after 2",
    ),
    "absent": (
        {"price": lambda i: None},
        "price",
        "FEATURE_TYPE_NOT_PRESENT",
        "missing in every row",
    ),
    "unknown": (
        {"device": lambda i: f"new{i % 2}" if i % 3 else "phone"},
        "device",
        "ENUM_TYPE_UNEXPECTED_STRING_VALUES",
        "66.5% of the values were never seen before ('new0', 'new1'), more than max_unknown = 0.5",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_anomaly_is_named(name, usual, tmp_path, capsys):
    changed, feature, kind, text = CASES[name]
    out = write_day(make(), day(seed=1, **changed), tmp_path)
    found = anomalies.check(make(), out, usual, "2017-10-13").anomalies
    assert any(line.startswith(f"{feature}: ") and text in line for line in found), found
    assert f"{feature}: " in capsys.readouterr().err
    assert {line.split(":")[0] for line in found} == {feature}, "nothing else changed"
    info = report(out).anomaly_info[feature]
    assert KINDS.Value(kind) in {reason.type for reason in info.reason}
    assert info.severity == anomalies_pb2.AnomalyInfo.WARNING and info.path.step == [feature]


@pytest.mark.parametrize(
    ("rows", "kind"), [(60, "COMPARATOR_LOW_NUM_EXAMPLES"), (2600, "COMPARATOR_HIGH_NUM_EXAMPLES")]
)
def test_volume(rows, kind, usual, tmp_path):
    out = write_day(make(), day(rows, seed=1), tmp_path)
    (text,) = anomalies.check(make(), out, usual).anomalies
    assert text.startswith(
        f"{rows:,} rows after 400 on the day before: a relative change of 0.85, more than"
        " max_volume"
    )
    (reason,) = report(out).dataset_anomaly_info.reason
    assert reason.type == KINDS.Value(kind)


def test_fail_stops_and_names_them(usual, tmp_path):
    changed = {
        name: make_value
        for case in ("category", "number")
        for name, make_value in CASES[case][0].items()
    }
    out = write_day(make(), day(seed=1, **changed), tmp_path)
    with pytest.raises(
        BadData, match=r"(?s)device: 'tv' went.*price: median.*anomalies\.pbtxt.*raise the limit"
    ):
        anomalies.check(make(on_anomaly="fail"), out, usual)
    assert report(out).anomaly_info["device"].severity == anomalies_pb2.AnomalyInfo.ERROR
    assert (
        anomalies.check(
            make(on_anomaly="fail", max_linf=1, max_js=1, max_null_change=1), out, usual
        ).anomalies
        == []
    )


def test_ignore_is_silent(usual, tmp_path, capsys):
    out = write_day(make(), day(seed=1, **CASES["category"][0]), tmp_path)
    assert anomalies.check(make(on_anomaly="ignore"), out, usual).anomalies
    assert capsys.readouterr().err == ""


def test_few_rows_differ_by_chance(tmp_path):
    few = {"device": lambda i: "tv"}
    first = write_day(make(), day(30), tmp_path / "one")
    anomalies.check(make(), first)
    second = write_day(make(), day(30, seed=1, **few), tmp_path / "two")
    assert not any(
        "L-infinity" in text for text in anomalies.check(make(), second, first).anomalies
    )


def test_values_of_all_earlier_days_are_known(tmp_path):
    days = {"one": ["a", "b"], "two": ["c"], "three": ["b"]}
    before, p = None, make(max_unknown=0.4, max_linf=1)
    for name, values in days.items():
        rows = day(100, device=lambda i, values=values: values[i % len(values)])
        out = write_day(p, rows, tmp_path / name)
        found = anomalies.check(p, out, before).anomalies
        assert [text for text in found if "never seen" in text] == (
            [] if name != "two" else found
        ), name
        before = out
    known = data_schema.read(f"{before}/statistics")
    device = next(f for f in known.feature if f.name == "device")
    assert device.string_domain.value == ["a", "b", "c"]
    assert device.distribution_constraints.min_domain_mass == pytest.approx(0.6)


def test_schema_has_types_and_limits(usual):
    found = {f.name: f for f in data_schema.read(f"{usual}/statistics").feature}
    assert found["device"].type == schema_pb2.BYTES and found["price"].type == schema_pb2.FLOAT
    assert (found["when_hour"].int_domain.max, found["when_weekday"].int_domain.max) == (23, 6)
    assert found["recent"].value_count.max == 4 and found["image"].shape.dim[0].size == 2
    assert found["device"].drift_comparator.infinity_norm.threshold == make().statistics.max_linf
    assert (
        found["price"].drift_comparator.jensen_shannon_divergence.threshold
        == make().statistics.max_js
    )
    assert not found["item"].HasField("string_domain"), "ids come and go"


def test_a_feature_that_is_new_is_not_compared(usual, tmp_path):
    earlier = statistics.read(f"{usual}/statistics")
    del earlier.datasets[0].features[:]
    compared = drift.Compared(
        make(), statistics.read(f"{usual}/statistics"), schema_pb2.Schema(), earlier
    )
    assert drift.drifts(compared) == {} and anomalies.find(compared, {}) == []


def test_ids_equal_medians_and_what_chance_explains_are_no_anomaly(tmp_path):
    p = make(max_linf=0.05, max_js=0.001, max_unknown=1, max_null_change=1)

    def compare(name, before, after, n=100):
        first = write_day(p, day(n, **{name: before}), tmp_path / f"{name}{n}a")
        anomalies.check(p, first)
        second = write_day(p, day(n, **{name: after}), tmp_path / f"{name}{n}b")
        return [t for t in anomalies.check(p, second, first).anomalies if t.startswith(f"{name}:")]

    assert compare("item", lambda i: "a", lambda i: "b") == []
    assert compare("price", lambda i: 5.0 + (i % 3 - 1), lambda i: 5.0 + 2 * (i % 3 - 1)) == []
    tenth = (lambda i: "tv" if i % 10 < 5 else "phone", lambda i: "tv" if i % 10 < 6 else "phone")
    assert compare("device", *tenth) == []
    (text,) = compare("device", *tenth, n=1000)  # chance makes 2 / sqrt(1000) = .063 of it
    assert "distance 0.100, more than 0.063, which chance" in text and "max_linf = 0.05" in text
    (text,) = compare("device", *tenth, n=10_000)
    assert text.endswith("distance 0.100, more than max_linf = 0.05")


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
