"""The transform graph: raw feature columns -> what the towers read, as a TFT `preprocessing_fn`.

Every output has the name of its raw column. Ids are int64: 0 = missing or padding, then the
vocabulary in TFT's order (most frequent first, ties in reverse byte order), then the shared buckets
of values outside it; a hashed feature has 0 and its buckets. Numbers are float32 around 0, and 0
when missing.

Missing is `""` in strings, NaN in floats and -1 in integers, so that scalars are plain dense
tensors of one type in the feature job, in training and in serving. All that the graph has to know of
the data is counted before it is made (analysis.py), so it has no TFT analyser.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft

from beam_jobs.transform.analysis import (
    features,
    moments_column,
    scaled_features,
    vocabulary_column,
)
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
NO_VALUE = b"\x1fempty"
"""The only line of an empty vocabulary: a table needs one. TFT does the same, with another
value.
"""


class Analysis(NamedTuple):
    """What was counted over the vocabulary window, by feature.

    Attributes:
      vocabularies: paths of local files, one value a line. The graph takes them along as its
        assets.
      moments: mean and standard deviation of what is scaled.
    """

    vocabularies: Mapping[str, str]
    moments: Mapping[str, tuple[float, float]]


def read_analysis(p: Pipeline, row: pa.RecordBatch, folder: Path) -> Analysis:
    """Reads the summary row, whose vocabularies become files of a folder."""
    vocabularies = {}
    for name in features(p):
        values = row[vocabulary_column(name)][0].values.cast(pa.binary()).to_pylist()
        file = folder / name
        file.write_bytes(b"".join([value + b"\n" for value in values or [NO_VALUE]]))
        vocabularies[name] = str(file)
    moments = {name: tuple(row[moments_column(name)][0].as_py()) for name in scaled_features(p)}
    return Analysis(vocabularies, moments)


def make_preprocessing_fn(p: Pipeline, analysis: Analysis) -> Callable[[Inputs], dict[str, Tensor]]:
    """The function that TFT turns into a graph."""

    def preprocessing_fn(inputs: Inputs) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = {}
        for name, feature in p.features.items():
            if isinstance(feature, TimeFeature):
                # Row 0 of the table is for a missing hour or weekday, which is -1.
                for column, values in feature.values(name).items():
                    outputs[column] = tf.clip_by_value(inputs[column] + 1, 0, values)
            else:
                outputs[name] = _column(p, name, feature, inputs[name], analysis)
        return outputs

    return preprocessing_fn


def _column(p: Pipeline, name: str, f: Feature, x: Tensor, analysis: Analysis) -> Tensor:
    match f:
        case NumberFeature() | CountFeature() | AgeFeature():
            return scaled(x, analysis.moments[name], log=f.log)
        case VectorFeature():
            return tf.where(tf.math.is_finite(x), x, tf.zeros_like(x))
        case TextFeature():
            words = _ngrams(x)
            rows = _values(words, lambda v: tf.strings.to_hash_bucket_fast(v, TEXT_BUCKETS))
            return _ids(words, rows)
        case HistoryFeature():
            assert p.item_id is not None  # the pipeline file was checked for it
            return _rows(p.item_id, x, analysis)
        case _:
            return _rows(name, x, analysis)


def _rows(table: str, x: Tensor, analysis: Analysis) -> Tensor:
    """Rows of values in the table of an id, a category or categories."""
    vocabulary = analysis.vocabularies[table]
    return _ids(x, tft.apply_vocabulary(x, vocabulary, num_oov_buckets=OOV_BUCKETS))


def _ids(x: Tensor, rows: Tensor) -> Tensor:
    """Row numbers from 1 on, which leaves 0 for missing values."""
    present = _values(x, lambda values: tf.cast(tf.not_equal(values, ""), tf.int64))
    flat = present.values if isinstance(present, tf.SparseTensor) else present
    return _values(rows, lambda values: (values + 1) * flat)


def _values(x: Tensor, function: Callable[[tf.Tensor], tf.Tensor]) -> Tensor:
    """Applies an elementwise function to the values of a dense or a sparse tensor."""
    if isinstance(x, tf.SparseTensor):
        return tf.SparseTensor(x.indices, function(x.values), x.dense_shape)
    return function(x)


def scaled(x: tf.Tensor, moments: tuple[float, float], *, log: bool) -> tf.Tensor:
    """Scales to mean 0 and variance 1 over the analysed rows; missing becomes the mean.

    Args:
      x: [B] float32; NaN and infinities count as missing.
      moments: mean and standard deviation of what is scaled.
      log: take sign(x) log(1 + |x|) first.

    Returns: [B] float32.
    """
    present = tf.math.is_finite(x)
    x = tf.cast(x, tf.float64)
    if log:
        x = tf.sign(x) * tf.math.log1p(tf.abs(x))
    mean, spread = moments
    # A number that is the same everywhere has no spread: it becomes 0.
    z = (x - mean) / (spread or 1.0)
    return tf.cast(tf.where(present, z, tf.zeros_like(z)), tf.float32)


def _ngrams(text: tf.Tensor) -> tf.SparseTensor:
    """[B, L] string: the lower-cased words and pairs of words of each text, [B] string of UTF-8."""
    lower = tf.strings.lower(text, encoding="utf-8")
    words = tf.strings.split(tf.strings.regex_replace(lower, _WORDS, " ")).to_sparse()
    return tft.ngrams(words, (1, 2), " ")
