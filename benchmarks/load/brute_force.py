"""The same server with TensorFlow Recommenders' BruteForce layer in place of the index.

    python -m benchmarks.load.brute_force PIPELINE SITE_PACKAGES --port PORT

SITE_PACKAGES is of TensorFlow Recommenders' own environment (quality/environments.py), made for the
TensorFlow that is installed here; only what is missing here is taken from there.
"""

import os
import sys
from pathlib import Path
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # TensorFlow Recommenders needs Keras 2
for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(name, "1")  # as `twinspire serve` does

import numpy as np

from serving.app import serve
from serving.http.server_settings import Settings
from serving.http.service import Service
from serving.version.loaded_version import Version
from twinspire_core.blocked_imports import block_import
from twinspire_core.config.pipeline import load


def _import_tfrs() -> Any:
    """TFRS asks for ScaNN's TensorFlow operations, which were built for another TensorFlow: it does
    without them.
    """
    with block_import("scann"):
        import tensorflow_recommenders

        return tensorflow_recommenders


class BruteForceIndex:
    """TFRS's layer behind `twinspire_core.search.index.Index`."""

    def __init__(self, vectors: np.ndarray, settings: object) -> None:
        import tensorflow as tf

        tfrs = _import_tfrs()
        self.vectors = vectors
        self.settings = settings
        layer = tfrs.layers.factorized_top_k.BruteForce()
        layer.index(tf.constant(np.array(vectors)), tf.range(len(vectors)))
        self._call = tf.function(
            lambda queries, k: layer(queries, k=k),
            input_signature=[
                tf.TensorSpec([None, vectors.shape[1]], tf.float32),
                tf.TensorSpec([], tf.int32),
            ],
        )

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        import tensorflow as tf

        scores, rows = self._call(tf.constant(queries), tf.constant(min(k, len(self))))
        return rows.numpy(), scores.numpy()


def main() -> None:
    pipeline = load(Path(sys.argv[1]))
    packages = sys.argv[2]
    port = int(sys.argv[4])
    sys.path.append(packages)  # noqa: TID251 (of another environment)
    open_version = Service.open

    def opened(self: Service, version: str) -> Version:
        found = open_version(self, version)
        found.__dict__["index"] = BruteForceIndex(found.index.vectors, found.index.settings)
        return found

    Service.open = opened  # type: ignore[method-assign]
    serve(pipeline, Settings(poll=60), "127.0.0.1", port)


if __name__ == "__main__":
    main()
