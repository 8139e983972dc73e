"""The SavedModel for TensorFlow Serving, asked in a process that knows TensorFlow alone."""

import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from index_builder import publish_stage
from index_builder.registry.registry import Registry
from twinspire_core import storage
from twinspire_core.contracts import model_bundle
from twinspire_core.contracts.model_bundle import canonicalise
from twinspire_core.search.index import load_index
from twinspire_core.search.top_k import exact_search

IDS = [f"i{n:03d}" for n in range(200)]
VECTORS = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
WORDS = ["ann", "bob", "cid", "döner"]
ASK = """
import json, sys
import tensorflow as tf

model, asked = tf.saved_model.load(sys.argv[1]), json.loads(sys.stdin.read())
kinds = {name: spec.dtype for name, spec in model.signatures["recommend"].structured_input_signature[1].items()}
for one in asked:
    inputs = {name: tf.constant(value, kinds[name]) for name, value in one["inputs"].items()}
    found = model.signatures[one["signature"]](**inputs)
    print(json.dumps({name: (value.numpy().astype(str) if value.dtype == tf.string else value.numpy()).tolist()
                      for name, value in found.items()}))
strangers = {"tensorflow_transform", "tensorflow_text", "model", "serving", "twinspire"} & set(sys.modules)
assert not strangers, strangers
"""


class Query(tf.Module):
    """A tower with what real ones have: a table of a vocabulary, weights, a list that may be
    empty.
    """

    def __init__(self, vocabulary: Path, width: int = 5) -> None:
        super().__init__()
        whole, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
        lines = tf.lookup.TextFileInitializer(str(vocabulary), tf.string, whole, tf.int64, number)
        self.table = tf.lookup.StaticHashTable(lines, -1)
        self.rows = tf.Variable(np.random.default_rng(1).normal(size=(5, width)).astype(np.float32))

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, "user"),
            tf.TensorSpec([None, None], tf.string, "recent"),
        ]
    )
    def serve(self, user, recent):
        words = tf.concat([user[:, None], recent], 1)
        return {"vector": tf.reduce_mean(tf.gather(self.rows, self.table.lookup(words) + 1), 1)}


def save_tower(home: Path, width: int = 5) -> None:
    """Writes `home`/query_tower/."""
    home.mkdir()
    (home / "words").write_text("\n".join(WORDS) + "\n")
    tower = Query(home / "words", width)
    tf.saved_model.save(
        tower, str(home / "query_tower"), signatures={"serving_default": tower.serve}
    )
    canonicalise(home / "query_tower")


def made(home: Path) -> Path:
    """Writes a tower, and the model around it: its folder."""
    save_tower(home)
    tower = tf.saved_model.load(str(home / "query_tower"))
    model_bundle.write_for_tensorflow_serving(
        home / "tensorflow_serving", tower, pa.array(IDS), VECTORS
    )
    return home / "tensorflow_serving"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return made(tmp_path_factory.mktemp("model") / "one")


def ask(folder: Path, *asked: dict) -> list[dict]:
    """The answers of the numbered model in a separate process."""
    command = [sys.executable, "-c", ASK, str(folder / "1")]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_it_answers_as_the_index_does_with_exact_search(model):
    raw = {"user": ["ann", "nobody", "döner"], "recent": [["bob", "ann"], ["", ""], ["cid", ""]]}
    heads = [IDS[n] for n in range(0, 200, 2)]
    asks = [
        {"signature": "encode", "inputs": raw},
        {"signature": "recommend", "inputs": {**raw, "k": 10, "exclude": [[""]] * 3}},
        {
            "signature": "recommend",
            "inputs": {**raw, "k": [3, 25, 7], "exclude": [heads, [""] * 100, heads]},
        },
        {"signature": "recommend", "inputs": {**raw, "k": 500, "exclude": [heads]}},
        {"signature": "recommend", "inputs": {**raw, "k": 0, "exclude": [[""]]}},
    ]
    encoded, plain, without, everything, nothing = ask(model, *asks)
    query = np.array(encoded["vector"], np.float32)
    rows, scores = exact_search(VECTORS, query, 200)
    assert plain["items"] == [[IDS[row] for row in one[:10]] for one in rows]
    np.testing.assert_allclose(plain["scores"], scores[:, :10], rtol=1e-5)
    odd = [[IDS[row] for row in one if row % 2] for one in rows]
    assert without["items"] == [odd[0][:25], [IDS[row] for row in rows[1, :25]], odd[2][:25]]
    assert everything["items"] == [one + [""] * 100 for one in odd]
    assert np.array(everything["scores"])[:, 100:].tolist() == [[-2.0] * 100] * 3
    assert nothing["items"] == [[], [], []]


def test_the_export_is_published_next_to_the_index(context, pipeline, tmp_path):
    save_tower(tmp_path / "tower", width=4)
    serving = pipeline.serving.model_copy(update={"tensorflow": True})
    day = context(date(2024, 5, 20), pipeline=pipeline.model_copy(update={"serving": serving}))
    storage.upload_tree(tmp_path / "tower" / "query_tower", f"{day.inputs['train']}/query_tower")
    version = publish_stage.run(day)["version"]
    home = Registry(pipeline.registry.root, pipeline.name).open(version)
    model = tf.saved_model.load(str(home / "tensorflow_serving" / "1"))
    raw = {"user": tf.constant(["ann", "bob"]), "recent": tf.constant([["cid"], [""]])}
    answer = model.signatures["recommend"](k=tf.constant(5), exclude=tf.constant([[""]]), **raw)
    vectors = model.signatures["encode"](**raw)["vector"].numpy()
    rows, _ = load_index(home / "index").search(vectors, 5)
    ids = pq.read_table(home / "items.parquet")["_item"].to_pylist()
    assert answer["items"].numpy().astype(str).tolist() == [
        [ids[row] for row in one] for one in rows
    ]
