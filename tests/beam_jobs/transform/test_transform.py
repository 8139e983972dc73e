import math
import random
import re
import statistics
from collections import Counter
from itertools import pairwise
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from beam_jobs.beam import engine
from beam_jobs.transform import analysis, graph, preprocessing
from beam_jobs.transform.graph import RepeatedValues
from model.towers.export import vocabularies
from tests.beam_jobs.transform.made_up_log import DAY, make, run, table_of, transformed
from twinspire_core import storage
from twinspire_core.config.feature_kinds import OOV_BUCKETS, TEXT_BUCKETS
from twinspire_core.contracts import feature_schema
from twinspire_core.errors import BadData


def contents(out):
    """Bytes of what must be the same on every run: vocabularies and training rows."""

    def is_kept(path):
        return "/assets/" in path or path.startswith(feature_schema.TRANSFORMED)

    return {f.path: storage.read_bytes(f.uri) for f in storage.list_files(out) if is_kept(f.path)}


def ranking(values, least=1):
    """Most frequent first; ties in reverse order of bytes."""
    counts = Counter(v for v in values if v and "\n" not in v)
    often = [value for value in counts if counts[value] >= least]
    return sorted(often, key=lambda value: (counts[value], value.encode()), reverse=True)


def expected_vocabularies(window):
    least = {"user": 2, "item": 2, "device": 1, "city": 1}
    actual = {name: ranking([row[name] for row in window], n) for name, n in least.items()}
    return actual | {"tags": ranking([tag for row in window for tag in row["tags"]])}


def test_vocabularies_are_the_counted_ones(done, window):
    made = vocabularies(f"{done}/transform", make())
    actual = {name: values.to_pylist() for name, values in made.items()}
    assert actual == expected_vocabularies(window)
    assert len(set(map(len, actual.values()))) > 1
    tft_output = tft.TFTransformOutput(f"{done}/transform")
    assert [v.decode() for v in tft_output.vocabulary_by_name("item")] == actual["item"]


def bucket(value, buckets):
    return int(tf.strings.to_hash_bucket_fast(value, buckets))


def row_of(value, vocabulary):
    if not value:
        return 0
    if value in vocabulary:
        return 1 + vocabulary.index(value)
    return 1 + len(vocabulary) + bucket(value, OOV_BUCKETS)


def words(text):
    actual = re.findall(r"[^\W_]+", (text or "").lower())
    return [*actual, *map(" ".join, pairwise(actual))]


def slow_scale(rows, name, log):
    def curve(x):
        return math.copysign(math.log1p(abs(x)), x) if log else x

    known = [curve(row[name]) for row in rows if row[name] is not None]
    mean, spread = statistics.fmean(known), statistics.pstdev(known)
    return lambda x: 0.0 if x is None else (curve(x) - mean) / spread


def test_rows_are_what_plain_python_makes_of_them(done, window, today):
    v = expected_vocabularies(window)
    trained_on = [row for row in today if not row["_holdout"]]
    table = transformed(done)
    assert len(table) == len(trained_on) < len(today)
    numbers = ("price", "change", "week", "age")
    scale = {name: slow_scale(window, name, name != "change") for name in numbers}
    by_time = {row["_time"]: row for row in table}
    for raw in trained_on:
        got = by_time[raw["_time"]]
        passed = ("_user", "_item", "_reward", "_label")
        assert [got[n] for n in passed] == [raw[n] for n in passed]
        for name in ("user", "item", "device", "city"):
            assert got[name] == row_of(raw[name], v[name]), name
        assert got["recent"] == [row_of(i, v["item"]) for i in raw["recent"]]
        assert got["tags"] == [row_of(t, v["tags"]) for t in raw["tags"]]
        buckets = [1 + bucket(word, TEXT_BUCKETS) for word in words(raw["title"])]
        assert sorted(got["title"]) == sorted(buckets)
        assert got["image"] == (raw["image"] or [0.0, 0.0])
        assert got["when_hour"] == (0 if raw["when_hour"] is None else raw["when_hour"] + 1)
        assert got["when_weekday"] == raw["when_weekday"] + 1
        for name, z in scale.items():
            assert got[name] == pytest.approx(z(raw[name]), abs=1e-5)
    # The awkward cases were there.
    assert 0 in {got["device"] for got in table}, "missing"
    assert any(got["user"] > len(v["user"]) for got in table)
    assert any(not got["tags"] for got in table) and any(not got["title"] for got in table)
    assert {got["_label"] is None for got in table} == {True, False}


def test_files_of_several_row_groups(done, today, tmp_path):
    p = make()
    out = str(tmp_path)
    storage.upload_tree(Path(done) / "transform", f"{out}/transform")
    table = table_of(today, feature_schema.example_schema(p))
    name = f"{feature_schema.EXAMPLES}/dt={DAY}/00.parquet"
    (tmp_path / name).parent.mkdir(parents=True)
    pq.write_table(table, tmp_path / name, row_group_size=23)
    engine.run_job([], lambda job: graph.apply_graph(job | beam.Create([name]), p, out), out)
    assert transformed(out) == sorted(transformed(done), key=lambda row: row["_time"])


def test_same_bytes_however_the_rows_come(done, window, today, tmp_path):
    mixed = random.Random(1).sample(window, len(window))
    run(make(), mixed, today, str(tmp_path), batch=7)
    assert contents(str(tmp_path)) == contents(done)
    assert not storage.exists(f"{tmp_path}/{analysis.SUMMARY}")


@pytest.mark.system
def test_same_bytes_from_several_processes(done, window, today, tmp_path):
    options = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    run(make(), window, today, str(tmp_path), options=options)
    assert contents(str(tmp_path)) == contents(done)


def test_in_the_object_store(done, window, today, remote_place):
    run(make(), window, today, remote_place)
    assert contents(remote_place) == contents(done)


def test_nothing_to_learn(window, today, tmp_path):
    features = {"when": {"kind": "time"}, "title": {"kind": "text", "tower": "item"}}
    p = make(features)
    run(p, window, today, str(tmp_path))
    assert any(got["title"] for got in transformed(str(tmp_path)))
    assert vocabularies(tmp_path / "transform", p) == {}


def test_no_value_is_frequent_enough(window, today, tmp_path):
    p = make(vocabulary={"min_events": 10_000})
    run(p, window, today, str(tmp_path))
    assert len(vocabularies(tmp_path / "transform", p)["user"]) == 1  # a made-up one
    assert all(got["user"] in range(2, 2 + OOV_BUCKETS) for got in transformed(str(tmp_path)))


def test_constant_and_absent_numbers():
    p = make()
    values = {"price": [4.1] * 1000, "change": [None] * 1000, "age": [math.nan, 2.0] * 500}
    columns = {name: pa.array(column, pa.float32()) for name, column in values.items()}
    batch = pa.record_batch(columns)
    row = analysis.summary_row(p, analysis.summarise(p, batch))
    for name, x in {"price": 4.1, "change": -2.0, "age": 2.0, "week": 5.0}.items():
        moments = tuple(row[analysis.moments_column(name)][0].as_py())
        given = tf.constant([x, math.nan, math.inf])
        z = preprocessing.scaled(given, moments, log=name != "change").numpy()
        assert z[1] == z[2] == 0 and math.isfinite(z[0])
        assert name not in ("price", "age") or abs(z[0]) < 1e-6


def test_vectors_of_another_size_are_named():
    p = make()
    images = pa.array([[1.0, 2.0], [1.0, 2.0, 3.0]], pa.list_(pa.float32()))
    batch = pa.record_batch({"image": images})
    why = r"features\.image must have 2 numbers; found 1 of 2 rows with others, such as 3"
    with pytest.raises(BadData, match=why):
        graph.to_tft(batch, graph.adapter_config(p))


LISTS = [["a", "b", "a"], [], None, ["b", None, "c"], ["a"]]


def test_each_distinct_value_is_seen_once_and_comes_back_in_its_place():
    for kind in (pa.string(), pa.dictionary(pa.int32(), pa.string())):
        column = pa.array([["left out"], *LISTS], pa.list_(pa.string())).cast(pa.list_(kind))[1:]
        values = RepeatedValues(column)
        seen = values.distinct.to_pylist()
        assert seen[1:] == [[]] * 4
        assert {"a", "b", "c", ""} <= set(seen[0]) and len(seen[0]) == len(set(seen[0]))
        upper = pa.array([value.upper() for value in seen[0]])
        expected = [["A", "B", "A"], [], [], ["B", "", "C"], ["A"]]
        assert values.replaced(upper).to_pylist() == expected
