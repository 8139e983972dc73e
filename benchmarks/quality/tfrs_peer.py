"""A two-tower of TensorFlow Recommenders. Runs in its own environment, without this project.

    python -m benchmarks.quality.tfrs_peer FOLDER SETTINGS.json OUT.npz

FOLDER has the files of quality/arrays.py: transformed columns, so that both projects have the same inputs.
Without cases, it writes the cost and loss of each step.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # TensorFlow Recommenders needs Keras 2
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

LENGTH = 600
MINUTE = 60_000_000
MINUTES = 60
"""With `order = time`, rows are shuffled within this many minutes, as in this project."""


class Side(tf.keras.Model):
    """A tower: concatenated embeddings and numbers, layers, normalisation to length 1."""

    def __init__(self, parts, tables, layers, dimension):
        super().__init__()
        self._parts = parts
        self._tables = tables
        hidden = [tf.keras.layers.Dense(width, activation="relu") for width in layers]
        self._layers_above = tf.keras.Sequential([*hidden, tf.keras.layers.Dense(dimension)])

    def call(self, features):
        columns = [self._read(part, features[part["column"]]) for part in self._parts]
        return tf.math.l2_normalize(self._layers_above(tf.concat(columns, 1)), axis=1)

    def _read(self, part, column):
        if part["form"] == "number":
            return column[:, tf.newaxis]
        if part["form"] == "vector":
            return column
        rows = self._tables[part["table"]](column)
        if part["form"] == "id":
            return rows
        present = tf.cast(column > 0, rows.dtype)[:, :, tf.newaxis]
        return tf.math.divide_no_nan(tf.reduce_sum(rows * present, 1), tf.reduce_sum(present, 1))


class TwoTower(tfrs.Model):
    """Both towers, trained by TFRS's retrieval task, whose correction gets the true shares."""

    def __init__(self, layout, settings):
        super().__init__()
        tables = {
            name: tf.keras.layers.Embedding(*shape) for name, shape in layout["tables"].items()
        }
        self.query, self.item = (
            Side(layout["parts"][side], tables, settings["layers"], settings["dimension"])
            for side in ("query", "item")
        )
        self.task = tfrs.tasks.Retrieval(
            temperature=settings["temperature"], remove_accidental_hits=True
        )

    def compute_loss(self, inputs, training=False):
        return self.task(
            self.query(inputs),
            self.item(inputs),
            candidate_ids=inputs["_item"],
            candidate_sampling_probability=inputs["_share"],
            compute_metrics=not training,
            compute_batch_metrics=False,
        )


def orders(moments, settings, seed):
    """Row numbers of each epoch."""
    for epoch in range(settings["epochs"]):
        rng = np.random.default_rng([seed, epoch])
        if settings["order"] == "shuffled":
            yield rng.permutation(len(moments))
        else:
            yield np.lexsort((rng.random(len(moments)), moments // (MINUTES * MINUTE)))


def batches(rows, moments, settings, seed):
    size = settings["batch_size"]
    for order in orders(moments, settings, seed):
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            yield {name: column[chosen] for name, column in rows.items()}


def top(model, corpus, queries, chunk=2048):
    """[Q, 600] positions in the catalogue."""
    vectors = tf.concat([model.item(part) for part in parts_of(corpus, chunk)], 0)
    index = tfrs.layers.factorized_top_k.BruteForce(model.query, k=min(LENGTH, len(vectors)))
    index.index(vectors, tf.range(len(vectors)))
    return np.concatenate([index(part)[1].numpy() for part in parts_of(queries, chunk)])


def parts_of(columns, chunk):
    rows = len(next(iter(columns.values())))
    for start in range(0, rows, chunk):
        yield {name: tf.constant(column[start : start + chunk]) for name, column in columns.items()}


def main():
    folder = Path(sys.argv[1])
    settings = json.loads(Path(sys.argv[2]).read_text())
    out = Path(sys.argv[3])
    layout = json.loads((folder / "layout.json").read_text())
    rows = dict(np.load(folder / "train.npz"))
    if days := settings.get("days"):
        newest = rows["_time"] > rows["_time"].max() - days * 24 * 60 * MINUTE
        rows = {name: column[newest] for name, column in rows.items()}
    moments = rows.pop("_time")
    tf.keras.utils.set_random_seed(settings["seed"])
    model = TwoTower(layout, settings)
    adagrad = tf.keras.optimizers.Adagrad(settings["learning_rate"], **settings.get("adagrad", {}))
    model.compile(optimizer=adagrad, jit_compile=settings.get("xla", False))
    form = {
        name: tf.TensorSpec([None, *column.shape[1:]], column.dtype)
        for name, column in rows.items()
    }
    source = tf.data.Dataset.from_generator(
        lambda: batches(rows, moments, settings, settings["seed"]), output_signature=form
    )
    steps = []
    clock = tf.keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda _, logs: steps.append((time.process_time(), logs["loss"]))
    )
    model.fit(source.prefetch(4), verbose=0, callbacks=[clock])
    if not settings["cases"]:
        np.savez(out, steps=steps)
        return
    corpus = dict(np.load(folder / "corpus.npz"))
    ranked = {
        name: top(model, corpus, dict(np.load(folder / f"queries-{name}.npz")))
        for name in settings["cases"]
    }
    np.savez(out, **ranked)


if __name__ == "__main__":
    main()
