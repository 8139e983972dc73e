"""A small made-up log with everything awkward in it, and the transform graph made and applied."""

import random
from datetime import UTC, date, datetime, timedelta

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.beam import engine
from beam_jobs.transform import analysis, graph
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import feature_schema

DAY = date(2024, 3, 10)
TAGS = ["red", "green", "blue", "two words", "line\nbreak"]
TITLES = ["Red WINE, dry", "", None, "ÄPFEL & birnen 2x", "--", "wine"]
FEATURES = {
    "user": {"kind": "id", "tower": "query"},
    "recent": {"kind": "history", "length": 4},
    "device": {"kind": "category", "tower": "query"},
    "city": {"kind": "category", "tower": "query"},
    "when": {"kind": "time"},
    "item": {"kind": "id", "tower": "item"},
    "tags": {"kind": "categories", "tower": "item"},
    "price": {"kind": "number", "tower": "item", "log": True},
    "change": {"kind": "number", "tower": "item"},
    "title": {"kind": "text", "tower": "item"},
    "image": {"kind": "vector", "tower": "item", "size": 2},
    "week": {"kind": "count", "days": 7},
    "age": {"kind": "age"},
}


def make(features=FEATURES, **tables) -> Pipeline:
    base = {
        "pipeline": {"name": "tiny", "time_zone": "America/New_York"},
        "source": {"events": "/none/{date}/", "items": "/none/items/{date}/"},
        "columns": {"user": "who", "item": "what", "time": "at", "label": "liked"},
        "vocabulary": {"min_events": 2},
        "features": features,
    }
    for name, keys in tables.items():
        base[name] = base.get(name, {}) | keys
    return Pipeline.model_validate(base)


def log(seed=0, days=6, rows=60):
    """Examples of some days up to `DAY`, as Python dicts, oldest first."""
    rng = random.Random(seed)
    events = []
    for back in reversed(range(days)):
        start = datetime(2024, 3, 10, 5, tzinfo=UTC) - timedelta(days=back)
        for minute in sorted(rng.sample(range(1380), rows)):
            item = f"i{min(rng.randrange(12), rng.randrange(12))}"
            once = rng.random()
            is_gone = back >= 4 and once < 0.3
            user = f"gone{rng.randrange(3)}" if is_gone else f"u{rng.randrange(15)}"
            user = f"new{minute}" if back == 0 and once < 0.1 else user
            events.append(
                {
                    "_row": len(events),
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
                    "tags": rng.sample(TAGS, rng.randrange(4)),
                    "price": rng.choice([0.0, 1.5, 99.0, None]),
                    "change": rng.choice([-3.0, 0.25, 7.0, None]),
                    "title": rng.choice(TITLES),
                    "image": rng.choice([[0.5, -1.0], [2.0, 3.0], []]),
                    "week": float(rng.randrange(50)) if back < 4 else None,
                    "age": rng.random() * 9,
                }
            )
    return events


def analysis_schema(p):
    """Columns of both towers; the job has them in rows of their own, which makes no difference."""
    return pa.unify_schemas([feature_schema.analysis_schema(p, t) for t in ("query", "item")])


def table_of(rows, schema):
    return pa.Table.from_pylist([{n: row[n] for n in schema.names} for row in rows], schema)


def run(p, window, examples, out, options=(), batch=25):
    """The steps of the features stage that this module tests; examples are one file an hour."""
    batches = table_of(window, analysis_schema(p)).to_batches(max_chunksize=batch)

    def fit(pipeline):
        made = pipeline | beam.Create(batches).with_output_types(pa.RecordBatch) | beam.Reshuffle()
        analysis.write_summary(made, p, out)

    engine.run_job(options, fit, out)
    graph.make_graph(p, out)
    names = []
    for hour in sorted({row["_time"].hour for row in examples}):
        rows = [row for row in examples if row["_time"].hour == hour]
        names.append(f"{feature_schema.EXAMPLES}/dt={DAY}/{hour:02d}.parquet")
        sink = pa.BufferOutputStream()
        pq.write_table(table_of(rows, feature_schema.example_schema(p)), sink)
        storage.write_bytes(storage.join(out, names[-1]), sink.getvalue().to_pybytes())
    engine.run_job(options, lambda job: graph.apply_graph(job | beam.Create(names), p, out), out)


def transformed(out):
    files = storage.list_files(storage.join(out, feature_schema.TRANSFORMED))
    tables = [pq.read_table(pa.BufferReader(storage.read_bytes(file.uri))) for file in files]
    return [row for table in tables for row in table.to_pylist()]
