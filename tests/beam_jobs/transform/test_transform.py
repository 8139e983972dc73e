"""The transform graph against plain Python, on a small made-up log with everything awkward in
it.
"""

import math
import random
import re
import statistics
import subprocess
import sys
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from beam_jobs.beam import engine
from beam_jobs.transform import analysis, graph, preprocessing, tensors, vocabulary
from model.towers.transform_module import Transform, vocabularies
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import feature_schema
from twinspire_core.errors import BadData

DAY = date(2024, 3, 10)
OOV = 3
FEATURES = {
    "user": {"kind": "id", "tower": "query"},
    "recent": {"kind": "history", "tower": "query", "length": 4},
    "device": {"kind": "category", "tower": "query", "max_size": 3},
    "city": {"kind": "category", "tower": "query", "hash_buckets": 10},
    "when": {"kind": "time", "tower": "query"},
    "item": {"kind": "id", "tower": "item"},
    "tags": {"kind": "categories", "tower": "item"},
    "price": {"kind": "number", "tower": "item", "log": True},
    "change": {"kind": "number", "tower": "item"},
    "title": {"kind": "text", "tower": "item", "hash_buckets": 500, "ngrams": 2},
    "image": {"kind": "vector", "tower": "item", "size": 2},
    "week": {"kind": "count", "tower": "item", "days": 7},
    "age": {"kind": "age", "tower": "item"},
}
SERVED = {"string": "", "float": math.nan, "int64": -1}


def make(features=FEATURES, **tables) -> Pipeline:
    base = {
        "pipeline": {"name": "tiny", "time_zone": "America/New_York"},
        "source": {"events": "/none/{date}/", "items": "/none/items/{date}/"},
        "columns": {"user": "who", "item": "what", "time": "at", "label": "liked"},
        "vocabulary": {"min_events": 2, "keep_days": 3, "oov_buckets": OOV},
        "beam": {"batch_rows": 16},
        "features": features,
    }
    return Pipeline.model_validate(
        {**base, **{name: {**base.get(name, {}), **keys} for name, keys in tables.items()}}
    )


def log(seed=0, days=6, rows=60):
    """Examples of some days up to `DAY`, as Python dicts, oldest first."""
    rng = random.Random(seed)
    found = []
    for back in reversed(range(days)):
        start = datetime(2024, 3, 10, 5, tzinfo=UTC) - timedelta(days=back)
        for minute in sorted(rng.sample(range(1380), rows)):
            item = f"i{min(rng.randrange(12), rng.randrange(12))}"
            once = rng.random()
            user = (
                f"gone{rng.randrange(3)}" if back >= 4 and once < 0.3 else f"u{rng.randrange(15)}"
            )
            user = f"new{minute}" if back == 0 and once < 0.1 else user
            found.append(
                {
                    "_user": user,
                    "_item": item,
                    "_time": start + timedelta(minutes=minute),
                    "_reward": rng.choice([0.5, 1.0]),
                    "_label": None if minute % 3 else float(np.float32(minute / 7)),
                    "_holdout": user in ("u1", "u2"),
                    "user": user,
                    "recent": [f"i{rng.randrange(14)}" for _ in range(rng.randrange(5))],
                    "device": rng.choice(["phone", "phone", "tv", "desktop", "watch", "Fön", None]),
                    "city": rng.choice(["Bonn", "Köln", None]),
                    "when_hour": rng.choice([0, 5, 23, None]),
                    "when_weekday": rng.choice([0, 6]),
                    "item": item,
                    "tags": rng.sample(
                        ["red", "green", "blue", "two words", "line\nbreak"], rng.randrange(4)
                    ),
                    "price": rng.choice([0.0, 1.5, 99.0, None]),
                    "change": rng.choice([-3.0, 0.25, 7.0, None]),
                    "title": rng.choice(
                        ["Red WINE, dry", "", None, "ÄPFEL & birnen 2x", "--", "wine"]
                    ),
                    "image": rng.choice([[0.5, -1.0], [2.0, 3.0], []]),
                    "week": float(rng.randrange(50)) if back < 4 else None,
                    "age": rng.random() * 9,
                }
            )
    return found


def analysis_schema(p):
    """Columns of both towers; the job has them in rows of their own, which makes no difference."""
    towers = [feature_schema.analysis_schema(p, tower) for tower in ("query", "item")]
    return pa.unify_schemas(towers)


def run(p, window, examples, out, options=(), batch=25):
    """The steps of the features stage that this module tests; examples are one file an hour."""
    kind = analysis_schema(p)
    batches = [
        pa.RecordBatch.from_pylist(
            [{n: row[n] for n in kind.names} for row in window[i : i + batch]], schema=kind
        )
        for i in range(0, len(window), batch)
    ]

    def fit(pipeline):
        made = pipeline | beam.Create(batches).with_output_types(pa.RecordBatch) | beam.Reshuffle()
        _ = made | analysis.WriteSummary(p, DAY, out)

    engine.run_job(options, fit, out)
    graph.make_graph(p, out)
    names, kind = [], feature_schema.example_schema(p)
    for hour in sorted({row["_time"].hour for row in examples}):
        rows = [row for row in examples if row["_time"].hour == hour]
        names.append(f"{feature_schema.EXAMPLES}/dt={DAY}/{hour:02d}.parquet")
        table = pa.Table.from_pylist(
            [{n: r[n] for n in feature_schema.example_schema(p).names} for r in rows],
            feature_schema.example_schema(p),
        )
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        storage.write_bytes(storage.join(out, names[-1]), sink.getvalue().to_pybytes())
    engine.run_job(
        options, lambda pipeline: pipeline | beam.Create(names) | graph.ApplyGraph(p, out), out
    )


def transformed(out):
    files = storage.list_files(storage.join(out, feature_schema.TRANSFORMED))
    return [
        row
        for f in files
        for row in pq.read_table(pa.BufferReader(storage.read_bytes(f.uri))).to_pylist()
    ]


def contents(out):
    """Bytes of what must be the same on every run: vocabularies and training rows."""
    kept = (
        f
        for f in storage.list_files(out)
        if "/assets/" in f.path or f.path.startswith(feature_schema.TRANSFORMED)
    )
    return {f.path: storage.read_bytes(f.uri) for f in kept}


@pytest.fixture(scope="module")
def window():
    return log()


@pytest.fixture(scope="module")
def today(window):
    return [row for row in window if row["_time"] >= datetime(2024, 3, 10, 5, tzinfo=UTC)]


@pytest.fixture(scope="module")
def done(window, today, tmp_path_factory):
    out = str(tmp_path_factory.mktemp("features"))
    run(make(), window, today, out)
    return out


def ranking(values, least=1, size=10**6):
    """Most frequent first; ties in reverse order of bytes."""
    counts = Counter(v for v in values if v and "\n" not in v)
    order = sorted(
        (v for v in counts if counts[v] >= least),
        key=lambda v: (counts[v], v.encode()),
        reverse=True,
    )
    return order[:size]


def expected_vocabularies(window):
    # Three days begin at midnight in New York, where the clock went forward on the last of them.
    lately = [row for row in window if row["_time"] >= datetime(2024, 3, 8, 5, tzinfo=UTC)]

    def ids(name):
        seen = {row[name] for row in lately}
        return [value for value in ranking([row[name] for row in window], 2) if value in seen]

    return {
        "user": ids("user"),
        "item": ids("item"),
        "device": ranking([row["device"] for row in window], 1, 3),
        "tags": ranking([tag for row in window for tag in row["tags"]]),
    }


def test_vocabularies_are_the_counted_ones(done, window):
    found = {
        name: values.to_pylist()
        for name, values in vocabularies(f"{done}/transform", make()).items()
    }
    assert found == expected_vocabularies(window)
    assert "gone0" in {row["user"] for row in window} and "gone0" not in found["user"]
    assert len(set(map(len, found.values()))) > 1
    tft_output = tft.TFTransformOutput(f"{done}/transform")
    assert [v.decode() for v in tft_output.vocabulary_by_name("item")] == found["item"]


def bucket(value, buckets):
    return int(tf.strings.to_hash_bucket_fast(value, buckets))


def row_of(value, vocabulary):
    if not value:
        return 0
    return (
        1 + vocabulary.index(value)
        if value in vocabulary
        else 1 + len(vocabulary) + bucket(value, OOV)
    )


def words(text, longest):
    found = re.findall(r"[^\W_]+", (text or "").lower())
    return Counter(
        " ".join(found[i : i + n]) for n in range(1, longest + 1) for i in range(len(found) - n + 1)
    )


def slow_scale(rows, name, log):
    def curve(x):
        return math.copysign(math.log1p(abs(x)), x) if log else x

    known = [curve(row[name]) for row in rows if row[name] is not None]
    mean, spread = statistics.fmean(known), statistics.pstdev(known)
    return lambda x: 0.0 if x is None else (curve(x) - mean) / spread


def test_rows_are_what_plain_python_makes_of_them(done, window, today):
    v = expected_vocabularies(window)
    trained_on = [row for row in today if not row["_holdout"]]
    found = transformed(done)
    assert len(found) == len(trained_on) < len(today)
    scale = {
        name: slow_scale(window, name, name != "change")
        for name in ("price", "change", "week", "age")
    }
    by_time = {row["_time"]: row for row in found}
    for raw in trained_on:
        got = by_time[raw["_time"]]
        passed = ("_user", "_item", "_reward", "_label")
        assert [got[n] for n in passed] == [raw[n] for n in passed]
        assert got["user"] == row_of(raw["user"], v["user"])
        assert got["item"] == row_of(raw["item"], v["item"])
        assert got["device"] == row_of(raw["device"], v["device"])
        assert got["recent"] == [row_of(i, v["item"]) for i in raw["recent"]]
        assert got["tags"] == [row_of(t, v["tags"]) for t in raw["tags"]]
        assert got["city"] == (1 + bucket(raw["city"], 10) if raw["city"] else 0)
        assert Counter(got["title"]) == Counter(
            1 + bucket(w, 500) for w in words(raw["title"], 2).elements()
        )
        assert got["image"] == (raw["image"] or [0.0, 0.0])
        assert got["when_hour"] == (0 if raw["when_hour"] is None else raw["when_hour"] + 1)
        assert got["when_weekday"] == raw["when_weekday"] + 1
        for name, z in scale.items():
            assert got[name] == pytest.approx(z(raw[name]), abs=1e-5)
    # The awkward cases were there.
    assert {0, 5, 6}.issubset(got["device"] for got in found), (
        "missing, and shared rows beyond the three kept"
    )
    assert any(got["user"] > len(v["user"]) for got in found)
    assert any(not got["tags"] for got in found) and any(not got["title"] for got in found)
    assert {got["_label"] is None for got in found} == {True, False}


def test_files_of_several_row_groups(done, today, tmp_path):
    """A batch of Parquet may begin in one row group and end in the next: here all but a few do."""
    p = make()
    out = str(tmp_path)
    storage.upload_tree(Path(done) / "transform", f"{out}/transform")
    schema = feature_schema.example_schema(p)
    table = pa.Table.from_pylist([{n: row[n] for n in schema.names} for row in today], schema)
    name = f"{feature_schema.EXAMPLES}/dt={DAY}/00.parquet"
    (tmp_path / name).parent.mkdir(parents=True)
    pq.write_table(table, tmp_path / name, row_group_size=23)
    engine.run_job([], lambda job: job | beam.Create([name]) | graph.ApplyGraph(p, out), out)
    assert transformed(out) == sorted(transformed(done), key=lambda row: row["_time"])


def test_columns_and_types(done):
    file = sorted(storage.list_files(f"{done}/transformed"), key=lambda f: f.path)[0]
    found = pq.read_schema(file.uri)
    assert (
        found.names[:5] == ["_time", "_user", "_item", "_reward", "_label"]
        and "_holdout" not in found.names
    )
    assert "_label" not in graph.transformed_schema(make(columns={"label": None})).names
    assert {found.field(n).type.value_type for n in ("recent", "tags", "title")} == {pa.int64()}
    assert {found.field(n).type for n in ("user", "item", "device", "city", "when_hour")} == {
        pa.int64()
    }
    assert {found.field(n).type for n in ("_label", "price", "week", "age")} == {pa.float32()}
    assert found.field("image").type.value_type == pa.float32()


def test_same_bytes_however_the_rows_come(done, window, today, tmp_path):
    mixed = random.Random(1).sample(window, len(window))
    run(make(), mixed, today, str(tmp_path), batch=7)
    assert contents(str(tmp_path)) == contents(done)
    assert not storage.exists(f"{tmp_path}/{analysis.SUMMARY}")


@pytest.mark.slow
def test_same_bytes_from_several_processes(done, window, today, tmp_path):
    options = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    run(make(), window, today, str(tmp_path), options=options)
    assert contents(str(tmp_path)) == contents(done)


def test_in_the_object_store(done, window, today, gs_place):
    run(make(), window, today, gs_place)
    assert contents(gs_place) == contents(done)


def test_nothing_to_learn(window, today, tmp_path):
    """Hashed ids and no number: there is nothing to analyse."""
    features = {
        "user": {"kind": "id", "tower": "query", "hash_buckets": 5},
        "recent": {"kind": "history", "tower": "query"},
        "item": {"kind": "id", "tower": "item", "hash_buckets": 7},
    }
    p = make(features)
    run(p, window, today, str(tmp_path))
    found = transformed(str(tmp_path))
    assert {got["item"] for got in found} == {
        1 + bucket(row["item"], 7) for row in today if not row["_holdout"]
    }
    assert all(got["user"] in range(1, 6) for got in found)
    assert vocabularies(tmp_path / "transform", p) == {}


def test_no_value_is_frequent_enough(window, today, tmp_path):
    p = make(vocabulary={"min_events": 10_000})
    run(p, window, today, str(tmp_path))
    assert len(vocabularies(tmp_path / "transform", p)["user"]) == 1  # a made-up one
    assert all(got["user"] in range(2, 2 + OOV) for got in transformed(str(tmp_path)))


def test_constant_and_absent_numbers():
    p = make()
    values = {"price": [4.1] * 1000, "change": [None] * 1000, "age": [math.nan, 2.0] * 500}
    batch = pa.record_batch(
        {name: pa.array(column, pa.float32()) for name, column in values.items()}
    )
    row = analysis.summary_row(
        p, DAY, analysis.summarise(make(vocabulary={"keep_days": None}), batch)
    )
    for name, x in {"price": 4.1, "change": -2.0, "age": 2.0, "week": 5.0}.items():
        moments = tuple(row[analysis.moments_column(name)][0].as_py())
        z = preprocessing.scaled(
            tf.constant([x, math.nan, math.inf]), moments, log=name != "change"
        ).numpy()
        assert z[1] == z[2] == 0 and math.isfinite(z[0])
        assert name not in ("price", "age") or abs(z[0]) < 1e-6


def test_vectors_of_another_size_are_named():
    p = make()
    batch = pa.record_batch(
        {"image": pa.array([[1.0, 2.0], [1.0, 2.0, 3.0]], pa.list_(pa.float32()))}
    )
    with pytest.raises(
        BadData,
        match=r"features\.image is declared as vectors of 2 numbers; found one of 3 in 1 of 2",
    ):
        tensors.to_tft(batch, tensors.adapter_config(p))


# One tower's part of the graph, as it goes into a SavedModel.


class Saved(tf.Module):
    def __init__(self, part):
        super().__init__()
        self.part = part

    def save(self, folder):
        call = tf.function(lambda **raw: self.part(raw)).get_concrete_function(**self.part.inputs)
        tf.saved_model.save(self, str(folder), signatures=call)


def padded(rows, spec):
    """Raw values as a tower is sent them: [B], or [B, L] with lists padded at the end."""
    name = spec.name
    missing = {tf.string: "", tf.float32: math.nan, tf.int64: -1}[spec.dtype]
    if spec.shape.rank == 1:
        return tf.constant(
            [missing if row[name] is None else row[name] for row in rows], spec.dtype
        )
    width = max(len(row[name]) for row in rows)
    return tf.constant(
        [row[name] + [missing] * (width - len(row[name])) for row in rows], spec.dtype
    )


@pytest.mark.parametrize("side", ["query", "item"])
def test_a_tower_transforms_as_the_job_did(done, today, side, tmp_path):
    part = Transform(f"{done}/transform", make(), side)
    Saved(part).save(tmp_path)
    rows = [row for row in today if not row["_holdout"]]
    served = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    got = served(**{name: padded(rows, spec) for name, spec in part.inputs.items()})
    job = {row["_time"]: row for row in transformed(done)}
    assert set(got) == set(part.inputs)
    for name, column in got.items():
        for value, raw in zip(column.numpy(), rows, strict=True):
            expected = job[raw["_time"]][name]
            if isinstance(expected, list):
                assert value.tolist() == expected + [0] * (len(value) - len(expected))
            else:
                assert value == expected


def test_a_tower_carries_its_own_vocabularies_only(done, tmp_path):
    """In a fresh process, and after the folder that it was made from is gone."""
    for side, own in (("item", ["item", "tags"]), ("query", ["device", "item", "user"])):
        Saved(Transform(f"{done}/transform", make(), side)).save(tmp_path / side)
        assert sorted(path.name for path in (tmp_path / side / "assets").iterdir()) == own
    (tmp_path / "item").rename(tmp_path / "moved")
    program = (
        "import tensorflow as tf; served ="
        " tf.saved_model.load('moved').signatures['serving_default'];inputs ="
        " served.structured_input_signature[1];empty = {n: tf.fill([1] + [2] * (s.shape.rank - 1),"
        " {'string': '', 'float32': 0.0}[s.dtype.name]) for n, s in inputs.items()};"
        " print(served(**{**empty, 'item': tf.constant(['i0'])})['item'].numpy()[0])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert int(answer.stdout) == 1 + vocabularies(f"{done}/transform", make())[
        "item"
    ].to_pylist().index("i0")


def test_features_left_out_are_left_out(done):
    part = Transform(f"{done}/transform", make(), "query")
    got = tf.function(lambda raw: part(raw))(
        {"user": tf.constant(["u3", ""]), "when_hour": tf.constant([1, 2], tf.int64)}
    )
    assert list(got) == ["user"], "half of a time is not a time"


# What is gathered of the window.


def test_parts_add_up_to_the_whole(window):
    p = make()
    kind = analysis_schema(p)
    whole = pa.Table.from_pylist([{n: row[n] for n in kind.names} for row in window], kind)
    combine = analysis.Summarise(p, DAY)
    parts = [
        combine.compact(analysis.summarise(p, whole.slice(i, 13))) for i in range(0, len(whole), 13)
    ]
    random.Random(2).shuffle(parts)
    merged = combine.extract_output(
        combine.merge_accumulators([combine.merge_accumulators(parts[:5]), *parts[5:]])
    )
    assert merged.equals(combine.extract_output(analysis.summarise(p, whole)))


def test_what_may_be_in_a_vocabulary_is_all_that_a_part_hands_on(window):
    """No worker holds all distinct values."""
    p = make()
    kind = analysis_schema(p)
    whole = pa.RecordBatch.from_pylist([{n: r[n] for n in kind.names} for r in window], kind)
    parts = list(analysis.in_parts(whole, p))
    values = [
        set(part.counts["user"][0]["value"].to_pylist())
        for _, part in parts
        if "user" in part.counts
    ]
    assert len(values) > analysis.PARTS / 2
    assert sum(map(len, values)) == len(set.union(*values)), "a value is in one part"
    assert max(map(len, values)) < sum(map(len, values)) / 3
    add_up = analysis.AddUp(p, DAY)
    handed_on = [add_up.extract_output(part) for _, part in parts]
    kept = sum(len(part.counts["user"][0]) for part in handed_on if "user" in part.counts)
    summarise = analysis.Summarise(p, DAY)
    row = summarise.extract_output(summarise.merge_accumulators(handed_on))
    assert row.equals(analysis.summary_row(p, DAY, analysis.summarise(p, whole)))
    assert kept == len(row[analysis.vocabulary_column("user")][0]) < sum(map(len, values))


def test_an_id_leaves_after_the_days_it_is_kept():
    """3 days up to the 10th begin on the 8th at midnight in New York: 5 o'clock in UTC."""
    times = {"on the 8th": (8, 5), "on the 7th": (8, 4), "today": (10, 20)}
    rows = [
        (name, datetime(2024, 3, d, h, minute, tzinfo=UTC))
        for name, (d, h) in times.items()
        for minute in (0, 59)
    ]
    users, at = zip(*rows, strict=True)
    batch = pa.record_batch({"user": pa.array(users), "_time": pa.array(at, feature_schema.TIME)})
    for keep, kept in (
        (3, ["today", "on the 8th"]),
        (1, ["today"]),
        (None, ["today", "on the 8th", "on the 7th"]),
    ):
        p = make(vocabulary={"keep_days": keep})
        row = analysis.summary_row(p, DAY, analysis.summarise(p, batch))
        assert row[analysis.vocabulary_column("user")][0].as_py() == kept


def test_many_partial_counts_are_added_up_now_and_then(monkeypatch):
    monkeypatch.setattr(vocabulary, "COMPACT_ROWS", 10)
    p, rng = make(), np.random.default_rng(0)
    combine = analysis.Summarise(p, DAY)
    summary, seen = combine.create_accumulator(), Counter()
    for _ in range(40):
        values = [f"d{i}" for i in rng.integers(0, 30, 12)]
        seen.update(values)
        times = pa.array([datetime(2024, 3, 10, 12, tzinfo=UTC)] * 12, feature_schema.TIME)
        batch = pa.record_batch({"device": values, "_time": times})
        summary = combine.add_input(summary, analysis.summarise(p, batch))
        assert sum(map(len, summary.counts["device"])) <= 2 * 30 + 10 + 12
    counts = vocabulary.added_up(summary.counts["device"]).to_pylist()
    assert {row["value"]: row["events"] for row in counts} == seen
