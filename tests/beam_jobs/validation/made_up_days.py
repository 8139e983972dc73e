"""Made-up days of examples, and their statistics as the features stage writes them."""

import random
from datetime import UTC, datetime

import apache_beam as beam
import pyarrow as pa

from beam_jobs.beam import engine
from beam_jobs.validation import statistics
from tests.tiny_pipeline import tiny_pipeline
from twinspire_core.contracts import feature_schema

FEATURES = {
    "device": {"kind": "category", "tower": "query"},
    "recent": {"kind": "history", "length": 4},
    "when": {"kind": "time"},
    "item": {"kind": "id", "tower": "item"},
    "tags": {"kind": "categories", "tower": "item"},
    "price": {"kind": "number", "tower": "item"},
    "image": {"kind": "vector", "tower": "item", "size": 2},
}


def make(**limits):
    return tiny_pipeline(
        source={"events": "/none/{date}/", "items": "/none/items/{date}/"},
        columns={"user": "who", "item": "what", "time": "at"},
        features=FEATURES,
        statistics=limits,
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
    for i, row in enumerate(rows):
        row.update({name: make_value(i) for name, make_value in columns.items()})
    return rows


def write_day(p, rows, out, options=(), parts=9, of="examples"):
    """Rows of `examples` or of `training` in some batches -> the stage's statistics."""
    kind = feature_schema.example_schema(p)
    actual = [pa.RecordBatch.from_pylist(rows[i::parts], kind) for i in range(parts)]

    def build(pipeline):
        made = pipeline | beam.Create(actual).with_output_types(pa.RecordBatch)
        nothing = pipeline | "None" >> beam.Create([]).with_output_types(pa.RecordBatch)
        both = (made | beam.Reshuffle(), nothing)
        statistics.write_statistics(*both[:: 1 if of == "examples" else -1], p, str(out))

    engine.run_job(options, build, str(out))
    return str(out)
