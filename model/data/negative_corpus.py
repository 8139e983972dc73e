"""The items that uniform negatives are drawn from: a day's corpus, as the item tower reads it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from model.data.training_rows import concat_padded
from model.item_fingerprint import fingerprint
from model.towers.architecture import FeatureColumn
from model.towers.transform_module import Transform
from twinspire_core.contracts import model_bundle
from twinspire_core.storage import parquet_files

_ROWS_PER_CALL = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class NegativeCorpus:
    """C items that can be recommended.

    Attributes:
      features: transformed columns of the item tower by name, [C] or [C, L], as
        `model.data.training_rows.Rows` has them.
      item: [C] int64, fingerprints of the items' ids, each once.
    """

    features: Mapping[str, np.ndarray]
    item: np.ndarray

    def __len__(self) -> int:
        return len(self.item)

    def draw_probability(self, item: np.ndarray) -> np.ndarray:
        """The probability of each of some items, [M] int64, to be the one that is drawn: [M]
        float32, 0 outside the corpus.
        """
        return np.isin(item, self.item).astype(np.float32) / max(len(self), 1)

    def draw(self, n: int, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Draws n items with replacement, all equally likely; none from an empty corpus.

        Returns: their features by column, and their fingerprints, [n] int64.
        """
        # With replacement, so that the probability of each draw is 1 / C.
        drawn = rng.integers(0, len(self), n if len(self) else 0)
        return {name: column[drawn] for name, column in self.features.items()}, self.item[drawn]


def read(corpus: Path, transform: Transform, columns: Sequence[FeatureColumn]) -> NegativeCorpus:
    """Reads the folder `corpus/start/` and transforms it.

    Args:
      transform: the transform graph's part for the item tower.
      columns: transformed columns that the item tower reads.
    """
    table = parquet_files.read_folder(str(corpus))
    inputs = {name: model_bundle.input_of(spec) for name, spec in transform.inputs.items()}
    call = tf.function(lambda **raw: transform(raw), autograph=False)
    call = call.get_concrete_function(**transform.inputs)
    batches = list(model_bundle.batches(table, inputs, _ROWS_PER_CALL))
    if not batches:
        # Columns of an empty corpus still need a type and a shape.
        batches = [model_bundle.arrays(table, inputs)]
    transformed = [call(**batch) for batch in batches]
    features = {}
    for column in columns:
        arrays = [_as_trained(batch[column.name].numpy()) for batch in transformed]
        features[column.name] = concat_padded(arrays)
    return NegativeCorpus(features=features, item=fingerprint(table["_item"]))


def _as_trained(column: np.ndarray) -> np.ndarray:
    """In the types of training rows, in which ids are int32."""
    return column.astype(np.int32) if column.dtype == np.int64 else column
