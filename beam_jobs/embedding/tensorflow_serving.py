"""A version as one SavedModel for TensorFlow Serving: query tower, items' vectors, exact search.
Loads TensorFlow late.

Stock operations only, so that a server with nothing of this project's can load it. Signatures, of
columns named like the raw query features (twinspire_core/contracts/model_bundle.py says in which
form):

    encode      raw query features -> {"vector": [B, D] float32}
    recommend   raw query features, k, exclude -> {"items": [B, K] string, "scores": [B, K] float32}

    k        int32, one number, or one per row of which the largest counts; K is at most the number
             of items
    exclude  [B, L] or [1, L] string, ids that must not come back, padded with ""
    items    best first; "" behind the end of a list that `exclude` leaves too short, its score
             `END`
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from twinspire_core.contracts.model_bundle import SIGNATURE, VECTOR, canonicalise

FOLDER = "tensorflow_serving"
NUMBER = "1"  # TensorFlow Serving loads the subfolder of the highest number
ENCODE = "encode"
RECOMMEND = "recommend"
END = -2.0
"""A score below every cosine."""


def write(folder: Path, query_tower: Any, ids: pa.Array, vectors: np.ndarray) -> None:
    """Writes `folder`/1/. Equal arguments give equal files.

    Args:
      folder: a local folder that does not exist yet.
      query_tower: a SavedModel (twinspire_core/contracts/model_bundle.py) as TensorFlow loads it.
      ids: [N] string, the corpus.
      vectors: [N, D] float32, in the order of the ids.
    """
    import tensorflow as tf

    served = tf.Module()
    served.tower = query_tower  # owns tables and weights
    served.encode = query_tower.signatures[SIGNATURE]
    served.vectors = tf.Variable(vectors, trainable=False)
    served.ids = tf.Variable(ids.cast(pa.binary()).to_pylist(), trainable=False, dtype=tf.string)

    def recommend(k: Any, exclude: Any, **raw: Any) -> dict[str, Any]:
        """The k nearest items of each row, without the excluded ones."""
        items = tf.shape(served.vectors)[0]
        k = tf.clip_by_value(tf.reduce_max(k), 0, items)
        scores = tf.matmul(served.encode(**raw)[VECTOR], served.vectors, transpose_b=True)
        # What is excluded cannot use up more than its own number of places.
        near = tf.math.top_k(scores, tf.minimum(k + tf.shape(exclude)[1], items))
        ids = tf.gather(served.ids, near.indices)
        out = tf.reduce_any(ids[:, :, tf.newaxis] == exclude[:, tf.newaxis, :], 2)
        best = tf.math.top_k(tf.where(out, near.values.dtype.min, near.values), k)
        ids = tf.gather(tf.where(out, "", ids), best.indices, batch_dims=1)
        return {"items": ids, "scores": tf.where(ids == "", END, best.values)}

    raw = dict(served.encode.structured_input_signature[1])
    encode = tf.function(lambda **raw: {VECTOR: served.encode(**raw)[VECTOR]}, autograph=False)
    options = {
        "k": tf.TensorSpec(None, tf.int32, "k"),
        "exclude": tf.TensorSpec([None, None], tf.string, "exclude"),
    }
    signatures = {
        ENCODE: encode.get_concrete_function(**raw),
        RECOMMEND: tf.function(recommend, autograph=False).get_concrete_function(**options, **raw),
    }
    tf.saved_model.save(served, str(folder / NUMBER), signatures)
    canonicalise(folder / NUMBER)
