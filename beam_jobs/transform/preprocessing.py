"""The transform graph: raw feature columns -> what the towers read, as a TFT `preprocessing_fn`.

Every output has the name of its raw column. Ids are int64: 0 = missing or padding, then the
vocabulary in TFT's order (most frequent first, ties in reverse byte order), then the shared buckets
of values outside it; a hashed feature has 0 and its buckets. Numbers are float32 around 0, and 0
when missing.

Missing is `""` in strings, NaN in floats and -1 in integers, so that scalars are plain dense
tensors of one type in the feature job, in training and in serving. What the graph knows of the data
was counted before it is made (analysis.py): no TFT analyser has anything to do.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import tensorflow as tf
import tensorflow_transform as tft

from twinspire_core.config.feature_kinds import (
    OOV_BUCKETS,
    TEXT_BUCKETS,
    AgeFeature,
    CountFeature,
    Feature,
    HistoryFeature,
    NumberFeature,
    TextFeature,
    TimeFeature,
    VectorFeature,
)
from twinspire_core.config.pipeline import Pipeline

Tensor: TypeAlias = "tf.Tensor | tf.SparseTensor"
Inputs: TypeAlias = Mapping[str, Tensor]

_WORDS = r"[^\p{L}\p{N}]+"


class Analysis(NamedTuple):
    """What the graph knows of the vocabulary window, by feature.

    Attributes:
      vocabularies: paths of local files, one value a line. The graph takes them along as its
        assets.
      moments: mean and standard deviation of what is scaled.
    """

    vocabularies: Mapping[str, str]
    moments: Mapping[str, tuple[float, float]]


def make_preprocessing_fn(p: Pipeline, analysis: Analysis) -> Callable[[Inputs], dict[str, Tensor]]:
    """The function that TFT turns into a graph."""

    def preprocessing_fn(inputs: Inputs) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = {}
        for name, feature in p.features.items():
            outputs |= _feature(p, name, feature, inputs, analysis)
        return outputs

    return preprocessing_fn


def _feature(
    p: Pipeline, name: str, f: Feature, inputs: Inputs, analysis: Analysis
) -> dict[str, Tensor]:
    if isinstance(f, TimeFeature):
        # Row 0 of the table is for a missing hour or weekday, which is -1.
        return {
            column: tf.clip_by_value(inputs[column] + 1, 0, values)
            for column, values in f.values(name).items()
        }
    return {name: _column(p, name, f, inputs[name], analysis)}


def _column(p: Pipeline, name: str, f: Feature, x: Tensor, analysis: Analysis) -> Tensor:
    match f:
        case NumberFeature() | CountFeature() | AgeFeature():
            return scaled(x, analysis.moments[name], log=f.log)
        case VectorFeature():
            return tf.where(tf.math.is_finite(x), x, tf.zeros_like(x))
        case TextFeature():
            return _hashed(ngrams(x), TEXT_BUCKETS)
        case HistoryFeature():
            assert p.item_id is not None  # the pipeline file was checked for it
            return _rows(p.item_id, x, analysis)
        case _:
            return _rows(name, x, analysis)


def _rows(table: str, x: Tensor, analysis: Analysis) -> Tensor:
    """Rows of values in the table of an id, a category or categories."""
    vocabulary = analysis.vocabularies[table]
    return _ids(x, tft.apply_vocabulary(x, vocabulary, num_oov_buckets=OOV_BUCKETS))


def _hashed(x: Tensor, buckets: int) -> Tensor:
    rows = _values(x, lambda values: tf.strings.to_hash_bucket_fast(values, buckets))
    return _ids(x, rows)


def _ids(x: Tensor, rows: Tensor) -> Tensor:
    """Row numbers from 1 on, which leaves 0 for missing values."""
    present = _values(x, lambda values: tf.cast(tf.not_equal(values, ""), tf.int64))
    return _values(rows, lambda values: (values + 1) * _flat(present))


def scaled(x: tf.Tensor, moments: tuple[float, float], *, log: bool) -> tf.Tensor:
    """Scales to mean 0 and variance 1 over the analysed rows; missing becomes the mean.

    Args:
      x: [B] float32; NaN and infinities count as missing.
      moments: mean and standard deviation of what is scaled.
      log: take sign(x) log(1 + |x|) first.

    Returns: [B] float32.
    """
    known = tf.math.is_finite(x)
    x = tf.cast(x, tf.float64)
    if log:
        x = tf.sign(x) * tf.math.log1p(tf.abs(x))
    mean, spread = moments
    # A number that is the same everywhere has no spread: it becomes 0.
    z = (x - mean) / (spread or 1.0)
    return tf.cast(tf.where(known, z, tf.zeros_like(z)), tf.float32)


def ngrams(text: tf.Tensor) -> tf.SparseTensor:
    """[B, L] string: the lower-cased words and pairs of words of each text, [B] string of UTF-8."""
    lower = tf.strings.lower(text, encoding="utf-8")
    words = tf.strings.split(tf.strings.regex_replace(lower, _WORDS, " ")).to_sparse()
    return tft.ngrams(words, (1, 2), " ")


def _values(x: Tensor, function: Callable[[tf.Tensor], tf.Tensor]) -> Tensor:
    """Applies an elementwise function to the values of a dense or a sparse tensor."""
    if isinstance(x, tf.SparseTensor):
        return tf.SparseTensor(x.indices, function(x.values), x.dense_shape)
    return function(x)


def _flat(x: Tensor) -> tf.Tensor:
    return x.values if isinstance(x, tf.SparseTensor) else x
