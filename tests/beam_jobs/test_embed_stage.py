import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs import embed_stage
from beam_jobs.beam import batches
from beam_jobs.embed_stage import Sample, compact
from tests.tiny_pipeline import tiny_pipeline
from twinspire_core import storage
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.errors import BadData

DAY = date(2024, 3, 10)


@pytest.fixture(scope="module")
def towers(tmp_path_factory) -> Path:
    """Vectors can be worked out by hand: [number in the id, week or hour, tags or history, 1]."""
    import tensorflow as tf

    def vector(text, value, words):
        number = tf.strings.to_number(tf.strings.substr(text, 1, 9))
        count = tf.reduce_sum(tf.cast(words != "", tf.float32), 1)
        columns = [number, tf.cast(value, tf.float32), count, tf.ones_like(number)]
        return {"vector": tf.stack(columns, 1)}

    home, one, text = tmp_path_factory.mktemp("train"), [None], tf.string
    names = {"item": ("item", "week", tf.float32, "tags"), "query": ("user", "when_hour", tf.int64)}
    names["query"] += ("recent",)
    for side, (key, value, kind, words) in names.items():
        specs = [tf.TensorSpec(one, text, key), tf.TensorSpec(one, kind, value)]
        specs.append(tf.TensorSpec([None, None], text, words))
        module = tf.Module()
        module.serve = tf.function(vector, input_signature=specs)
        signatures = {"serving_default": module.serve}
        tf.saved_model.save(module, str(home / f"{side}_tower"), signatures=signatures)
    return home


def pipeline(**beam):
    return tiny_pipeline(
        pipeline={"name": "tiny", "time_zone": "Etc/GMT+3"},
        source={"events": "/none/dt={date}/", "items": "/none/items/dt={date}/"},
        features={
            "user": {"kind": "id", "tower": "query"},
            "when": {"kind": "time"},
            "recent": {"kind": "history", "length": 5},
            "item": {"kind": "id", "tower": "item"},
            "tags": {"kind": "categories", "tower": "item", "from": "items"},
            "week": {"kind": "count", "days": 7},
        },
        beam=beam,
    )


def write(uri: str, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    storage.write_bytes(uri, sink.getvalue().to_pybytes())


def corpus(numbers, week=None) -> pa.Table:
    ids, text = [f"i{n}" for n in numbers], pa.string()
    columns = {
        "_item": pa.array(ids, text),
        "_popular": pa.array([3] * len(ids), pa.int64()),
        "item": pa.array(ids, text),
        "tags": pa.array([["x"] * (n % 4) for n in numbers], pa.list_(text)),
        "week": pa.array([n / 2 if week is None else week for n in numbers], pa.float32()),
    }
    return pa.table(columns)


def users(numbers, hours_ago: float) -> pa.Table:
    """Users last seen so many hours before the end of the day, which is at 03:00 UTC."""
    end = datetime(2024, 3, 11, 3, tzinfo=UTC)
    ids, text, time = [f"u{n}" for n in numbers], pa.string(), pa.timestamp("us", tz="UTC")
    columns = {
        "_user": pa.array(ids, text),
        "_last_time": pa.array([end - timedelta(hours=hours_ago)] * len(ids), time),
        "user": pa.array(ids, text),
        "when_hour": pa.array([n % 24 for n in numbers], pa.int64()),
        "recent": pa.array([["a", "b"][: n % 3] for n in numbers], pa.list_(text)),
    }
    return pa.table(columns)


def context(features: str, train: str, out: str, **beam) -> StageContext:
    inputs = {"features": features, "train": train}
    return StageContext(pipeline=pipeline(**beam), day=DAY, mode="full", inputs=inputs, out=out)


def vectors(uri: str) -> pa.Table:
    """All rows below a folder, in order of file name."""
    files = [pa.BufferReader(storage.read_bytes(file.uri)) for file in storage.list_files(uri)]
    return pa.concat_tables(map(pq.read_table, files))


@pytest.fixture
def features(tmp_path) -> str:
    """Two corpus files of 37 and 8 items, 30 active and 5 inactive users."""
    home = str(tmp_path / "features")
    write(f"{home}/corpus/end/part-0.parquet", corpus(range(100, 137)))
    write(f"{home}/corpus/end/part-1.parquet", corpus(range(200, 208)))
    write(f"{home}/users/part-0.parquet", users(range(50, 80), hours_ago=7 * 24 - 1))
    write(f"{home}/users/part-1.parquet", users(range(10, 15), hours_ago=7 * 24 + 1))
    return home


def expected_items(numbers) -> list[list[float]]:
    return [[n, n / 2, n % 4, 1] for n in numbers]


def test_every_row_gets_its_vector_in_the_order_of_the_corpus(tmp_path, features, towers):
    out = str(tmp_path / "out")
    summary = embed_stage.run(context(features, str(towers), out))

    assert summary == {"items": 45, "queries": 30, "dimension": 4}
    numbers = [*range(100, 137), *range(200, 208)]
    items = vectors(f"{out}/items")
    assert items["_item"].to_pylist() == [f"i{n}" for n in numbers]
    assert items["vector"].to_pylist() == expected_items(numbers)
    assert items.schema.field("vector").type == pa.list_(pa.float32(), 4)
    queries = vectors(f"{out}/queries")
    assert queries["_user"].to_pylist() == [f"u{n}" for n in range(50, 80)], "of the last 7 days"
    assert queries["vector"].to_pylist() == [[n, n % 24, n % 3, 1] for n in range(50, 80)]


def test_the_size_of_batches_changes_files_and_no_vectors(tmp_path, features, towers, monkeypatch):
    outs = []
    for rows in (1, 7, 1000):
        out = str(tmp_path / f"out{rows}")
        monkeypatch.setattr(batches, "BATCH_ROWS", rows)
        embed_stage.run(context(features, str(towers), out))
        outs.append([vectors(f"{out}/{name}").combine_chunks() for name in ("items", "queries")])
    assert outs[0] == outs[1] == outs[2]


def test_everything_in_an_object_store(tmp_path, features, towers, remote_place):
    storage.copy_tree(features, f"{remote_place}/features")
    storage.copy_tree(str(towers), f"{remote_place}/train")
    places = (f"{remote_place}/{name}" for name in ("features", "train", "out"))
    assert embed_stage.run(context(*places))["items"] == 45
    numbers = [*range(100, 137), *range(200, 208)]
    assert vectors(f"{remote_place}/out/items")["vector"].to_pylist() == expected_items(numbers)


@pytest.mark.system
def test_several_worker_processes_write_the_same_bytes(tmp_path, features, towers):
    digests = []
    options = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    for name, given in (("one", []), ("two", options)):
        embed_stage.run(context(features, str(towers), str(tmp_path / name), options=given))
        files = storage.list_files(str(tmp_path / name))
        digests.append([(file.path, storage.file_digest(file.uri)) for file in files])
    assert digests[0] == digests[1]


def test_the_sample_is_the_same_however_the_users_are_split(monkeypatch):
    table = users(range(1000), hours_ago=1)
    drawn = []
    for pieces in ([1000], [1, 999], [400, 300, 300], [100] * 10):
        sample = Sample(50)
        ends = np.cumsum(pieces)
        parts = [compact(table.slice(end - n, n)) for n, end in zip(pieces, ends, strict=True)]
        halves = [sample.create_accumulator(), sample.create_accumulator()]
        for number, rows in enumerate(parts):
            halves[number % 2] = sample.add_input(halves[number % 2], rows)
        drawn.append(sample.extract_output(sample.merge_accumulators(halves)))
    assert drawn[0].num_rows == 50
    assert all(other.equals(drawn[0]) for other in drawn)
    ids = drawn[0].column("_user").to_pylist()
    assert ids == sorted(ids)
    assert 300 < np.mean([int(i[1:]) for i in ids]) < 700, "not the first ones, nor the last"


def test_a_batch_takes_only_its_own_rows_along():
    import pickle

    whole = users(range(20_000), hours_ago=1)
    assert len(pickle.dumps(compact(whole.slice(5, 10)))) < 5_000


def test_an_item_twice_is_named(tmp_path, features, towers):
    write(f"{features}/corpus/end/part-2.parquet", corpus([205, 999]))
    with pytest.raises(BadData, match=r"more than once: i205\."):
        embed_stage.run(context(features, str(towers), str(tmp_path / "out")))


def test_a_vector_that_is_not_finite_is_named(tmp_path, features, towers):
    write(f"{features}/corpus/end/part-2.parquet", corpus([300, 301], week=float("inf")))
    with pytest.raises(BadData, match="item i300, i301"):
        embed_stage.run(context(features, str(towers), str(tmp_path / "out")))


def test_an_empty_corpus_is_reported(tmp_path, towers):
    home = str(tmp_path / "features")
    write(f"{home}/corpus/end/part-0.parquet", corpus([]))
    write(f"{home}/users/part-0.parquet", users([], hours_ago=1))
    with pytest.raises(BadData, match="corpus is empty"):
        embed_stage.run(context(home, str(towers), str(tmp_path / "out")))


def test_no_active_users_give_no_queries(tmp_path, features, towers):
    (Path(features) / "users" / "part-0.parquet").unlink()
    assert embed_stage.run(context(features, str(towers), str(tmp_path / "out")))["queries"] == 0


def test_the_tower_is_loaded_once_per_process(tmp_path, features, towers, monkeypatch):
    """A copy of the towers: this process may have those of the other tests by now."""
    shutil.copytree(towers, tmp_path / "towers")
    loads, load = [], embed_stage.load_tower
    monkeypatch.setattr(embed_stage, "load_tower", lambda uri: loads.append(uri) or load(uri))
    monkeypatch.setattr(batches, "BATCH_ROWS", 2)
    embed_stage.run(context(features, str(tmp_path / "towers"), str(tmp_path / "out")))
    assert sorted(loads) == [f"{tmp_path}/towers/{name}_tower" for name in ("item", "query")]
