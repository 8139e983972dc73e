import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from index_builder import index_stage
from index_builder.index_stage import Wanted
from index_builder.registry.registry import Registry
from serving.version.loaded_version import Version
from tests.published import described
from twinspire_core.config.pipeline import Pipeline, load

# Twelve items on a circle, 30 degrees apart; a user's vector points at the last item of the
# history.
ITEMS = [f"i{n:02d}" for n in range(12)]
ANGLES = np.arange(12) * np.pi / 6
CIRCLE = np.stack([np.cos(ANGLES), np.sin(ANGLES)], 1).astype(np.float32)

# Of item n; each holds another type.
ATTRIBUTES = {
    "kind": ["even", "odd"] * 6,
    "stock": [n < 6 if n != 3 else None for n in range(12)],
    "tags": [[name for name, by in (("two", 2), ("three", 3)) if n % by == 0] for n in range(12)],
    "size": [n // 4 for n in range(12)],
    "weight": pa.array([n / 10 for n in range(12)], pa.float32()),
    "since": [date(2024, 1, 1 + n // 6) for n in range(12)],
}


@pytest.fixture(scope="session")
def towers(tmp_path_factory) -> Path:
    """A query tower that points at the last item of the history, else at `place`, else at the
    hour.
    """
    import tensorflow as tf

    class Query(tf.Module):
        @tf.function(
            input_signature=[
                tf.TensorSpec([None], tf.string, "user"),
                tf.TensorSpec([None, None], tf.string, "recent"),
                tf.TensorSpec([None], tf.float32, "place"),
                tf.TensorSpec([None], tf.int64, "when_hour"),
                tf.TensorSpec([None], tf.int64, "when_weekday"),
            ]
        )
        def serve(self, user, recent, place, when_hour, when_weekday):
            last = tf.maximum(0, tf.reduce_sum(tf.cast(recent != "", tf.int32), 1) - 1)
            item = tf.gather(recent, last, batch_dims=1)
            # Whatever the id: its first two digits, 0 without any.
            number = tf.strings.to_number(
                tf.strings.regex_replace(item, r"(?s)^[^0-9]*([0-9]{0,2}).*$", r"0\1")
            )
            overflow = tf.where(tf.abs(place) > 1e30, np.nan, 0.0)  # as layers do
            elsewhere = tf.where(tf.math.is_nan(place), tf.cast(when_hour, tf.float32), place)
            angle = tf.where(item == "", elsewhere, number) * (np.pi / 6)
            # So that the graph has all inputs
            unused = tf.cast(tf.strings.length(user), tf.int64) + when_weekday
            nothing = tf.cast(unused, tf.float32) * 0 + overflow
            return {"vector": tf.stack([tf.cos(angle), tf.sin(angle)], 1) + nothing[:, None]}

    home = tmp_path_factory.mktemp("towers")
    tower = Query()
    tf.saved_model.save(
        tower, str(home / "query_tower"), signatures={"serving_default": tower.serve}
    )
    return home


def users() -> pa.Table:
    """`anna` came from i03 to i05; `ben` has seen nothing and is at place 9; of `cat` no more is
    known than an hour.
    """
    strings = pa.list_(pa.string())
    histories = {"anna": ["i03", "i05"], "ben": [], "cat": []}
    nothing = {"_past": [], "_past_events": 0, "when_hour": 1}
    rows = [
        {"_user": user, "user": user, "recent": recent, **nothing}
        for user, recent in histories.items()
    ]
    rows[0] |= {"_past": ["i05", "i04", "i03"], "_past_events": 3}
    rows[1] |= {"place": 9.0}
    kinds = {"_user": pa.string(), "_past": strings, "_past_events": pa.int64()}
    kinds |= {"user": pa.string(), "recent": strings, "place": pa.float32()}
    return pa.Table.from_pylist(
        rows, pa.schema([*kinds.items(), ("when_hour", pa.int64()), ("when_weekday", pa.int64())])
    )


PIPELINE = """
pipeline = { name = "circle", time_zone = "Asia/Tokyo" }
source = { events = "events/dt={date}/", items = "items/dt={date}/" }
columns = { user = "user", item = "item", time = "time" }
corpus = { display = ["title", "colour"], attributes = ["kind", "stock", "tags", "size", "weight", "since"] }
registry = { root = "registry" }
[features]
user = { kind = "id", tower = "query" }
recent = { kind = "history", length = 3 }
place = { kind = "number", tower = "query" }
when = { kind = "time" }
item = { kind = "id", tower = "item" }
"""


@pytest.fixture
def pipeline_file(tmp_path) -> Path:
    (tmp_path / "circle.toml").write_text(PIPELINE)
    return tmp_path / "circle.toml"


@pytest.fixture
def pipeline(pipeline_file) -> Pipeline:
    return load(pipeline_file)


def publish(
    pipeline: Pipeline,
    towers: Path,
    staged: Path,
    day: str = "2024-01-01",
    user_store: bool = True,
    nominators: dict[str, bytes] | None = None,
    titles: Sequence[str | None] | None = None,
    counts: dict[str, list[float]] | None = None,
    **told: object,
) -> str:
    """Publishes a version in the documented layout; its id.

    `nominators` are files for sources beside the towers, `counts` further columns of the items,
    `told` further fields of the manifest.
    """
    from twinspire_core import storage

    storage.copy_tree(str(towers / "query_tower"), str(staged / "query_tower"))
    index_stage.build(CIRCLE, CIRCLE, Wanted(k=5)).index.save(staged / "index")
    titles = titles or [f"Item [{n}]" for n in range(12)]
    columns = {
        "_item": ITEMS,
        "_name": titles,
        "_display_title": titles,
        "_display_colour": ["red", None] * 6,
        "_popular": [*range(12)],
        "_lately": [5, *[0] * 10, 4],
    }
    columns |= {f"_attribute_{name}": values for name, values in ATTRIBUTES.items()}
    pq.write_table(pa.table(columns | (counts or {})), staged / "items.parquet")
    for name, content in (nominators or {}).items():
        (staged / name).write_bytes(content)
    (staged / "index.json").write_text(json.dumps({"recall": 1.0}))
    if user_store:
        (staged / "users").mkdir()
        for n, row in enumerate(users().to_batches(max_chunksize=1)):
            pq.write_table(pa.Table.from_batches([row]), staged / "users" / f"part-{n}.parquet")
    on = date.fromisoformat(day)
    manifest = described(staged, pipeline.name, on, items=12, dimension=2, **told)
    registry = Registry(pipeline.registry.root, pipeline.name)
    registry.publish(str(staged), manifest, accepted=True, reason="test")
    return manifest.version


@pytest.fixture
def version(pipeline, towers, tmp_path) -> Version:
    publish(pipeline, towers, tmp_path / "staged")
    return Version.open(pipeline)


@pytest.fixture
def without_users(pipeline, towers, tmp_path) -> Version:
    publish(pipeline, towers, tmp_path / "staged", user_store=False)
    return Version.open(pipeline)
