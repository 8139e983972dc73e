"""The transform graph: raw feature columns -> what the towers read, as a TFT `preprocessing_fn`.

Every output has the name of its raw column. Ids are int64: 0 = missing or padding, then the vocabulary in TFT's order
(most frequent first, ties in reverse byte order), then the shared buckets of values outside it; a hashed feature has 0
and its buckets. Numbers are float32 around 0, and 0 when missing.

Missing is `""` in strings, NaN in floats and -1 in integers, so that scalars are plain dense tensors of one type in the
feature job, in training and in serving. What the graph knows of the data comes from the summary row (analysis.py), a
data set of one row that TFT's analysers read.
"""

import os
from collections.abc import Callable, Mapping
from typing import TypeAlias

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform.beam.experimental import PTransformAnalyzer

from beam_jobs.transform.analysis import moments_column, scaled_features, vocabulary_column, vocabulary_features
from twinspire.feature import Feature, TextFeature
from twinspire.pipeline import Pipeline

Tensor: TypeAlias = "tf.Tensor | tf.SparseTensor"
Inputs: TypeAlias = Mapping[str, Tensor]

HOURS, WEEKDAYS = 24, 7
NO_VALUE = b"\x1fempty"
"""The only line of an empty vocabulary: a table needs one. TFT does the same, with another value."""

_WORDS = r"[^\p{L}\p{N}]+"


def make_preprocessing_fn(p: Pipeline) -> Callable[[Inputs], dict[str, Tensor]]:
    """The function that TFT analyses and turns into a graph."""

    def preprocessing_fn(inputs: Inputs) -> dict[str, Tensor]:
        vocabularies = {name: _vocabulary(inputs, name) for name in vocabulary_features(p)}
        outputs: dict[str, Tensor] = {}
        for name, feature in p.features.items():
            outputs |= _feature(p, name, feature, inputs, vocabularies)
        return outputs

    return preprocessing_fn


def _feature(
    p: Pipeline, name: str, f: Feature, inputs: Inputs, vocabularies: Mapping[str, tf.Tensor]
) -> dict[str, Tensor]:
    if f.kind == "time":
        limits = {f"{name}_hour": HOURS, f"{name}_weekday": WEEKDAYS}
        return {column: tf.clip_by_value(inputs[column] + 1, 0, limit) for column, limit in limits.items()}
    x = inputs[name]
    if f.kind in ("number", "count", "age"):
        return {name: scaled(x, _moments(inputs, name), log=scaled_features(p)[name])}
    if f.kind == "vector":
        return {name: tf.where(tf.math.is_finite(x), x, tf.zeros_like(x))}
    if isinstance(f, TextFeature):
        return {name: _hashed(ngrams(x, f.ngrams), f.hash_buckets)}
    table = p.item_id if f.kind == "history" else name
    assert table is not None  # checked by the pipeline file
    buckets = getattr(p.features[table], "hash_buckets", None)
    if buckets:
        return {name: _hashed(x, buckets)}
    return {name: _looked_up(x, vocabularies[table], p.vocabulary.oov_buckets)}


class _WriteVocabulary(PTransformAnalyzer):
    """The vocabulary of the summary row -> the path of a file with one value per line."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def expand(self, rows: beam.PCollection) -> beam.PCollection:
        path = os.path.join(self.base_temp_dir, self._name)
        return rows | "Write" >> beam.Map(lambda row: _write_lines(path, row[0]))


def _write_lines(path: str, values: np.ndarray) -> np.ndarray:
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(b"".join(value + b"\n" for value in values.tolist() or [NO_VALUE]))
    return np.array(path)


class _Only(beam.PTransform):
    """The summary row's numbers."""

    def expand(self, rows: beam.PCollection) -> beam.PCollection:
        return rows | "Take" >> beam.Map(lambda row: row[0][0])


def _vocabulary(inputs: Inputs, name: str) -> tf.Tensor:
    """Analyser: the asset that holds the feature's vocabulary."""
    values = inputs[vocabulary_column(name)].values
    (file,) = tft.experimental.ptransform_analyzer(
        [values], _WriteVocabulary(name), [tf.string], [[]], [NO_VALUE], name=f"vocabulary_{name}"
    )
    return file


def _moments(inputs: Inputs, name: str) -> tf.Tensor:
    """Analyser: mean and standard deviation, [2] float64."""
    column = inputs[moments_column(name)]
    (moments,) = tft.experimental.ptransform_analyzer([column], _Only(), [tf.float64], [[2]], name=f"moments_{name}")
    return moments


def _looked_up(x: Tensor, vocabulary: tf.Tensor, oov_buckets: int) -> Tensor:
    rows = tft.apply_vocabulary(x, vocabulary, num_oov_buckets=oov_buckets)
    return _ids(x, rows)


def _hashed(x: Tensor, buckets: int) -> Tensor:
    rows = _values(x, lambda values: tf.strings.to_hash_bucket_fast(values, buckets))
    return _ids(x, rows)


def _ids(x: Tensor, rows: Tensor) -> Tensor:
    """Makes room for 0: missing."""
    present = _values(x, lambda values: tf.cast(tf.not_equal(values, ""), tf.int64))
    return _values(rows, lambda values: (values + 1) * _flat(present))


def scaled(x: tf.Tensor, moments: tf.Tensor, *, log: bool) -> tf.Tensor:
    """Scales to mean 0 and variance 1 over the analysed rows; missing becomes the mean.

    Args:
      x: [B] float32; NaN and infinities count as missing.
      moments: [2] float64, mean and standard deviation of what is scaled.
      log: take sign(x) log(1 + |x|) first.

    Returns: [B] float32.
    """
    known = tf.math.is_finite(x)
    x = tf.cast(x, tf.float64)
    x = tf.sign(x) * tf.math.log1p(tf.abs(x)) if log else x
    spread = tf.where(moments[1] > 0, moments[1], tf.ones_like(moments[1]))
    z = (x - moments[0]) / spread
    return tf.cast(tf.where(known, z, tf.zeros_like(z)), tf.float32)


def ngrams(text: tf.Tensor, longest: int) -> tf.SparseTensor:
    """Lower-cased runs of 1 to `longest` words of each text.

    Args:
      text: [B] string, UTF-8.
      longest: words in a run, at most.

    Returns: [B, L] string.
    """
    lower = tf.strings.lower(text, encoding="utf-8")
    words = tf.strings.split(tf.strings.regex_replace(lower, _WORDS, " ")).to_sparse()
    return tft.ngrams(words, (1, longest), " ")


def _values(x: Tensor, function: Callable[[tf.Tensor], tf.Tensor]) -> Tensor:
    """Applies an elementwise function to the values of a dense or a sparse tensor."""
    if isinstance(x, tf.SparseTensor):
        return tf.SparseTensor(x.indices, function(x.values), x.dense_shape)
    return function(x)


def _flat(x: Tensor) -> tf.Tensor:
    return x.values if isinstance(x, tf.SparseTensor) else x
