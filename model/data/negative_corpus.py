"""The items that uniform negatives are drawn from: a day's catalogue, as the item tower reads
it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import tensorflow as tf

from model.data.training_rows import stacked
from model.item_fingerprint import fingerprint
from model.towers.architecture import FeatureColumn
from model.towers.transform_module import Transform
from twinspire_core.contracts import model_bundle

_ROWS = 8192
"""Rows transformed in one call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NegativeCorpus:
    """Items that can be recommended.

    Attributes:
      features: transformed columns of the item tower by name, as model/data/training_rows.py has
        them.
      item: [N] int64, fingerprints of the items' ids, each once.
    """

    features: Mapping[str, np.ndarray]
    item: np.ndarray

    def __len__(self) -> int:
        return len(self.item)

    def chance(self, item: np.ndarray) -> np.ndarray:
        """Chance of each of some items, [M] int64, to be the one drawn: [M] float32, 0 outside the
        catalogue.
        """
        return np.isin(item, self.item).astype(np.float32) / max(len(self), 1)

    def draw(self, n: int, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Draws n items, all equally likely, one may come twice; their features and fingerprints.
        None of no items.
        """
        drawn = rng.integers(0, len(self), n if len(self) else 0)
        return {name: column[drawn] for name, column in self.features.items()}, self.item[drawn]


def read(corpus: Path, transform: Transform, parts: Sequence[FeatureColumn]) -> NegativeCorpus:
    """Reads `corpus/start/` and transforms it.

    Args:
      corpus: its folder.
      transform: the transform graph's part for the item tower.
      parts: the columns of the item tower.
    """
    table = ds.dataset(corpus, format="parquet").to_table()
    inputs = {name: model_bundle.input_of(spec) for name, spec in transform.inputs.items()}
    call = tf.function(lambda **raw: transform(raw), autograph=False).get_concrete_function(
        **transform.inputs
    )
    batches = list(model_bundle.batches(table, inputs, _ROWS)) or [
        model_bundle.arrays(table, inputs)
    ]
    found = [call(**batch) for batch in batches]
    columns = {
        part.column: [_kept(batch[part.column].numpy()) for batch in found] for part in parts
    }
    return NegativeCorpus(
        features={name: stacked(arrays) for name, arrays in columns.items()},
        item=fingerprint(table["_item"]),
    )


def _kept(column: np.ndarray) -> np.ndarray:
    return column.astype(np.int32) if column.dtype == np.int64 else column
